"""The native S3 origin: who serves a bucket, and how many meet it at once."""

from __future__ import annotations

import asyncio
import gc
import re
from typing import TYPE_CHECKING

import pytest

from asyncfetch.errors import (
    EndpointUnreachable,
    FetcherClosed,
    NoCredentials,
    OriginError,
    UsageError,
)
from asyncfetch.objects import ObjectStat
from asyncfetch.origins import buckets
from asyncfetch.settings import Access, NetworkPolicy, Settings
from asyncfetch.testing import ScriptedServer, answer
from asyncfetch.uris import s3
from tests.leaks import census
from tests.origins.identity import Helper, lay_home
from tests.origins.scripts import OBJECT, listed, read
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.origins.boto import BotoOrigin
    from asyncfetch.origins.s3 import S3Origin

BODY = b"0123456789"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """A credential_process, chosen by the profile `helper`."""
    return Helper(lay_home(tmp_path, monkeypatch))


# Who serves a bucket.


@pytest.mark.usefixtures("signed")
async def test_behind_a_proxy_the_reference_serves_and_says_so_once(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(lambda request: answer(BODY)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://user:hush@"))
        origin = native("http://storage.example")
        assert await read(origin) == BODY
        sink = Collector()
        await origin.read(s3("other", "key"), sink)
        assert [request.target for request in proxy.requests] == [
            "http://storage.example/bucket/key",
            "http://storage.example/other/key",
        ]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("asyncfetch")]
    ours = [said for said in ours if "not encrypted" not in said]
    assert len(ours) == 1
    assert re.search(r"aioboto3.*HTTP_PROXY is set", ours[0])
    assert "hush" not in caplog.text


@pytest.mark.usefixtures("signed")
async def test_a_host_that_needs_no_proxy_is_reached_directly(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer([answer(BODY)]) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{server.port}")
        assert await read(native(server.url)) == BODY
        assert server.requests[0].target == "/bucket/key"
        assert caplog.records == []


@pytest.mark.usefixtures("signed")
async def test_a_directory_bucket_is_read_with_a_session_of_its_own(native: Callable[..., S3Origin]) -> None:
    session = answer(
        b"<CreateSessionResult><Credentials><SessionToken>of-the-session</SessionToken><SecretAccessKey>hush"
        b"</SecretAccessKey><AccessKeyId>AKIDSESSION</AccessKeyId><Expiration>2099-01-01T00:00:00Z</Expiration>"
        b"</Credentials></CreateSessionResult>"
    )
    # Its ETags may look like MD5s, and are none (AWS: "Differences for directory buckets").
    found = answer(BODY, headers=[f'ETag: "{"0123456789abcdef" * 2}"'])
    async with ScriptedServer([session, found, found]) as server:
        origin = native(server.url, network=NetworkPolicy(md5=True))
        for _ in range(2):
            sink = Collector()
            stat = await origin.read(s3("logs--use1-az4--x-s3", "key"), sink)
            assert sink.data == BODY
            assert isinstance(stat, ObjectStat)
            assert (stat.etag, stat.checksum) == ("0123456789abcdef" * 2, None)
        asked, *reads = server.requests
        assert asked.target == "/logs--use1-az4--x-s3?session"
        for request in reads:
            assert request.target == "/logs--use1-az4--x-s3/key"
            assert request.header("x-amz-s3session-token") == "of-the-session"
            assert "Credential=AKIDSESSION/" in (request.header("authorization") or "")


@pytest.mark.usefixtures("signed")
async def test_the_reference_serves_where_it_is_asked_for(
    native: Callable[..., S3Origin], caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(lambda request: answer(BODY)) as server:
        assert await read(native(server.url, origin="boto")) == BODY
        assert "Botocore" in (server.requests[0].header("user-agent") or "")
        assert [record for record in caplog.records if record.name.startswith("asyncfetch")] == []


@pytest.mark.usefixtures("signed")
async def test_each_bucket_is_reached_in_its_own_way(opened: Callable[..., BotoOrigin]) -> None:
    from asyncfetch.origins.s3 import S3Origin

    async with ScriptedServer(lambda _: answer(b"one")) as one, ScriptedServer(lambda _: answer(b"other")) as other:
        access = Access(endpoint_url=other.url, anonymous=True)
        origin = S3Origin(Settings(access=Access(endpoint_url=one.url), buckets={"other": access}), opened)
        assert await read(origin) == b"one"
        sink = Collector()
        await origin.read(s3("other", "key"), sink)
        assert sink.data == b"other"
        assert other.requests[0].header("authorization") is None
        await origin.aclose()


# Meeting a bucket.


async def test_many_first_calls_meet_a_bucket_once(native: Callable[..., S3Origin], helper: Helper) -> None:
    async with ScriptedServer(lambda request: answer(BODY)) as server:
        origin = native(server.url, profile="helper")
        before = asyncio.all_tasks()
        calls = [asyncio.create_task(read(origin)) for _ in range(20)]
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks() - before - set(calls)) == 1
        assert await asyncio.gather(*calls) == [BODY] * 20
        assert helper.runs == 1


async def test_not_all_of_very_many_buckets_are_remembered(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "MOST_BUCKETS", 3)
    async with ScriptedServer(lambda request: answer(request.target.encode())) as server:
        origin = native(server.url, anonymous=True)
        for name in "abcdea":
            sink = Collector()
            await origin.read(s3(name, "key"), sink)
            assert sink.data == f"/{name}/key".encode()
        del sink
    gc.collect()
    known = {one.name for one in gc.get_objects() if type(one) is buckets.Bucket}
    assert known & set("abcde") == set("dea")


async def test_cancelling_the_first_call_hurts_no_other(native: Callable[..., S3Origin], helper: Helper) -> None:
    gate = await helper.shut()
    async with ScriptedServer(lambda request: answer(BODY)) as server:
        origin = native(server.url, profile="helper")
        first, second = [asyncio.create_task(read(origin)) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await gate.reached()
        gate.open()
        assert await second == BODY
        assert len(server.requests) == 1


async def test_closing_at_the_first_moment_leaves_no_task(native: Callable[..., S3Origin]) -> None:
    origin = native("http://127.0.0.1:1", region="us-east-1", anonymous=True)
    before = asyncio.all_tasks()
    call = asyncio.create_task(read(origin))
    await asyncio.sleep(0)
    await origin.aclose()
    assert asyncio.all_tasks() - before <= {call}
    with pytest.raises(FetcherClosed):
        await call


async def test_cancelling_all_who_meet_a_bucket_leaves_no_task(
    native: Callable[..., S3Origin], caplog: pytest.LogCaptureFixture
) -> None:
    origin = native("http://127.0.0.1:99999999", region="us-east-1", anonymous=True)
    before = asyncio.all_tasks()
    calls = [asyncio.create_task(read(origin)) for _ in range(3)]
    await asyncio.sleep(0)
    meeting = asyncio.all_tasks() - before - set(calls)
    assert len(meeting) == 1
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await asyncio.wait(meeting)  # it fails, and nobody is left to hear of it
    assert asyncio.all_tasks() == before
    del meeting, calls, call
    census()  # collects what is garbage, which would complain of an error that nobody has seen
    assert caplog.records == []
    with pytest.raises(UsageError):
        await read(origin)


async def test_each_who_waits_for_a_bucket_hears_of_its_own_object(native: Callable[..., S3Origin]) -> None:
    origin = native("http://127.0.0.1:1", profile="nobody")
    objects = [s3("bucket", f"{number}") for number in range(3)]
    errors = await asyncio.gather(*(origin.stat(each) for each in objects), return_exceptions=True)
    assert [type(error) for error in errors] == [NoCredentials] * 3
    assert [getattr(error, "uri", None) for error in errors] == [str(each) for each in objects]


async def test_closing_while_a_bucket_is_met_ends_the_calls(native: Callable[..., S3Origin], helper: Helper) -> None:
    before = census().tasks
    gate = await helper.shut()
    origin = native("http://127.0.0.1:1", profile="helper")
    calls = [asyncio.create_task(call) for call in (read(origin), origin.stat(OBJECT), listed(origin))]
    await gate.reached()
    closing = asyncio.create_task(origin.aclose())
    await asyncio.sleep(0)
    gate.open()
    await closing
    for call in calls:
        with pytest.raises(FetcherClosed):
            await call
    assert census().tasks == before


async def test_a_bucket_that_could_not_be_met_is_met_anew(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedServer([answer(BODY)]) as server:
        origin = native(region="us-east-1", anonymous=True)
        monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", "http://127.0.0.1:99999999")
        with pytest.raises(UsageError):
            await read(origin)
        monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", server.url)
        assert await read(origin) == BODY


async def test_nobody_at_the_endpoint(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer() as server:
        url = server.url
    with pytest.raises(EndpointUnreachable, match=f"127.0.0.1:{server.port}") as caught:
        await read(native(url, anonymous=True))
    assert isinstance(caught.value, OriginError)
