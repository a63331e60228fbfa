"""The doctor: what is green on a bucket that works, and which light goes red where something is missing."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import UsageError
from asyncfetch.settings import NetworkPolicy
from asyncfetch.testing import Credentials, FaultServer, RawRequest, ScriptedServer, answer
from asyncfetch.testing.shelf import Shelf as Objects
from asyncfetch.toolbox import Diagnosis, Light, diagnose
from tests.origins.scripts import KEY_ID, SECRET, head_of, refusing
from tests.origins.shelf import Shelf
from tests.servers import needs

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer
    from tests.servers import Server

LISTING = (
    b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key><Size>4</Size>"
    b"<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag></Contents></ListBucketResult>"
)


EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
IMPATIENT = NetworkPolicy(attempts=1, patience=0)


def states(found: Diagnosis) -> dict[str, str]:
    return {light.name: light.state for light in found.lights}


def light(found: Diagnosis, name: str) -> Light:
    return next(light for light in found.lights if light.name == name)


async def examined(endpoint_url: str, prefix: Any, cache_dir: Path, write: bool = False, **access: Any) -> Diagnosis:
    async with Fetcher(cache_dir=cache_dir, endpoint_url=endpoint_url, **access) as fetcher:
        return await diagnose(fetcher, prefix, write=write)


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@needs()
async def test_a_bucket_that_works(server: Server, cache_dir: Path) -> None:
    shelf = Shelf(server)
    for number in range(3):
        shelf.client.put_object(Bucket=shelf.name, Key=f"p/{number}", Body=b"x" * 1000)
    seen: list[Light] = []
    async with Fetcher(cache_dir=cache_dir, endpoint_url=server.endpoint_url, region="us-east-1") as fetcher:
        found = await diagnose(fetcher, str(shelf.at("p/")), write=True, seen=seen.append)
    assert seen == list(found.lights)
    wanted = {"credentials", "endpoint", "clock", "list", "read", "head", "speed", "write"}
    assert {name for name, state in states(found).items() if state == "green"} >= wanted
    assert light(found, "credentials").value == {"from": "env", "expires": None}
    assert states(found)["identity"] == "unknown"  # nobody is told of AWS's STS
    assert "asyncfetch-probe" not in "".join(shelf.keys())
    assert light(found, "write").value == {"conditional": "rclone" not in server.credentials.access_key_id}


@needs("if_match")
async def test_what_an_administrator_may_ask(server: Server, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(server)
    shelf.client.put_object(Bucket=shelf.name, Key="p/a", Body=b"body")
    shelf.client.put_bucket_versioning(Bucket=shelf.name, VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.endpoint_url)
    found = await examined(server.endpoint_url, str(shelf.at("p/")), cache_dir)
    assert found.healthy
    assert light(found, "versioning").value == "Enabled"
    assert found.account == "123456789012"
    assert light(found, "ranges and conditions").state == "green"


@needs("if_match")
async def test_an_empty_prefix(server: Server, cache_dir: Path) -> None:
    shelf = Shelf(server)
    found = await examined(server.endpoint_url, str(shelf.at("none/")), cache_dir)
    assert (states(found)["list"], states(found)["read"]) == ("green", "unknown")
    assert not found.healthy, "reading is asked for, and was not tried"
    assert "--write" in light(found, "read").remedy
    found = await examined(server.endpoint_url, str(shelf.at("none/")), cache_dir, write=True)
    told = states(found)
    assert {told[name] for name in ("list", "read", "head", "ranges and conditions", "write")} == {"green"}
    assert found.healthy
    assert shelf.keys() == []


@needs()
async def test_no_such_bucket(server: Server, cache_dir: Path) -> None:
    found = await examined(server.endpoint_url, "s3://no-such-bucket-there/p/", cache_dir, write=True)
    assert not found.healthy
    assert (states(found)["list"], states(found)["write"]) == ("red", "red")
    assert "there is no such bucket" in light(found, "list").detail


async def test_no_credentials(cache_dir: Path) -> None:
    async with ScriptedServer(lambda request: refusing("AccessDenied", status="403 Forbidden")) as server:
        found = await examined(server.url, "s3://bucket/p/", cache_dir, region="us-east-1")
    assert states(found)["credentials"] == "red"
    assert "AWS_PROFILE" in light(found, "credentials").remedy
    assert states(found)["endpoint"] == "green"


async def test_nobody_at_the_endpoint(cache_dir: Path, signed: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    found = await examined(
        f"http://127.0.0.1:{port}", "s3://bucket/p/", cache_dir, region="us-east-1", network=IMPATIENT
    )
    assert states(found)["endpoint"] == "red"
    assert f"127.0.0.1:{port}" in light(found, "endpoint").detail


async def test_permissions_that_are_missing_are_named(cache_dir: Path, signed: None) -> None:
    """A reader who may list and read, and nothing else."""

    def answers(request: RawRequest) -> Answer:
        if request.method == "GET" and request.target.startswith("/bucket?"):
            if "list-type" in request.target:
                return answer(LISTING)
        elif request.method == "GET":
            head = ['ETag: "0123456789abcdef0123456789abcdef"']
            if request.header("if-none-match"):
                return answer(status="304 Not Modified", headers=head).replace(b"Content-Length: 0\r\n", b"")
            if (request.header("range") or "").startswith("bytes=0-0"):
                return answer(b"b", status="206 Partial Content", headers=[*head, "Content-Range: bytes 0-0/4"])
            return answer(b"body", headers=head)
        denied = refusing("AccessDenied", status="403 Forbidden")
        return denied.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.method == "HEAD" else denied

    async with ScriptedServer(answers) as server:
        found = await examined(server.url, "s3://bucket/p/", cache_dir, region="us-east-1", write=True)
    told = states(found)
    assert [name for name, state in told.items() if state == "red"] == ["head", "write"]
    assert "s3:PutObject on arn:aws:s3:::bucket/p/" in light(found, "write").detail
    assert told["versioning"] == "unknown"
    assert "s3:GetBucketVersioning" in light(found, "versioning").detail


@pytest.mark.parametrize(
    ("ranges", "conditions", "missing"),
    [(False, True, "ranges"), (True, False, "If-None-Match"), (False, False, "ranges and If-None-Match")],
)
async def test_a_server_that_ignores_ranges_or_conditions(
    cache_dir: Path, signed: None, ranges: bool, conditions: bool, missing: str
) -> None:
    """It answers with the whole object, as RFC 9110 lets it; what is read is right all the same."""
    shelf = Objects({"p/a": b"some body"}, bucket="bucket", checksum=None)
    ignored = {name for name, known in (("range", ranges), ("if-none-match", conditions)) if not known}

    def answers(request: RawRequest) -> bytes:
        lines = [line.partition(":") for line in request.head.decode("latin-1").split("\r\n")[1:-2]]
        headers = {name.lower(): value.strip() for name, _, value in lines if name.lower() not in ignored}
        reply = shelf.reply(request.method, request.target, headers)
        told = [f"{name}: {value}" for name, value in reply.headers]
        head = "\r\n".join([f"HTTP/1.1 {reply.status} -", f"Content-Length: {reply.length}", *told, "\r\n"])
        return head.encode() + reply.body

    async with ScriptedServer(answers) as server:
        found = await examined(server.url, "s3://bucket/p/", cache_dir, region="us-east-1")
    told = light(found, "ranges and conditions")
    assert (told.state, told.detail) == ("red", f"not honoured: {missing}")
    assert told.value == {"ranges": ranges, "conditions": conditions}
    assert "proxies" in told.remedy
    assert {name for name, state in states(found).items() if state == "red"} <= {told.name, "clock"}
    assert not found.healthy


@pytest.mark.parametrize(("ahead", "state"), [(timedelta(minutes=20), "red"), (timedelta(0), "green")])
async def test_a_clock_that_is_off(cache_dir: Path, signed: None, ahead: timedelta, state: str) -> None:
    def answers(request: RawRequest) -> Answer:
        date = format_datetime(datetime.now(UTC) - ahead, usegmt=True)
        return answer(status="403 Forbidden", headers=[f"Date: {date}", "x-amz-bucket-region: eu-west-1"])

    async with ScriptedServer(answers) as server:
        found = await examined(server.url, "s3://bucket/p/", cache_dir, region="us-east-1")
    assert states(found)["clock"] == state
    assert found.region == "eu-west-1"
    assert "--region" in light(found, "endpoint").remedy


async def test_a_probe_is_removed_where_the_examination_is_cancelled(cache_dir: Path, signed: None) -> None:
    put = asyncio.Event()

    def answers(request: RawRequest) -> Answer:
        if request.method == "PUT":
            put.set()
            return []  # never
        return answer(status="204 No Content") if request.method == "DELETE" else answer(EMPTY)

    async with ScriptedServer(answers) as server:
        async with Fetcher(cache_dir=cache_dir, endpoint_url=server.url, region="us-east-1") as fetcher:
            examining = asyncio.create_task(diagnose(fetcher, "s3://bucket/p/", write=True))
            await put.wait()
            examining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await examining
        written = [request.target for request in server.requests if request.method == "PUT"]
        assert [request.target for request in server.requests if request.method == "DELETE"] == written


@pytest.mark.parametrize("prefix", ["/a/directory", "https://host/", "s3://bucket/k?versionId=1"])
async def test_what_is_no_prefix(prefix: str, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(UsageError, match="no prefix of S3"):
            await diagnose(fetcher, prefix)


async def test_where_listing_is_denied_an_object_can_be_named(signed: None, cache_dir: Path) -> None:
    def reply(request: RawRequest) -> Answer:
        if "list-type" in request.target:
            return refusing("AccessDenied", status="403 Forbidden")
        if request.target.startswith("/bucket/p/a.jpg"):
            whole = answer(b"body", headers=['ETag: "0123456789abcdef0123456789abcdef"'])
            return head_of(whole) if request.method == "HEAD" else whole
        return refusing("AccessDenied", status="403 Forbidden")

    async with ScriptedServer(reply) as server:
        under = await examined(server.url, "s3://bucket/p/", cache_dir, network=IMPATIENT, region="us-east-1")
        named = await examined(server.url, "s3://bucket/p/a.jpg", cache_dir, network=IMPATIENT, region="us-east-1")
    assert states(under)["list"] == "red"
    assert states(under)["read"] == "unknown"
    assert "s3://bucket/key" in light(under, "read").remedy
    assert (states(named)["list"], states(named)["read"], states(named)["head"]) == ("red", "green", "green")


async def test_the_clock_is_blamed_for_a_refusal_without_a_reason(signed: None, tmp_path: Path) -> None:
    keys = Credentials(KEY_ID, SECRET)
    with FaultServer({"p/a": b"body"}, credentials=keys, clock=2000.0) as server:
        found = await examined(
            server.endpoint_url, server.uri("p/"), tmp_path / "cache", network=IMPATIENT, region="us-east-1"
        )
    assert states(found)["clock"] == "red"
    head = light(found, "head")
    assert head.state == "red"
    assert "clock" in head.detail
    assert "GetObject" not in head.detail
