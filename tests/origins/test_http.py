"""Objects of the web: requests as they are written, validators, conditions, and bodies that lie."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING

import pytest

from asyncfetch import __version__
from asyncfetch.errors import (
    AccessDenied,
    InvalidURI,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestRefused,
    TransferInterrupted,
    UsageError,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins import ByteRange
from asyncfetch.origins.http import HTTPOrigin
from asyncfetch.testing import Ending, Hold, ScriptedServer, answer
from asyncfetch.uris import Location, parse
from tests.origins.scripts import at, fetched, head_of
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from asyncfetch.testing.scripted import Answer

BODY = b"0123456789"
MODIFIED = "Tue, 01 Sep 2026 10:00:00 GMT"
LATER = "Tue, 01 Sep 2026 10:01:00 GMT"
DATED = [f"Last-Modified: {MODIFIED}", f"Date: {LATER}"]
TAGGED = ['ETag: "one"']


# What is asked.


async def test_a_request_says_what_is_wanted_and_nothing_of_who_asks(
    web: HTTPOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with ScriptedServer([answer(BODY)]) as server:
        assert await fetched(web, at(server, "/ä b?q=%20".replace(" ", "%20")), ByteRange(2, 5)) == b"234"
        assert (
            server.requests[0].head
            == (
                f"GET /%C3%A4%20b?q=%20 HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\naccept: */*\r\n"
                f"accept-encoding: identity\r\nuser-agent: asyncfetch/{__version__}\r\nrange: bytes=2-4\r\n\r\n"
            ).encode()
        )


async def test_nothing_in_a_location_can_end_the_request_line(web: HTTPOrigin) -> None:
    async with ScriptedServer(lambda request: answer(BODY)) as server:
        smuggled = Location("http", f"127.0.0.1:{server.port}", "/a HTTP/1.1\r\nX-Injected: yes\r\n\r\nGET /b")
        assert await fetched(web, smuggled) == BODY
        assert len(server.requests) == 1
        assert server.requests[0].header("x-injected") is None
        with pytest.raises(InvalidURI) as caught:
            await web.stat(smuggled._replace(container=f"127.0.0.1:{server.port}\r\nX-Injected: yes"))
        assert str(caught.value).isprintable()
        etag = "lm-x\r\nX-Injected: yes"
        for call in (
            web.read(at(server), Collector(), if_match=etag),
            web.read(at(server), Collector(), if_none_match=etag),
        ):
            with pytest.raises(UsageError, match="ETag"):
                await call
        assert len(server.requests) == 1


@pytest.mark.parametrize("call", ["stat", "read"])
async def test_a_password_in_a_url_is_refused_and_not_repeated(web: HTTPOrigin, call: str) -> None:
    location = Location("https", "user:hush@example.com", "/a")  # which is not how `parse` gives it
    with pytest.raises(InvalidURI, match="password") as caught:
        await (web.stat(location) if call == "stat" else web.read(location, Collector()))
    assert "hush" not in f"{caught.value!s} {caught.value!r} {vars(caught.value)} {pickle.dumps(caught.value)!r}"
    assert caught.value.uri == "https://example.com/a"


async def test_what_the_web_does_not_have_is_refused(web: HTTPOrigin) -> None:
    with pytest.raises(InvalidURI, match="no versions"):
        await web.stat(Location("https", "example.com", "/a", "1"))
    with pytest.raises(UsageError, match=r"https://example\.com/: the web has no listing"):
        async for _ in web.list(parse("https://example.com/")):
            pass


async def test_a_proxy_in_the_environment_is_not_passed_by(web: HTTPOrigin, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer(lambda request: answer(BODY)) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://user:hush@127.0.0.1:1")
        with pytest.raises(UsageError, match=r"HTTP_PROXY is set.*put it into NO_PROXY") as caught:
            await web.stat(at(server))
        assert "hush" not in str(caught.value)
        assert server.requests == []
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await fetched(web, at(server)) == BODY


# What an object is.


async def test_stat_asks_for_the_head_alone(web: HTTPOrigin) -> None:
    async with ScriptedServer([head_of(answer(BODY, headers=[*TAGGED, *DATED]))]) as server:
        stat = await web.stat(at(server))
        assert stat == ObjectStat(str(at(server)), 10, "one", None, stat.last_modified)
        assert stat.last_modified is not None
        assert stat.last_modified.isoformat() == "2026-09-01T10:00:00+00:00"
        assert [request.method for request in server.requests] == ["HEAD"]


@pytest.mark.parametrize("status", ["403 Forbidden", "405 Method Not Allowed", "501 Not Implemented"])
async def test_where_a_head_is_refused_one_byte_is_asked_for(web: HTTPOrigin, status: str) -> None:
    part = answer(b"0", status="206 Partial Content", headers=["Content-Range: bytes 0-0/10", *TAGGED])
    async with ScriptedServer([head_of(answer(status=status)), part]) as server:
        stat = await web.stat(at(server))
        assert (stat.size, stat.etag) == (10, "one")
        assert [request.header("range") for request in server.requests] == [None, "bytes=0-0"]
        assert server.connections == 1


async def test_the_whole_object_is_not_waited_for_to_learn_its_size(web: HTTPOrigin) -> None:
    whole: Answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nbegin", Hold(asyncio.Event())]
    async with ScriptedServer([head_of(answer(status="405 No")), whole]) as server:
        assert (await web.stat(at(server))).size == 10**12
        await server.until(lambda: server.open == 0)


async def test_an_empty_object_has_a_size_without_a_first_byte(web: HTTPOrigin) -> None:
    unfit = answer(b"<html>", status="416 Range Not Satisfiable", headers=["Content-Range: bytes */0"])
    async with ScriptedServer([head_of(answer(status="405 No")), unfit, answer(headers=TAGGED)]) as server:
        stat = await web.stat(at(server))
        assert (stat.size, stat.etag) == (0, "one")


async def test_a_size_that_a_head_does_not_tell_is_asked_for(web: HTTPOrigin) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = answer(b"0", status="206 Partial Content", headers=["Content-Range: bytes 0-0/10"])
    async with ScriptedServer([chunked, part, chunked, [chunked, b"1\r\n0\r\n"]]) as server:
        assert (await web.stat(at(server))).size == 10
        with pytest.raises(RequestRefused, match="how large"):
            await web.stat(at(server))


async def test_a_head_that_is_denied_is_denied(web: HTTPOrigin) -> None:
    async with ScriptedServer([head_of(answer(status="403 No")), answer(b"<html>", status="403 No")]) as server:
        with pytest.raises(AccessDenied):
            await web.stat(at(server))


@pytest.mark.parametrize(
    ("headers", "etag"),
    [
        ([*TAGGED, *DATED], "one"),
        (['ETag: W/"weak"'], "W/weak"),
        (DATED, f"lm-{MODIFIED}"),
        ([f"Last-Modified: {MODIFIED}"], None),
        ([f"Last-Modified: {MODIFIED}", "Date: Tue, 01 Sep 2026 10:00:59 GMT"], None),
        ([f"Last-Modified: {LATER}", f"Date: {MODIFIED}"], None),
        (["Last-Modified: yesterday", f"Date: {LATER}"], None),
        (["Last-Modified: Tuesday, 01-Sep-26 10:00:00 GMT", f"Date: {LATER}"], None),
        ([], None),
    ],
)
async def test_a_date_stands_for_an_etag_where_it_is_strong(
    web: HTTPOrigin, headers: list[str], etag: str | None
) -> None:
    async with ScriptedServer([answer(BODY, headers=headers), head_of(answer(BODY, headers=headers))]) as server:
        read = await web.read(at(server), Collector())
        assert isinstance(read, ObjectStat)
        assert read.etag == etag
        assert await web.stat(at(server)) == read


# Conditions.


@pytest.mark.parametrize(
    ("etag", "header", "value"),
    [
        ("one", "if-none-match", '"one"'),
        ("W/one", "if-none-match", 'W/"one"'),
        (f"lm-{MODIFIED}", "if-modified-since", MODIFIED),
        ("lm-something", "if-none-match", '"lm-something"'),
        (f"xy-{MODIFIED}", "if-none-match", f'"xy-{MODIFIED}"'),
    ],
)
async def test_what_has_not_changed_is_not_sent_again(web: HTTPOrigin, etag: str, header: str, value: str) -> None:
    async with ScriptedServer([b"HTTP/1.1 304 Not Modified\r\n\r\n"]) as server:
        sink = Collector()
        assert await web.read(at(server), sink, if_none_match=etag) == NotModified(str(at(server)))
        assert not sink.touched
        assert server.requests[0].header(header) == value
        other = {"if-none-match", "if-modified-since"} - {header}
        assert server.requests[0].header(other.pop()) is None


@pytest.mark.parametrize(("headers", "etag"), [(TAGGED, "one"), (DATED, f"lm-{MODIFIED}")])
async def test_conditions_hold_where_the_server_pays_them_no_heed(
    web: HTTPOrigin, headers: list[str], etag: str
) -> None:
    async with ScriptedServer(lambda request: answer(BODY, headers=headers)) as server:
        sink = Collector()
        assert await web.read(at(server), sink, if_none_match=etag) == NotModified(str(at(server)))
        for other in ("two", "W/one", "lm-Tue, 01 Sep 2026 09:00:00 GMT"):
            with pytest.raises(PreconditionFailed, match="has changed"):
                await web.read(at(server), sink, if_match=other)
        assert not sink.touched
        assert isinstance(await web.read(at(server), sink, if_match=etag), ObjectStat)
        assert sink.data == BODY


async def test_what_came_without_its_etag_is_not_taken_for_the_one_asked_for(web: HTTPOrigin) -> None:
    async with ScriptedServer(lambda request: answer(BODY)) as server:
        sink = Collector()
        with pytest.raises(PreconditionFailed, match="without the ETag"):
            await web.read(at(server), sink, if_match="one")
        assert not sink.touched
        assert isinstance(await web.read(at(server), sink, if_none_match="one"), ObjectStat)


@pytest.mark.parametrize(
    ("etag", "header", "value"),
    [("one", "if-match", '"one"'), ("W/one", "if-match", None), (f"lm-{MODIFIED}", "if-unmodified-since", MODIFIED)],
)
async def test_ranges_are_pinned_by_strong_validators_only(
    web: HTTPOrigin, etag: str, header: str, value: str | None
) -> None:
    told = ['ETag: W/"one"'] if etag.startswith("W/") else TAGGED if etag == "one" else DATED
    part = answer(b"234", status="206 Partial Content", headers=["Content-Range: bytes 2-4/10", *told])
    async with ScriptedServer([part]) as server:
        sink = Collector()
        stat = await web.read(at(server), sink, range=ByteRange(2, 5), if_match=etag)
        assert isinstance(stat, ObjectStat)
        assert (stat.size, stat.etag, sink.data) == (10, etag, b"234")
        assert server.requests[0].header(header) == value


# Bodies.


@pytest.mark.parametrize(
    ("response", "wanted", "data", "size"),
    [
        (answer(BODY), ByteRange(2, 5), b"234", 10),
        (answer(BODY), ByteRange(7), b"789", 10),
        (answer(BODY), ByteRange(7, 70), b"789", 10),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n", None, BODY, 10),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
            ByteRange(2, 5),
            b"234",
            10,
        ),
        (
            b"HTTP/1.1 206 P\r\nContent-Range: bytes 2-4/10\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n234\r\n0\r\n\r\n",
            ByteRange(2, 5),
            b"234",
            10,
        ),
        ([b"HTTP/1.1 206 P\r\nContent-Range: bytes 2-4/10\r\n\r\n234", Ending.CLOSE], ByteRange(2, 5), b"234", 10),
        (answer(b"789", status="206 P", headers=["Content-Range: bytes 7-9/10"]), ByteRange(7, 70), b"789", 10),
    ],
)
async def test_the_part_that_was_asked_for_is_what_arrives(
    web: HTTPOrigin, response: Answer, wanted: ByteRange | None, data: bytes, size: int
) -> None:
    async with ScriptedServer([response]) as server:
        sink = Collector()
        stat = await web.read(at(server), sink, range=wanted)
        assert isinstance(stat, ObjectStat)
        assert (sink.data, stat.size) == (data, size)


@pytest.mark.parametrize("response", [answer(BODY), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_a_range_behind_the_end_of_an_object_that_came_whole(web: HTTPOrigin, response: bytes) -> None:
    async with ScriptedServer([response]) as server:
        sink = Collector()
        with pytest.raises(RangeNotSatisfiable):
            await web.read(at(server), sink, range=ByteRange(10))
        assert not sink.touched


_PART = b"HTTP/1.1 206 Partial Content\r\n"


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        ([answer(BODY)[:-4], Ending.CLOSE], None),
        ([answer(BODY)[:-4], Ending.RESET], None),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", Ending.CLOSE], None),
        ([b"HTTP/1.1 200 OK\r\n\r\n" + BODY, Ending.CLOSE], None),
        ([b"HTTP/1.0 200 OK\r\n\r\n" + BODY, Ending.CLOSE], None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 11\r\n\r\n" + BODY], None),
        ([b"SSH-2.0-OpenSSH_9.6\r\n", Ending.CLOSE], None),
        (answer(b"0", status="206 P", headers=["Content-Range: bytes 0-0/10"]), None),
        (answer(b"123", status="206 P", headers=["Content-Range: bytes 1-3/10"]), ByteRange(2, 5)),
        (answer(b"23", status="206 P", headers=["Content-Range: bytes 2-3/10"]), ByteRange(2, 5)),
        (answer(b"234", status="206 P", headers=["Content-Range: bytes 2-4/*"]), ByteRange(2, 5)),
        (answer(b"23", status="206 P", headers=["Content-Range: bytes 2-4/10"]), ByteRange(2, 5)),
        (answer(b"234", status="206 P"), ByteRange(2, 5)),
        (answer(b"234", status="206 P", headers=["Content-Type: multipart/byteranges; boundary=x"]), ByteRange(2, 5)),
        ([_PART + b"Content-Range: bytes 2-4/10\r\n\r\n23", Ending.CLOSE], ByteRange(2, 5)),
        ([_PART + b"Content-Range: bytes 2-4/10\r\n\r\n2345", Ending.CLOSE], ByteRange(2, 5)),
        (
            _PART + b"Content-Range: bytes 2-4/10\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n2345\r\n0\r\n\r\n",
            ByteRange(2, 5),
        ),
    ],
)
async def test_an_answer_that_lies_or_breaks_off_is_an_error(
    web: HTTPOrigin, response: Answer, wanted: ByteRange | None
) -> None:
    async with ScriptedServer([response, answer(BODY)]) as server:
        sink = Collector()
        with pytest.raises(TransferInterrupted) as caught:
            await web.read(at(server), sink, range=wanted)
        assert caught.value.uri == str(at(server))
        assert len(sink.data) <= (10 if wanted is None else 3)
        assert len(server.requests) == 1
        assert await fetched(web, at(server)) == BODY


@pytest.mark.parametrize("coding", ["gzip", "br", "x\xff"])
async def test_another_coding_is_refused(web: HTTPOrigin, coding: str) -> None:
    coded = answer(BODY, headers=[f"Content-Encoding: {coding}"])
    async with ScriptedServer(lambda request: coded if request.method == "GET" else head_of(coded)) as server:
        sink = Collector()
        for call in (web.read(at(server), sink), web.stat(at(server))):
            with pytest.raises(RequestRefused, match="coding") as caught:
                await call
            assert str(caught.value).isascii()
        assert not sink.touched


async def test_identity_is_no_coding(web: HTTPOrigin) -> None:
    async with ScriptedServer([answer(BODY, headers=["Content-Encoding: identity"])]) as server:
        assert await fetched(web, at(server)) == BODY
