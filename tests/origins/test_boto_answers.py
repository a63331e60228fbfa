"""The reference origin: answers that break off, lie, or mean something else than they seem to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import (
    MissingDependencyException,
    UnsupportedS3AccesspointConfigurationError,
    UnsupportedS3ConfigurationError,
)

from asyncfetch.errors import (
    AccessDenied,
    AsyncfetchError,
    ExtraMissing,
    RangeNotSatisfiable,
    ServerError,
    Throttled,
    TransferInterrupted,
    UsageError,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins import ByteRange
from asyncfetch.origins.boto import BotoOrigin
from asyncfetch.origins.boto_errors import translated
from asyncfetch.testing import Ending, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.origins.scripts import OBJECT, read, refusing
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncfetch.testing.scripted import Answer


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (refusing("SlowDown", status="503 Slow Down", headers=["Retry-After: 7"]), Throttled),
        (refusing("InternalError", status="500 Oops"), ServerError),
        ([answer(b"1234567890")[:-4], Ending.CLOSE], TransferInterrupted),
        ([answer(b"1234567890")[:-4], Ending.RESET], TransferInterrupted),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Ending.CLOSE], TransferInterrupted),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno hex\r\n", Ending.CLOSE], TransferInterrupted),
        ([b"SSH-2.0-OpenSSH_9.6\r\n", Ending.CLOSE], TransferInterrupted),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Ending.CLOSE], TransferInterrupted),
        (answer(b"x", headers=["Last-Modified: the other day"]), TransferInterrupted),
    ],
)
@pytest.mark.usefixtures("signed")
async def test_what_goes_wrong_is_told_at_once_and_never_tried_again(
    opened: Callable[..., BotoOrigin], response: Answer, kind: type[AsyncfetchError]
) -> None:
    async with ScriptedServer([response, answer(b"better")]) as server:
        with pytest.raises(kind) as caught:
            await read(opened(server.url))
        assert getattr(caught.value, "uri", None) == str(OBJECT)
        assert len(server.requests) == 1
        assert getattr(caught.value, "retry_after", None) == (7.0 if kind is Throttled else None)
        assert getattr(caught.value, "request_id", None) == ("REQ1" if kind in (Throttled, ServerError) else None)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MissingDependencyException(msg="crt"), ExtraMissing, r"s3://bucket/key: .*asyncfetch\[crt\]"),
        (UnsupportedS3ConfigurationError(msg="no FIPS in China"), UsageError, "no FIPS in China"),
        (UnsupportedS3AccesspointConfigurationError(msg="another partition"), UsageError, "another partition"),
    ],
)
def test_what_botocore_cannot_do_as_it_is_set_up_is_an_error_of_use(
    error: Exception, kind: type[AsyncfetchError], said: str
) -> None:
    with pytest.raises(kind, match=said), translated("s3://bucket/key"):
        raise error


@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.RESET])
async def test_a_connection_without_any_answer(opened: Callable[..., BotoOrigin], ending: Ending) -> None:
    async with ScriptedServer([[ending]] * 2) as server:
        with pytest.raises(TransferInterrupted):
            await read(opened(server.url, anonymous=True))


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789", Ending.CLOSE],
    ],
)
@pytest.mark.usefixtures("signed")
async def test_a_body_of_unknown_length_is_counted(opened: Callable[..., BotoOrigin], response: Answer) -> None:
    async with ScriptedServer(lambda request: response) as server:
        origin = opened(server.url)
        sink = Collector()
        stat = await origin.read(OBJECT, sink)
        assert isinstance(stat, ObjectStat)
        assert (stat.size, sink.data) == (10, b"0123456789")
        assert set(sink.hints) == {-1}
        assert await read(origin, ByteRange(3, 5)) == b"34"
        assert await read(origin, ByteRange(8)) == b"89"
        with pytest.raises(RangeNotSatisfiable):
            await read(origin, ByteRange(10))


@pytest.mark.usefixtures("signed")
async def test_a_server_that_ignores_ranges_is_cut_to_size(opened: Callable[..., BotoOrigin]) -> None:
    body = b"0123456789" * 100_000
    async with ScriptedServer(lambda request: answer(body)) as server:
        origin = opened(server.url)
        for wanted in (ByteRange(0, 1), ByteRange(300_001, 700_002), ByteRange(999_999), ByteRange(5, 2_000_000)):
            sink = Collector()
            stat = await origin.read(OBJECT, sink, range=wanted)
            assert isinstance(stat, ObjectStat)
            assert stat.size == len(body)
            assert sink.data == body[wanted.start : wanted.stop]
            assert sink.hints[0] == len(sink.data)
        with pytest.raises(RangeNotSatisfiable):
            await read(origin, ByteRange(len(body)))


@pytest.mark.parametrize(
    ("content_range", "status"),
    [
        ("bytes 0-3/10", "206 Partial Content"),
        ("bytes 2-4/10", "206 Partial Content"),
        ("bytes 2-5/*", "206 Partial Content"),
        ("lines 2-5/10", "206 Partial Content"),
        ("bytes 0-3/10", "200 OK"),
    ],
)
@pytest.mark.usefixtures("signed")
async def test_another_range_than_was_asked_for_is_not_taken(
    opened: Callable[..., BotoOrigin], content_range: str, status: str
) -> None:
    response = answer(b"abcd", status=status, headers=[f"Content-Range: {content_range}"])
    async with ScriptedServer([response]) as server:
        sink = Collector()
        with pytest.raises(TransferInterrupted, match="another range"):
            await opened(server.url).read(OBJECT, sink, range=ByteRange(2, 6))
        assert not sink.touched


@pytest.mark.usefixtures("signed")
async def test_a_part_of_what_was_asked_for_whole_is_not_taken(opened: Callable[..., BotoOrigin]) -> None:
    part = answer(b"abcd", status="206 Partial Content", headers=["Content-Range: bytes 0-3/10"])
    async with ScriptedServer([part]) as server:
        with pytest.raises(TransferInterrupted, match="another range"):
            await read(opened(server.url))


@pytest.mark.usefixtures("signed")
async def test_weak_etags_keep_their_mark(opened: Callable[..., BotoOrigin]) -> None:
    tagged = answer(b"x", headers=['ETag: W/"abc"'])
    async with ScriptedServer([tagged, tagged, answer(status="304 Not Modified")]) as server:
        origin = opened(server.url)
        sink = Collector()
        stat = await origin.read(OBJECT, sink, if_match="W/abc")
        assert isinstance(stat, ObjectStat)
        assert stat.etag == "W/abc"
        # The server ignores the condition at first, and obeys it then.
        for _ in range(2):
            assert await origin.read(OBJECT, Collector(), if_none_match="W/abc") == NotModified(str(OBJECT))
        assert server.requests[0].header("if-match") == 'W/"abc"'
        assert server.requests[1].header("if-none-match") == 'W/"abc"'


@pytest.mark.usefixtures("signed")
async def test_a_head_that_is_refused_is_asked_again_for_the_reason(opened: Callable[..., BotoOrigin]) -> None:
    refused = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    there = answer(b"x", status="206 Partial Content", headers=["Content-Range: bytes 0-0/77", 'ETag: "e"'])
    script = [
        *(refused, refusing("InvalidObjectState", status="403 Forbidden")),
        *(refused, there),
        *(refused, refusing("InvalidRange", status="416 Range Not Satisfiable")),
    ]
    async with ScriptedServer(script) as server:
        origin = opened(server.url)
        with pytest.raises(AsyncfetchError, match="restore-object"):
            await origin.stat(OBJECT)
        stat = await origin.stat(OBJECT)
        assert (stat.size, stat.etag) == (77, "e")
        with pytest.raises(AccessDenied):
            await origin.stat(OBJECT)
        assert [request.method for request in server.requests] == ["HEAD", "GET"] * 3
        assert server.requests[1].header("range") == "bytes=0-0"


@pytest.mark.usefixtures("signed")
async def test_a_server_in_trouble_is_not_asked_again(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer([b"HTTP/1.1 503 Slow Down\r\n\r\n"]) as server:
        with pytest.raises(Throttled):
            await opened(server.url).stat(OBJECT)
        assert len(server.requests) == 1


@pytest.mark.usefixtures("signed")
async def test_a_head_without_a_size_is_an_error(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer([b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n"]) as server:
        with pytest.raises(TransferInterrupted, match="how large"):
            await opened(server.url).stat(OBJECT)


def _page(keys: Iterable[str], more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    objects = "".join(f"<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>" for key in keys)
    body = f"<ListBucketResult><EncodingType>url</EncodingType>{more}{objects}</ListBucketResult>"
    return answer(body.encode())


@pytest.mark.usefixtures("signed")
async def test_listed_keys_are_decoded_as_s3_encodes_them(opened: Callable[..., BotoOrigin]) -> None:
    truncated = "<IsTruncated>true</IsTruncated><NextContinuationToken>t+/=</NextContinuationToken>"
    pages = [_page(["%00%0D%0A", "%25", "a+b%2Bc"], truncated), _page(["%C3%BC"])]
    async with ScriptedServer(pages) as server:
        stats = [stat async for stat in opened(server.url).list(s3("bucket", "p +"), start_after="p")]
        assert [stat.uri for stat in stats] == [f"s3://bucket/{key}" for key in ("\0\r\n", "%", "a b+c", "ü")]
        assert {stat.etag for stat in stats} == {"e"}
        assert "prefix=p%20%2B" in server.requests[0].target
        assert "start-after=p&" in server.requests[0].target + "&"
        assert "continuation-token=t%2B%2F%3D" in server.requests[1].target


@pytest.mark.parametrize(
    "pages",
    [
        [_page(["a"], "<IsTruncated>true</IsTruncated>")],
        [_page(["a"], "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")] * 2,
        [answer(b"<html>It works!</html>")],
        [answer(b"<html>It works!")],
        [[_page(["a"])[:-30], Ending.CLOSE]],
    ],
)
@pytest.mark.usefixtures("signed")
async def test_a_listing_that_cannot_go_on_is_an_error(opened: Callable[..., BotoOrigin], pages: list[Answer]) -> None:
    async with ScriptedServer(pages) as server:
        with pytest.raises((TransferInterrupted, ServerError)) as caught:
            [_ async for _ in opened(server.url).list(s3("bucket", ""))]
        assert caught.value.uri == "s3://bucket/"
