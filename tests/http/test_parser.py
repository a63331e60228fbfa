from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.http import HTTPError, ProtocolError, ResponseTooLarge
from asyncfetch.http.parser import HEAD_ROOM, MAX_INTERIM, ResponseParser
from tests.http.feeding import CHUNKED, MAX_HEAD, Into, feed, new_parser, split, steady
from tests.http.helpers import Collect, Paced

if TYPE_CHECKING:
    from collections.abc import Sequence


class Message(NamedTuple):
    wire: bytes
    body: bytes
    to_head: bool


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """A response in any framing, and what its body is."""
    interim = draw(
        st.lists(st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nA: b\r\n\r\n"]), max_size=3)
    )
    fields = draw(
        st.lists(
            st.sampled_from([b"ETag: x\r\n", b"Date: now\r\n", b"X:\r\n", b"Y: " + b"z" * 9000 + b"\r\n"]),
            max_size=4,
            unique=True,
        )
    )
    body = draw(st.binary(max_size=3000))
    kind = draw(st.sampled_from(["length", "chunked", "head", "204", "304"]))
    status = kind if kind.isdecimal() else "200"
    wire = b"".join(interim) + f"HTTP/1.1 {status} OK\r\n".encode() + b"".join(fields)
    if kind == "chunked":
        wire += b"Transfer-Encoding: chunked\r\n\r\n"
        for piece in split(body, draw(st.lists(st.integers(min_value=0), max_size=5))):
            if piece:
                extension = draw(st.sampled_from([b"", b";a", b' ; a="b;c"', b"  "]))
                wire += (b"%X" if draw(st.booleans()) else b"%04x") % len(piece) + extension + b"\r\n" + piece + b"\r\n"
        wire += b"0\r\n" + draw(st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC:\r\n"])) + b"\r\n"
    else:
        wire += b"Content-Length: %d\r\n\r\n" % len(body)
        if kind != "length":
            body = b""
        wire += body
    return Message(wire, body, kind == "head")


cuts = st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=12)


@steady
@given(messages(), cuts, st.integers(1, 4000), st.sampled_from([b"", b"H", b"HTTP/1.1 200 OK\r\n\r\n"]))
def test_any_split_of_a_response_gives_the_same(message: Message, cuts: list[int], room: int, more: bytes) -> None:
    sink = Collect(room)
    parser = new_parser(sink, to_head=message.to_head)
    response, left = feed(parser, split(message.wire + more, cuts))
    assert response is not None
    assert bytes(sink.data) == message.body
    assert response.received == len(message.body)
    assert response.body == b""
    assert (left > 0 or parser.surplus) == bool(more)


@steady
@given(messages(), cuts)
def test_any_split_collects_the_same_body(message: Message, cuts: list[int]) -> None:
    response, _ = feed(new_parser(to_head=message.to_head), split(message.wire, cuts))
    assert response is not None
    assert response.body == message.body


@steady
@given(st.binary(max_size=20_000), cuts, st.integers(1, 4000))
def test_any_split_of_a_body_that_ends_with_the_connection_gives_the_same(
    body: bytes, cuts: list[int], room: int
) -> None:
    sink = Collect(room)
    parser = new_parser(sink)
    assert feed(parser, split(b"HTTP/1.1 200 OK\r\n\r\n" + body, cuts)) == (None, 0)
    response = parser.ended()
    assert response is not None
    assert response.received == len(body)
    assert bytes(sink.data) == body
    assert set(sink.hints) <= {-1}


def outcome(data: bytes, cuts: Sequence[int], *, to_head: bool = False) -> tuple[Any, ...]:
    """What becomes of bytes: a response, nothing yet, or which error."""
    sink = Collect(100)
    parser = new_parser(sink, to_head=to_head)
    try:
        response, _ = feed(parser, split(data, cuts))
        response = response or parser.ended()
    except HTTPError as error:
        return (type(error),)
    if response is None:
        return "cut short", parser.begun, bytes(sink.data)
    return response.head.status, list(response.head.items()), bytes(sink.data), response.received


@steady
@given(messages(), st.data(), cuts, cuts)
def test_damaged_responses_end_the_same_in_any_split(
    message: Message, data: st.DataObject, one: list[int], other: list[int]
) -> None:
    wire = bytearray(message.wire)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(wire)))
        wire[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.one_of(
                st.binary(max_size=2), st.sampled_from([b"\r\n", b"\n", b"\r", b"0", b"f", b":", b" ", b"\0", b";"])
            )
        )
    assert outcome(bytes(wire), one, to_head=message.to_head) == outcome(bytes(wire), other, to_head=message.to_head)


noise = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.0 204 X\r\n",
                b"HTTP/1.1 100 C\r\n",
                b"\r\n",
                b"\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n",
                b"Connection: close\r\n",
                b"abc",
                b" x\r\n",
            ]
        ),
        max_size=20,
    ).map(b"".join),
)


@steady
@given(noise, cuts)
def test_no_bytes_raise_anything_but_this_rooms_errors(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, cuts) == outcome(data, [])


@steady
@given(messages(), st.data())
def test_a_response_cut_short_is_never_taken_as_whole(message: Message, data: st.DataObject) -> None:
    short = message.wire[: data.draw(st.integers(0, len(message.wire) - 1))]
    parser = new_parser(Collect(), to_head=message.to_head)
    assert feed(parser, [short])[0] is None
    assert parser.ended() is None
    assert parser.lost().stale == (not short)


@steady
@given(messages(), cuts, st.data())
async def test_a_sink_that_pauses_anywhere_gets_the_same(
    message: Message, cuts: list[int], data: st.DataObject
) -> None:
    pauses = data.draw(st.lists(st.booleans(), max_size=8))

    def pause() -> asyncio.Future[None] | None:
        return asyncio.get_running_loop().create_future() if pauses and pauses.pop() else None

    sink = Paced(pause, data.draw(st.integers(1, 2000)))
    parser = new_parser(sink, to_head=message.to_head)
    response = None
    for piece in split(message.wire, cuts):
        if response is None:
            response, _ = feed(parser, [piece])
        # Another piece may come while the sink is behind, as TLS layers bring it; so not every pause ends here.
        if parser.blocked is not None and data.draw(st.booleans()):
            parser.blocked.set_result(None)
            response = parser.unblock()
    while response is None:
        assert parser.blocked is not None
        parser.blocked.set_result(None)
        response = parser.unblock()
    assert bytes(sink.data) == message.body


@pytest.mark.parametrize("more", [0, 1])
def test_the_view_ends_one_byte_behind_the_body(more: int) -> None:
    """Which shows that the body ended, and is no part of it when something comes there."""
    sink = Collect(1000)
    parser = new_parser(sink)
    feed(parser, [b"HTTP/1.1 200 OK\r\nContent-Length: 1500\r\n\r\n" + b"x" * 200])
    assert len(parser.get_buffer()) == 1000
    parser.received(1000)
    assert len(parser.get_buffer()) == 301
    assert sink.hints == [1500, 1300, 300]
    response = parser.received(300 + more)
    assert response is not None
    assert response.received == len(sink.data) == 1500
    assert parser.surplus == bool(more)
    assert len(parser.get_buffer()) == HEAD_ROOM


def test_the_view_of_a_chunk_ends_with_the_chunk() -> None:
    parser = new_parser(Collect(1000))
    feed(parser, [CHUNKED + b"c8\r\n" + b"x" * 100])
    assert len(parser.get_buffer()) == 100


def test_bytes_that_nobody_asked_for_are_an_error() -> None:
    parser = new_parser()
    feed(parser, [b"HTTP/1.1 204 No Content\r\n\r\n"])
    with pytest.raises(ProtocolError):
        parser.received(1)


def test_a_whole_head_may_be_as_large_as_allowed_and_no_larger() -> None:
    start = b"HTTP/1.1 204 X\r\nA: "
    fitting = start + b"x" * (MAX_HEAD - len(start) - 4) + b"\r\n\r\n"
    for size in (1, 5000, MAX_HEAD):
        pieces = [fitting[at : at + size] for at in range(0, MAX_HEAD, size)]
        assert feed(new_parser(), pieces)[0] is not None
    for pieces in ([fitting[:20] + b"x" + fitting[20:]], [fitting[:20], b"x" * MAX_HEAD]):
        with pytest.raises(ProtocolError, match=f"more than {MAX_HEAD} bytes"):
            feed(new_parser(), pieces)


def test_a_head_that_came_whole_may_be_too_large_all_the_same() -> None:
    parser = ResponseParser(max_head=100, max_headers=20)
    parser.expect(Into(), answers_head=False, max_body=0)
    with pytest.raises(ProtocolError, match="more than 100 bytes"):
        feed(parser, [b"HTTP/1.1 204 X\r\nA: " + b"x" * 100 + b"\r\n\r\n"])


def test_too_many_fields_are_refused() -> None:
    assert feed(new_parser(), [b"HTTP/1.1 204 X\r\n" + b"A: b\r\n" * 20 + b"\r\n"])[0] is not None
    with pytest.raises(ProtocolError, match="more than 20 fields"):
        feed(new_parser(), [b"HTTP/1.1 204 X\r\n" + b"A: b\r\n" * 21 + b"\r\n"])


@pytest.mark.parametrize("start", [b"h", b"HTTP/2", b"HTTP/1.1 200 OK\n", b"SSH-2.0-x\r\n", b"\r\n", b"ICY 200 OK\r\n"])
def test_what_cannot_become_a_head_is_refused_without_waiting_for_more(start: bytes) -> None:
    for pieces in ([start], [start[i : i + 1] for i in range(len(start))]):
        with pytest.raises(ProtocolError):
            feed(new_parser(), pieces)


def test_a_tls_alert_is_named() -> None:
    with pytest.raises(ProtocolError, match="speaks TLS"):
        feed(new_parser(), [b"\x15\x03\x01\x00\x02\x02\x46"])


def test_interim_answers_are_skipped_but_not_for_ever() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    response, _ = feed(new_parser(), [interim * MAX_INTERIM + b"HTTP/1.1 204 X\r\n\r\n"])
    assert response is not None
    assert response.head.status == 204
    with pytest.raises(ProtocolError, match="too many"):
        feed(new_parser(), [interim * (MAX_INTERIM + 1)])
    with pytest.raises(ProtocolError, match="switch"):
        feed(new_parser(), [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"])


def test_interim_answers_count_as_bytes_of_the_response() -> None:
    parser = new_parser()
    feed(parser, [b"HTTP/1.1 100 Continue\r\n\r\n"])
    parser.get_buffer()
    assert not parser.lost().stale


def test_a_parser_takes_one_response_after_another() -> None:
    parser = new_parser()
    for _ in range(3):
        response, _ = feed(parser, [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"])
        assert response is not None
        assert response.body == b"ab"
        parser.expect(Into(), answers_head=False, max_body=10)
        assert not parser.begun


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("limit", [0, 1, 100, 70_000, 200_000])
def test_a_collected_body_has_its_limit(framing: str, limit: int) -> None:
    def collect(size: int) -> bytes:
        body = b"x" * size
        parser = new_parser(max_body=limit)
        if framing == "length":
            response, _ = feed(parser, [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, body])
        elif framing == "chunked":
            response, _ = feed(parser, [CHUNKED, b"%x\r\n%s\r\n" % (size, body) if size else b"", b"0\r\n\r\n"])
        else:
            feed(parser, [b"HTTP/1.1 200 OK\r\n\r\n", body])
            response = parser.ended()
        assert response is not None
        return response.body

    assert collect(limit) == b"x" * limit
    with pytest.raises(ResponseTooLarge, match=f"{limit} bytes"):
        collect(limit + 1)


def test_a_body_announced_too_large_is_refused_before_it_comes() -> None:
    with pytest.raises(ResponseTooLarge):
        feed(new_parser(max_body=10), [b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"])


def test_an_empty_buffer_never_reaches_the_loop() -> None:
    parser = new_parser(Collect(0))
    feed(parser, [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"])
    with pytest.raises(ValueError, match="empty buffer"):
        parser.get_buffer()


def test_an_abandoned_response_leaves_its_sink_alone() -> None:
    sink = Collect()
    parser = new_parser(sink)
    feed(parser, [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
    parser.abandon()
    parser.get_buffer()[:1] = b"c"
    assert bytes(sink.data) == b"ab"
    assert sink.hints == [5]
