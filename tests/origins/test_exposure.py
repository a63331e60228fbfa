"""Who gets to see what proves an identity: the endpoint that was chosen, and nobody else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import AsyncfetchError, OriginError
from asyncfetch.origins import open_origins
from asyncfetch.origins.control import Control
from asyncfetch.origins.endpoints import exposed_host
from asyncfetch.origins.signing import Target
from asyncfetch.settings import Access, NetworkPolicy, Settings
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from asyncfetch.uris import Location, s3
from tests.origins.scripts import OBJECT, refusing
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.origins import Origin

KINDS = ["native", "boto"]


def open_s3(kind: str, url: str, *, anonymous: bool = False) -> Origin:
    access = Access(
        endpoint_url=url, region="us-east-1", anonymous=anonymous, origin="boto" if kind == "boto" else "native"
    )
    return open_origins(Settings(access=access, network=NetworkPolicy(connect_timeout=1.0)))["s3"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"])
@pytest.mark.usefixtures("signed")
async def test_a_redirect_to_another_host_is_not_followed(kind: str, status: str) -> None:
    async with ScriptedServer(lambda _: answer(b"stolen")) as other:
        host = f"localhost:{other.port}"
        document = f"<Error><Code>TemporaryRedirect</Code><Endpoint>{host}</Endpoint><Bucket>bucket</Bucket></Error>"
        moved = answer(document.encode(), status=status, headers=[f"Location: http://{host}/bucket/key"])
        async with ScriptedServer(lambda _: moved) as server:
            origin = open_s3(kind, server.url)
            for call in (origin.read(OBJECT, Collector()), origin.stat(OBJECT), anext(aiter(origin.list(OBJECT)))):
                with pytest.raises(OriginError):
                    await call
            await origin.aclose()
        assert (other.connections, other.requests) == (0, [])


@pytest.mark.parametrize("region", ["127.0.0.1:1/", "x.evil.example", "a b", "us-east-1@evil", "%0d%0a"])
@pytest.mark.usefixtures("signed")
async def test_a_region_that_a_server_names_cannot_become_a_host(region: str) -> None:
    elsewhere = refusing("PermanentRedirect", status="301 Moved", headers=[f"x-amz-bucket-region: {region}"])
    async with ScriptedServer(lambda _: elsewhere) as server:
        origin = open_s3("native", server.url)
        with pytest.raises(OriginError):
            await origin.read(OBJECT, Collector())
        await origin.aclose()
        assert {request.header("host") for request in server.requests} == {f"127.0.0.1:{server.port}"}


SMUGGLED = [
    "a\r\nx-evil: 1\r\n\r\n",
    "a HTTP/1.1\r\nHost: evil\r\n\r\nGET /b",
    "\n\n",
    "a\0b",
    "a\x7fb",
    "a\u2028b",
    "a\x85b",
    "?x=1\r\nx-evil: 1",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", SMUGGLED)
@pytest.mark.usefixtures("signed")
async def test_no_key_and_no_prefix_can_add_a_line_to_a_request(kind: str, key: str) -> None:
    async with ScriptedServer(lambda _: answer(b"x")) as server:
        origin = open_s3(kind, server.url)
        for call in (
            origin.read(s3("bucket", key), Collector()),
            origin.stat(s3("bucket", key)),
            anext(aiter(origin.list(s3("bucket", key), start_after=key))),
            origin.read(Location("s3", "bucket", "k", "v\r\nx-evil: 1"), Collector()),
        ):
            try:
                await call
            except (AsyncfetchError, StopAsyncIteration):
                continue
        await origin.aclose()
        assert server.requests
        for request in server.requests:
            assert_one_request(request)


def assert_one_request(request: RawRequest) -> None:
    first, *lines = request.head.split(b"\r\n")[:-2]
    assert first.count(b" ") == 2
    assert first.startswith((b"GET /bucket", b"HEAD /bucket"))
    names = [line.partition(b":")[0].lower() for line in lines]
    assert b"x-evil" not in names
    assert names.count(b"host") == 1
    assert all(0x20 < byte < 0x7F for byte in first.replace(b" ", b""))


WRITTEN: list[dict[str, Any]] = [
    {"metadata": {"a": "b\r\nx-evil: 1"}},
    {"metadata": {"a\r\nx-evil": "1"}},
    {"metadata": {"a: 1\nx-evil": "1"}},
    {"content_type": "image/jpeg\r\nx-evil: 1"},
    {"if_match": 'a"\r\nx-evil: 1'},
    {"extra_args": {"CacheControl": "a\nx-evil: 1"}},
    {"extra_args": {"Tagging": "a=b\r\nx-evil: 1"}},
]


@pytest.mark.usefixtures("signed")
async def test_nothing_that_is_said_of_an_object_can_add_a_line_to_its_write() -> None:
    async with ScriptedServer(lambda _: answer(headers=['ETag: "e"'])) as server:
        access = Access(endpoint_url=server.url, region="us-east-1")
        async with Control(Settings(access=access)) as control:
            for said in WRITTEN:
                with pytest.raises(AsyncfetchError):
                    await control.put(OBJECT, b"x", **said)
            assert server.requests == []
            for key in SMUGGLED:
                await control.put(s3("bucket", key), b"x")
        assert len(server.requests) == len(SMUGGLED)
        for request in server.requests:
            assert b"x-evil" not in request.head.lower().replace(b"%0d%0ax-evil", b"")


@pytest.mark.parametrize("code", ["TemporaryRedirect", "PermanentRedirect"])
@pytest.mark.usefixtures("signed")
async def test_a_write_that_is_sent_to_another_host_does_not_go_there(code: str) -> None:
    async with ScriptedServer(lambda _: answer(b"stolen")) as other:
        host = f"localhost:{other.port}"
        document = f"<Error><Code>{code}</Code><Endpoint>{host}</Endpoint><Bucket>bucket</Bucket></Error>"
        moved = answer(
            document.encode(), status="307 Temporary Redirect", headers=[f"Location: http://{host}/bucket/k"]
        )
        async with ScriptedServer(lambda _: moved) as server:
            access = Access(endpoint_url=server.url, region="us-east-1")
            async with Control(Settings(access=access, network=NetworkPolicy(attempts=1))) as control:
                for call in (control.put(OBJECT, b"small"), control.delete(OBJECT)):
                    with pytest.raises(OriginError):
                        await call
        assert (other.connections, other.requests) == (0, [])


@pytest.mark.parametrize("etag", ['a"\r\nx-evil: 1', "a\nb", "a\0b", "ü"])
@pytest.mark.usefixtures("signed")
async def test_no_etag_that_a_server_gave_can_add_a_line_to_the_next_request(etag: str) -> None:
    async with ScriptedServer(lambda _: answer(b"x")) as server:
        origin = open_s3("native", server.url)
        with pytest.raises(AsyncfetchError):
            await origin.read(OBJECT, Collector(), if_match=etag)
        with pytest.raises(AsyncfetchError):
            await origin.read(OBJECT, Collector(), if_none_match=etag)
        await origin.aclose()
        assert server.requests == []


# Plain HTTP.


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (None, None),
        ("https://storage.example.com", None),
        ("http://storage.example.com:9000", "storage.example.com"),
        ("http://10.1.2.3", "10.1.2.3"),
        ("http://[2001:db8::1]:9000", "2001:db8::1"),
        ("http://127.0.0.1:9000", None),
        ("http://127.8.8.8", None),
        ("http://[::1]:9000", None),
        ("http://localhost:9000", None),
        ("http://s3.localhost", None),
        ("http://localhost.example.com", "localhost.example.com"),
        ("http://127.0.0.1.example.com", "127.0.0.1.example.com"),
    ],
)
def test_whom_requests_are_exposed_to(url: str | None, host: str | None) -> None:
    assert exposed_host(url) == host


@given(st.text(max_size=30))
def test_no_text_makes_the_look_at_an_endpoint_fail(text: str) -> None:
    try:
        url = Access(endpoint_url=f"http://x{text}").endpoint_url
    except AsyncfetchError:
        return
    try:
        exposed_host(url)
    except ValueError:  # what urlsplit cannot read no request can be written for
        with pytest.raises(AsyncfetchError):
            Target.from_url(str(url), region="us-east-1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("signed")
async def test_credentials_over_plain_http_are_warned_of_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    for bucket in ("one", "two"):
        origin = open_s3(kind, f"http://{kind}.invalid:9000")
        for key in ("a", "b"):
            with pytest.raises(OriginError):
                await origin.stat(s3(bucket, key))
        await origin.aclose()
    assert_warned(caplog, f"http://{kind}.invalid")


def assert_warned(caplog: pytest.LogCaptureFixture, url: str) -> None:
    told = [record for record in caplog.records if "not encrypted" in record.getMessage()]
    assert [(record.levelno, record.name.partition(".")[0]) for record in told] == [(logging.WARNING, "asyncfetch")]
    assert url in told[0].getMessage()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_endpoint_of_a_profile_is_warned_of_too(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = "aws_access_key_id = AKID\naws_secret_access_key = hush"
    config = tmp_path / "config"
    config.write_text(f"[profile mine]\nendpoint_url = http://{kind}.profile.invalid\nregion = us-east-1\n{keys}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    access = Access(profile="mine", origin="boto" if kind == "boto" else "native")
    origin = open_origins(Settings(access=access))["s3"]
    with pytest.raises(OriginError):
        await origin.stat(OBJECT)
    await origin.aclose()
    assert_warned(caplog, f"http://{kind}.profile.invalid")


@pytest.mark.usefixtures("signed")
async def test_writes_over_plain_http_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    access = Access(endpoint_url="http://writes.invalid:9000", region="us-east-1")
    for _ in range(2):
        async with Control(Settings(access=access, network=NetworkPolicy(attempts=1))) as control:
            with pytest.raises(OriginError):
                await control.put(OBJECT, b"x")
    assert_warned(caplog, "http://writes.invalid")


@pytest.mark.usefixtures("signed")
async def test_what_nobody_else_can_see_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer(lambda _: answer(b"x")) as server:
        loopback = open_s3("native", server.url)
        await loopback.read(OBJECT, Collector())
        await loopback.aclose()
    unsigned = open_s3("native", "http://nobody.invalid:9000", anonymous=True)
    with pytest.raises(OriginError):
        await unsigned.stat(OBJECT)
    await unsigned.aclose()
    assert [record for record in caplog.records if "not encrypted" in record.getMessage()] == []


def test_verification_of_certificates_is_not_to_be_turned_off_by_settings() -> None:
    """If it ever is: `client_context(verify=False)` says so in the log each time, as the tests of TLS see."""
    names = {name for kind in (Access, NetworkPolicy, Settings) for name in kind.__dataclass_fields__}
    assert not {name for name in names if "verify" in name or "insecure" in name}
