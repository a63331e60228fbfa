"""The native S3 origin: requests as they are written, and what it makes of answers that lie, break off or refuse."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncfetch.cache import MemorySink
from asyncfetch.errors import (
    BucketNotFound,
    FetcherClosed,
    InvalidURI,
    ObjectArchived,
    ObjectNotFound,
    OriginError,
    OriginTimeout,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestRefused,
    ServerError,
    Throttled,
    TransferInterrupted,
    WrongRegion,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins import ByteRange
from asyncfetch.origins.headers import USER_AGENT
from asyncfetch.settings import NetworkPolicy
from asyncfetch.testing import Ending, Hold, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.cache.helpers import opened as opened_cache
from tests.leaks import census
from tests.origins.scripts import KEY_ID, OBJECT, head_of, listed, read, refusing
from tests.origins.sinks import Collector, Stuck

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.origins import Sink
    from asyncfetch.origins.boto import BotoOrigin
    from asyncfetch.origins.s3 import S3Origin
    from asyncfetch.testing.scripted import Answer

BODY = b"0123456789"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PART = b"HTTP/1.1 206 Partial Content\r\n"
EMPTY_PAGE = answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

pytestmark = pytest.mark.usefixtures("signed")


# What is asked.


async def test_a_bucket_stands_in_the_path_and_only_what_is_needed_is_sent(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer([answer(BODY)]) as server:
        sink = Collector()
        await native(server.url).read(s3("bucket", "a b", "v1"), sink, range=ByteRange(2, 5))
        assert sink.data == b"234"
        request = server.requests[0]
        assert request.target == "/bucket/a%20b?versionId=v1"
        names = [line.partition(b":")[0] for line in request.head.split(b"\r\n")[1:-2]]
        expected = [b"authorization", b"host", b"range", b"user-agent", b"x-amz-content-sha256", b"x-amz-date"]
        assert sorted(names) == expected
        assert request.header("user-agent") == USER_AGENT
        assert request.header("host") == f"127.0.0.1:{server.port}"
        assert f"Credential={KEY_ID}/" in (request.header("authorization") or "")


async def test_a_bucket_can_stand_in_the_host(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer([answer(BODY)]) as server:
        # A bucket called 127 makes an address of what is left of one: no name has to be resolved.
        origin = native(f"http://0.0.1:{server.port}", addressing="virtual")
        await origin.read(s3("127", "key"), Collector())
        assert server.requests[0].target == "/key"
        assert server.requests[0].header("host") == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("\r\nX-Injected: yes\r\n\r\n", "/bucket/%0D%0AX-Injected%3A%20yes%0D%0A%0D%0A"),
        ("\0", "/bucket/%00"),
        ("é" * 512, "/bucket/" + "%C3%A9" * 512),
        ("//a/../%2F", "/bucket///a/../%252F"),
    ],
)
async def test_no_key_can_end_the_request_line(native: Callable[..., S3Origin], key: str, target: str) -> None:
    async with ScriptedServer([answer(BODY)]) as server:
        await native(server.url).read(s3("bucket", key), Collector())
        assert server.requests[0].target == target
        assert server.requests[0].header("x-injected") is None


async def test_anonymous_requests_carry_nothing_of_an_identity(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hush")
    async with ScriptedServer([answer(BODY), head_of(answer(BODY)), EMPTY_PAGE]) as server:
        origin = native(server.url, anonymous=True)
        await read(origin)
        await origin.stat(OBJECT)
        assert await listed(origin) == []
        for request in server.requests:
            assert request.header("authorization") is None
            assert request.header("x-amz-security-token") is None


async def test_the_requester_pays_and_the_session_token_goes_with_every_request(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hush")
    async with ScriptedServer([answer(BODY), head_of(answer(BODY)), EMPTY_PAGE]) as server:
        origin = native(server.url, requester_pays=True)
        await read(origin)
        await origin.stat(OBJECT)
        assert await listed(origin) == []
        for request in server.requests:
            assert request.header("x-amz-request-payer") == "requester"
            assert request.header("x-amz-security-token") == "hush"
            signed = (request.header("authorization") or "").partition("SignedHeaders=")[2].partition(",")[0].split(";")
            assert {"x-amz-request-payer", "x-amz-security-token"} <= set(signed)


async def test_names_that_cannot_be_are_refused_unasked(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer() as server:
        origin = native(server.url)
        for call in (origin.stat(s3("bucket", "")), origin.read(s3("bucket", ""), Collector())):
            with pytest.raises(InvalidURI, match="not an object"):
                await call
        with pytest.raises(InvalidURI, match="no version"):
            [_ async for _ in origin.list(s3("bucket", "", "1"))]
        assert server.requests == []


# Heads.


async def test_a_head_that_is_refused_is_asked_again_for_the_reason(native: Callable[..., S3Origin]) -> None:
    part = answer(b"0", status="206 P", headers=["Content-Range: bytes 0-0/10", 'ETag: "one"'])
    kinds: list[tuple[bytes, type[OriginError]]] = [
        (refusing("NoSuchBucket", status="404 No"), BucketNotFound),
        (refusing("InvalidObjectState", status="403 No"), ObjectArchived),
    ]
    for status in ("403 No", "404 No", "400 No", "405 No", "301 No", "307 No"):
        async with ScriptedServer([head_of(answer(status=status)), part]) as server:
            stat = await native(server.url).stat(OBJECT)
            assert (stat.size, stat.etag) == (10, "one")
            assert server.connections == 1
    for response, kind in kinds:
        async with ScriptedServer([head_of(response), response]) as server:
            with pytest.raises(kind):
                await native(server.url).stat(OBJECT)


async def test_every_request_is_counted_by_whichever_way_it_goes(
    native: Callable[..., S3Origin], opened: Callable[..., BotoOrigin]
) -> None:
    for make in (native, opened):
        async with ScriptedServer([answer(BODY), refusing("SlowDown", status="503 Slow Down"), EMPTY_PAGE]) as server:
            origin = make(server.url)
            assert origin.requests == 0
            assert await read(origin) == BODY
            with pytest.raises(Throttled):
                await read(origin)
            assert await listed(origin) == []
            assert origin.requests == len(server.requests) == 3


async def test_a_probe_does_not_wait_for_the_whole_object(native: Callable[..., S3Origin]) -> None:
    whole: Answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nbegin", Hold(asyncio.Event())]
    async with ScriptedServer([head_of(answer(status="403 No")), whole]) as server:
        assert (await native(server.url).stat(OBJECT)).size == 10**12
        await server.until(lambda: server.open == 0)


@pytest.mark.parametrize(("status", "said"), [("404 No", "it was deleted"), ("405 No", "is a delete marker")])
async def test_a_head_that_tells_of_a_delete_marker_needs_no_second_look(
    native: Callable[..., S3Origin], status: str, said: str
) -> None:
    async with ScriptedServer([head_of(answer(status=status, headers=["x-amz-delete-marker: true"]))]) as server:
        with pytest.raises(ObjectNotFound, match=said):
            await native(server.url).stat(OBJECT)
        assert len(server.requests) == 1


async def test_a_head_of_an_empty_object_that_is_refused_keeps_its_own_reason(native: Callable[..., S3Origin]) -> None:
    unfit = refusing("InvalidRange", status="416 No")
    async with ScriptedServer([head_of(answer(status="405 No")), unfit]) as server:
        with pytest.raises(RequestRefused, match="405"):
            await native(server.url).stat(OBJECT)


async def test_a_head_without_a_size_is_an_error(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer([b"HTTP/1.1 200 OK\r\n\r\n"]) as server:
        with pytest.raises(TransferInterrupted, match="how large"):
            await native(server.url).stat(OBJECT)


async def test_what_a_head_says_is_told(native: Callable[..., S3Origin]) -> None:
    headers = ['ETag: W/"one"', "x-amz-version-id: v7", "Last-Modified: Tue, 01 Sep 2026 10:00:00 GMT"]
    odd = ["ETag: bare", "x-amz-version-id: null", "Last-Modified: the other day"]
    async with ScriptedServer([head_of(answer(BODY, headers=headers)), head_of(answer(headers=odd))]) as server:
        origin = native(server.url)
        stat = await origin.stat(OBJECT)
        assert (stat.uri, stat.size, stat.etag, stat.version) == (str(OBJECT), 10, "W/one", "v7")
        assert stat.last_modified is not None
        assert stat.last_modified.isoformat() == "2026-09-01T10:00:00+00:00"
        assert await origin.stat(OBJECT) == ObjectStat(str(OBJECT), 0, "bare", None, None)


# Bodies.


@pytest.mark.parametrize(
    ("response", "wanted", "data"),
    [
        (answer(BODY), ByteRange(2, 5), b"234"),
        (answer(BODY), ByteRange(7, 70), b"789"),
        (answer(b"234", headers=["Content-Range: bytes 2-4/10"]), ByteRange(2, 5), b"234"),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n", None, BODY),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n", ByteRange(2, 5), b"234"),
        (PART + b"Content-Range: bytes 2-4/10\r\n" + CHUNKED + b"3\r\n234\r\n0\r\n\r\n", ByteRange(2, 5), b"234"),
        ([PART + b"Content-Range: bytes 2-4/10\r\n\r\n234", Ending.CLOSE], ByteRange(2, 5), b"234"),
    ],
)
async def test_the_part_that_was_asked_for_is_what_arrives(
    native: Callable[..., S3Origin], response: Answer, wanted: ByteRange | None, data: bytes
) -> None:
    async with ScriptedServer([response]) as server:
        sink = Collector()
        stat = await native(server.url).read(OBJECT, sink, range=wanted)
        assert isinstance(stat, ObjectStat)
        assert (sink.data, stat.size) == (data, 10)


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        ([answer(BODY)[:-4], Ending.CLOSE], None),
        ([answer(BODY)[:-4], Ending.RESET], None),
        ([b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5\r\nhello\r\n", Ending.CLOSE], None),
        ([b"HTTP/1.1 200 OK\r\n\r\n0123456789", Ending.CLOSE], None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", None),
        ([b"SSH-2.0-OpenSSH_9.6\r\n", Ending.CLOSE], None),
        ([Ending.CLOSE], None),
        (answer(b"234", status="206 P", headers=["Content-Range: bytes 2-4/10"]), None),
        (answer(b"123", status="206 P", headers=["Content-Range: bytes 1-3/10"]), ByteRange(2, 5)),
        (answer(b"23", status="206 P", headers=["Content-Range: bytes 2-3/10"]), ByteRange(2, 5)),
        (answer(b"234", status="206 P", headers=["Content-Range: bytes 2-4/4"]), ByteRange(2, 5)),
        (answer(b"23", status="206 P", headers=["Content-Range: bytes 2-3/9"]), ByteRange(2, 5)),
        (answer(b"234", status="206 P", headers=["Content-Range: bytes 2-4/*"]), ByteRange(2, 5)),
        (answer(b"2345", status="206 P", headers=["Content-Range: bytes 2-4/10"]), ByteRange(2, 5)),
        (answer(b"234", status="206 P"), ByteRange(2, 5)),
        ([PART + b"Content-Range: bytes 2-4/10\r\n\r\n23", Ending.CLOSE], ByteRange(2, 5)),
        (PART + b"Content-Range: bytes 2-4/10\r\n" + CHUNKED + b"4\r\n2345\r\n0\r\n\r\n", ByteRange(2, 5)),
        (PART + b"Content-Range: bytes 2-4/10\r\n" + CHUNKED + b"2\r\n23\r\n0\r\n\r\n", ByteRange(2, 5)),
    ],
)
async def test_an_answer_that_lies_or_breaks_off_is_an_error(
    native: Callable[..., S3Origin], response: Answer, wanted: ByteRange | None
) -> None:
    async with ScriptedServer([response, answer(BODY)]) as server:
        origin = native(server.url)
        sink = Collector()
        with pytest.raises(TransferInterrupted) as caught:
            await origin.read(OBJECT, sink, range=wanted)
        assert caught.value.uri == str(OBJECT)
        assert len(sink.data) <= (10 if wanted is None else 3)
        assert len(server.requests) == 1
        assert await read(origin) == BODY


@pytest.mark.parametrize("response", [answer(BODY), b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"0\r\n\r\n"])
async def test_a_range_behind_the_end_of_an_object_that_came_whole(
    native: Callable[..., S3Origin], response: bytes
) -> None:
    async with ScriptedServer([response]) as server:
        sink = Collector()
        with pytest.raises(RangeNotSatisfiable):
            await native(server.url).read(OBJECT, sink, range=ByteRange(10))
        assert not sink.touched


# Conditions.


@pytest.mark.parametrize("kind", ["memory", "part"])
async def test_what_comes_behind_a_range_is_never_the_next_answer(
    native: Callable[..., S3Origin], kind: str, tmp_path: Path
) -> None:
    """Sinks that write into what becomes the result have no room behind it, so such bytes wait with the system."""
    half = 40_000
    body = os.urandom(2 * half)
    first = [f"Content-Range: bytes 0-{half - 1}/{2 * half}"]
    second = [f"Content-Range: bytes {half}-{2 * half - 1}/{2 * half}"]
    part, rest = (
        answer(body[at : at + half], status="206 Partial Content", headers=headers)
        for at, headers in ((0, first), (half, second))
    )
    poison = answer(b"!" * half, status="206 Partial Content", headers=second)
    ranges = [ByteRange(0, half), ByteRange(half, 2 * half)]

    async def read_all(sinks: Sequence[Sink]) -> None:
        pairs = zip(sinks, ranges, strict=True)
        await asyncio.gather(*(origin.read(OBJECT, sink, range=span) for sink, span in pairs))

    async with ScriptedServer([part + poison, rest]) as server, opened_cache(tmp_path) as cache:
        origin = native(server.url, network=NetworkPolicy(concurrency=1, hedge=False))
        if kind == "memory":
            sinks = [MemorySink() for _ in ranges]
            await read_all(sinks)
            assert b"".join(sink.finish() for sink in sinks) == body
        else:
            parted = cache.parted(len(body))
            parts = [parted.part(0, half), parted.part(half, 2 * half)]
            await read_all(parts)
            for one in parts:
                await one.flush()
            whole = await parted.finish()
            assert Path(whole.path).read_bytes() == body
            whole.release()
        assert server.connections == 2


async def test_conditions_hold_where_the_server_pays_them_no_heed(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda request: answer(BODY, headers=['ETag: "one"'])) as server:
        origin, sink = native(server.url), Collector()
        assert await origin.read(OBJECT, sink, if_none_match="one") == NotModified(str(OBJECT))
        with pytest.raises(PreconditionFailed, match="has changed"):
            await origin.read(OBJECT, sink, range=ByteRange(2, 5), if_match="two")
        assert not sink.touched
        assert isinstance(await origin.read(OBJECT, sink, if_match="one"), ObjectStat)
        assert [request.header("if-match") for request in server.requests] == [None, '"two"', '"one"']


async def test_an_answer_without_an_etag_is_not_the_version_asked_for(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer([answer(BODY)]) as server:
        with pytest.raises(PreconditionFailed, match="without the ETag"):
            await native(server.url).read(OBJECT, Collector(), if_match="one")


async def test_a_weak_etag_pins_nothing_and_is_compared_all_the_same(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda request: answer(BODY, headers=['ETag: W/"one"'])) as server:
        origin = native(server.url)
        assert isinstance(await origin.read(OBJECT, Collector(), if_match="W/one"), ObjectStat)
        with pytest.raises(PreconditionFailed):
            await origin.read(OBJECT, Collector(), if_match="one")
        assert await origin.read(OBJECT, Collector(), if_none_match="W/one") == NotModified(str(OBJECT))
        assert [request.header("if-match") for request in server.requests] == [None, '"one"', None]
        assert server.requests[2].header("if-none-match") == 'W/"one"'


async def test_not_modified_is_an_answer_to_a_condition_only(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda request: b"HTTP/1.1 304 Not Modified\r\n\r\n") as server:
        origin, sink = native(server.url), Collector()
        assert await origin.read(OBJECT, sink, if_none_match="one") == NotModified(str(OBJECT))
        with pytest.raises(RequestRefused, match="304 in the place of the object"):
            await origin.read(OBJECT, sink)
        with pytest.raises(RequestRefused, match="304 in the place of the object"):
            await origin.stat(OBJECT)
        assert not sink.touched


# Refusals.


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (refusing("SlowDown", status="503 Slow Down", headers=["Retry-After: 7"]), Throttled),
        (refusing("InternalError", status="500 Oops"), ServerError),
        (refusing("NoSuchKey", status="404 No", more="x" * 1_000_000), ObjectNotFound),
        (answer(b"<html>" * 500_000, status="502 Bad Gateway"), ServerError),
        (answer(b"", status="404 No"), ObjectNotFound),
        (answer(b"\xff\0<Error>", status="503 Busy"), Throttled),
        ([refusing("NoSuchBucket", status="404 No", more="x" * 100)[:-50], Ending.CLOSE], BucketNotFound),
        ([b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 10\r\n\r\n", Ending.RESET], PreconditionFailed),
        (b"HTTP/1.1 204 No Content\r\n\r\n", RequestRefused),
        (answer(status="301 Moved", headers=["Location: https://other.example/?hush"]), RequestRefused),
        (refusing("PermanentRedirect", status="301 Moved"), WrongRegion),
    ],
)
async def test_refusals_are_told_at_once_and_never_tried_again(
    native: Callable[..., S3Origin], response: Answer, kind: type[OriginError]
) -> None:
    async with ScriptedServer([response, answer(BODY)]) as server:
        sink = Collector()
        with pytest.raises(kind) as caught:
            await native(server.url).read(OBJECT, sink)
        assert type(caught.value) is kind
        assert not sink.touched
        assert (caught.value.uri, len(server.requests)) == (str(OBJECT), 1)
        assert caught.value.retry_after == (7.0 if "Retry" in repr(response) else None)
        assert "hush" not in str(caught.value)


async def test_a_silent_server_is_not_waited_for_forever(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer([[Hold(asyncio.Event())]]) as server:
        with pytest.raises(OriginTimeout):
            await read(native(server.url, network=NetworkPolicy(read_timeout=0.05)))


# Life.


async def test_closing_ends_calls_under_way(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda request: [Hold(asyncio.Event())]) as server:
        origin = native(server.url)
        calls = [asyncio.create_task(read(origin)) for _ in range(5)]
        calls += [asyncio.create_task(read(origin, ByteRange(1, 2)))]
        await server.until(lambda: len(server.requests) == 6)
        await origin.aclose()
        for call in calls:
            with pytest.raises(FetcherClosed):
                await call
        for late in (read(origin), origin.stat(OBJECT), origin.stat(s3("other", "key")), listed(origin)):
            with pytest.raises(FetcherClosed):
                await late


async def test_cancelling_in_mid_body_leaves_nothing_open(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda request: [answer(BODY)[:-5], Hold(asyncio.Event())]) as server:
        origin, sink = native(server.url), Stuck()
        before = census().tasks
        reading = asyncio.create_task(origin.read(OBJECT, sink))
        await sink.begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await server.until(lambda: server.open == 0)
        assert census().tasks == before
