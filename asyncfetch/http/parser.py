"""Responses out of bytes, without I/O: head, framing and body, in whatever pieces the bytes come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from asyncfetch.http.collected import Collected
from asyncfetch.http.errors import ConnectionLost, ProtocolError
from asyncfetch.http.head import CHUNKED, MAX_LENGTH, UNTIL_CLOSE, ResponseHead, is_field
from asyncfetch.http.receivers import LEAST

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncfetch.http.receivers import Intake
    from asyncfetch.http.sink import Sink

    # Has a thread receive up to so many bytes, into what the sink gives for it: a future to await, None for no.
    Lender = Callable[[Callable[[int], Intake | None], int], asyncio.Future[None] | None]

# First room for a head; what of the body comes with it is copied once. More room means fewer calls but more copying:
# from 8 KiB to 256 KiB a GET of 86 KB cost the same, so the least memory wins.
HEAD_ROOM: Final = 8 << 10
MAX_INTERIM: Final = 8  # 1xx answers before the real one; a server has reason for one or two
MAX_LINE: Final = 4 << 10  # a chunk's size with its extensions, or a trailer

IDLE, HEAD, BODY, CHUNK_SIZE, CHUNK_END, TRAILERS = range(6)

_CHUNK = re.compile(r"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_NOWHERE: Final = Collected(0, 0)  # stands for a sink where there is no body


class Taker(Protocol):
    """Who takes the head of a response."""

    def on_head(self, head: ResponseHead) -> Sink | None:
        """Gives a sink for the body, or None to have it collected."""
        ...


class Response(NamedTuple):
    """A whole response. `body` is empty where a sink took it; `received` is the bytes of the body either way."""

    head: ResponseHead
    body: bytes
    received: int


class ResponseParser:
    """Takes one connection's responses apart, one after another.

    For each response `expect` is called once, then `get_buffer` and `received` for each arrival of bytes, until
    `received` gives the whole response. Body bytes are received straight into the sink, in a view that ends with the
    body, or one byte behind it; those that came with the head, or with a chunk's size, are copied once.

    `lender`, if set, is offered what is large. `blocked` is the future that it, or the sink, wants awaited, else None.
    Bytes that come while that is set, as a TLS layer may still bring some, are kept; `unblock` goes on. `surplus` says
    that more bytes came than the last response has: it is whole, but the connection is in doubt. Where its last bytes
    filled the view there may be more that did not come yet.

    What `received`, `get_buffer` and `unblock` raise ends the connection: `ProtocolError`, `ResponseTooLarge`, or what
    the sink or `on_head` raised.
    """

    __slots__ = (
        "_answers_head",
        "_buffer",
        "_chunked",
        "_direct",
        "_drain",
        "_filled",
        "_head",
        "_intake",
        "_interim",
        "_left",
        "_max_body",
        "_max_head",
        "_max_headers",
        "_phase",
        "_received",
        "_room",
        "_scanned",
        "_sink",
        "_slack",
        "_start",
        "_taker",
        "blocked",
        "lender",
        "surplus",
    )

    def __init__(self, *, max_head: int, max_headers: int) -> None:
        self._max_head = max_head
        self._max_headers = max_headers
        self._buffer = bytearray(HEAD_ROOM)
        self._room = memoryview(self._buffer)
        self._start = self._filled = 0  # bytes that came and were not consumed lie from the one to the other
        self._scanned = 0  # up to here there is no end of a head
        self._phase = IDLE
        self._taker: Taker | None = None
        self._answers_head = False
        self._max_body = 0
        self._interim = 0  # 1xx answers so far
        self._head: ResponseHead | None = None
        self._sink: Sink = _NOWHERE
        self._drain: Callable[[], asyncio.Future[None] | None] | None = None
        self._intake: Callable[[int], Intake | None] | None = None  # of a sink that a lender may fill
        self._direct = False  # the next bytes go straight into the sink
        self._chunked = False
        self._received = 0  # the body's length as far as it is known: announced, or the sum of the chunks begun
        self._left = 0  # of the body, or of a chunk; MAX_LENGTH less what came, where only the end will tell
        self._slack = 0  # what a chunked body's framing may still cost
        self.lender: Lender | None = None
        self.blocked: asyncio.Future[None] | None = None
        self.surplus = False

    def expect(self, taker: Taker, *, answers_head: bool, max_body: int) -> None:
        """Begins the next response. `taker` gets its head; a body to collect has `max_body` bytes at most."""
        self._phase = HEAD
        self._taker = taker
        self._answers_head = answers_head
        self._max_body = max_body
        self._interim = 0
        self._start = self._filled = self._scanned = 0

    @property
    def begun(self) -> bool:
        """Whether any byte of the response under way has come."""
        return self._phase > HEAD or self._filled > 0 or self._interim > 0

    @property
    def progress(self) -> str:
        """How far the response under way has come, for messages."""
        if not self.begun:
            return "before the response"
        if self._phase == HEAD or self._head is None:
            return "within the head"
        if self._chunked:
            return f"within a chunked body, after {self._received - self._left} bytes"
        if self._received:
            return f"after {self._received - self._left} of {self._received} bytes"
        return f"after {MAX_LENGTH - self._left} bytes of a body that ends with the connection"

    def get_buffer(self) -> memoryview:
        """Gives room for the next bytes, never empty."""
        if self._direct:
            return self._sink_room()
        if self._start == self._filled:
            self._start = self._filled = self._scanned = 0
        elif self._filled == len(self._buffer):
            self._make_room()
        return self._room[self._filled :]

    def received(self, count: int) -> Response | None:
        """Takes the first `count` bytes of the room given last as come. Gives the response once it is whole."""
        if not self._direct:
            self._filled += count
            return self._consume() if self.blocked is None else None
        left = self._left - count
        if left > 0:
            self._sink.advance(count)
            self._left = left
            if self._drain is not None:
                self._direct = self._ready()
            return None
        self._sink.advance(self._left)
        self._left = 0
        self._direct = False
        self.surplus = left < 0
        return self._consume() if self._chunked else self._complete()

    def brought(self, count: int) -> None:
        """Takes note that a thread has put the next `count` bytes of the body where the sink wanted them."""
        self._left -= count

    def unblock(self) -> Response | None:
        """Goes on after `blocked` was awaited. Gives the response if it is whole."""
        self.blocked = None
        return self._consume()

    def ended(self) -> Response | None:
        """Takes note that the server ended its side in good order. Gives the response if that makes it whole."""
        if self._phase != BODY or self._chunked or self._received:
            return None
        self._received = MAX_LENGTH - self._left
        return self._complete()

    def lost(self) -> ConnectionLost:
        """The error of a connection that ended in the middle of a response."""
        return ConnectionLost(self.progress, stale=not self.begun)

    def abandon(self) -> None:
        """Lets go of the response under way, and of the caller's objects: the sink is not touched again."""
        self._phase, self._direct = IDLE, False
        self._sink, self._taker, self._drain, self._head, self.blocked = _NOWHERE, None, None, None, None
        self._intake = None

    def _consume(self) -> Response | None:
        while True:
            if self._phase == HEAD:
                head = self._take_head()
                if head is None:
                    return None
                if not self._begin_body(head):
                    return self._complete()
            elif self._phase == BODY:
                if not self._pour():
                    return None
                if not self._chunked:
                    return self._complete()
                self._phase = CHUNK_END
            elif self._phase == IDLE:
                raise ProtocolError("bytes that belong to no response")
            else:
                line = self._take_line()
                if line is None:
                    return None
                if self._take_framing(line):
                    return self._complete()

    def _take_head(self) -> ResponseHead | None:
        """The final head, once it is there; interim ones are skipped."""
        while True:
            end = self._buffer.find(b"\r\n\r\n", self._scanned, self._filled)
            if end < 0:
                self._check_beginning()
                return None
            end += 4
            if end - self._start > self._max_head:
                raise ProtocolError(f"a head of more than {self._max_head} bytes")
            text = str(self._room[self._start : end], "latin-1")
            # The shortest field has four bytes, so most heads need no counting.
            if len(text) > 4 * self._max_headers and text.count("\r\n") - 2 > self._max_headers:
                raise ProtocolError(f"more than {self._max_headers} fields in a head")
            head = ResponseHead(text)
            self._start = self._scanned = end
            if head.status >= 200:
                return head
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise ProtocolError(
                    "a protocol switch nobody asked for" if head.status == 101 else "too many 1xx answers"
                )

    def _check_beginning(self) -> None:
        """Refuses what can no longer become a head, rather than wait for more of it."""
        size = self._filled - self._start
        if self._buffer[self._start : self._start + min(size, 7)] != b"HTTP/1."[:size]:
            raise ProtocolError(_no_http(bytes(self._room[self._start : min(self._filled, self._start + 40)])))
        if _BARE_LF.search(self._buffer, self._scanned, self._filled):
            raise ProtocolError("a line of the head ends with LF alone")
        if size >= self._max_head:
            raise ProtocolError(f"a head of more than {self._max_head} bytes")
        self._scanned = max(self._start, self._filled - 3)  # the end of a head may have begun

    def _begin_body(self, head: ResponseHead) -> bool:
        """Finds the framing and asks for a sink. False when there is no body."""
        length = head.body_length(to_head=self._answers_head)
        self._head = head
        self._received = max(length, 0)
        self._left = 0
        assert self._taker is not None
        sink = self._taker.on_head(head)
        if length == 0:
            return False
        if sink is None:
            sink = Collected(length, self._max_body)
        self._sink = sink
        self._drain = getattr(sink, "drain", None)
        self._chunked = length == CHUNKED
        if self._chunked:
            self._phase, self._slack = CHUNK_SIZE, self._max_head
        else:
            self._phase, self._left = BODY, MAX_LENGTH if length == UNTIL_CLOSE else length
            if length >= LEAST and self.lender is not None:
                self._intake = getattr(sink, "intake", None)
        return True

    def _pour(self) -> bool:
        """Copies what came of the body with other things into the sink. True when this piece of the body is whole."""
        while self._left:
            if self._drain is not None and not self._ready():
                return False
            if self._start == self._filled:
                self._direct = True
                return False
            room = self._sink_room()
            count = min(len(room), self._filled - self._start, self._left)
            room[:count] = self._room[self._start : self._start + count]
            self._sink.advance(count)
            self._start += count
            self._left -= count
        return True

    def _ready(self) -> bool:
        """Whether the sink can take more at once, from here; if not, `blocked` is set."""
        if self._drain is not None:
            self.blocked = self._drain()
        if self._intake is not None and self.blocked is None:
            self._offer()
        return self.blocked is None

    def _offer(self) -> None:
        """Has a thread receive what is to come, if it is much and nothing of it is here."""
        assert self._intake is not None
        if self.lender is not None and self._left >= LEAST and self._start == self._filled:
            self.blocked = self.lender(self._intake, self._left)

    def _sink_room(self) -> memoryview:
        left = self._left
        # A chunk's end is not the body's, and MAX_LENGTH stands for an end nobody knows.
        if self._chunked or not self._received:
            room, most = self._sink.get_buffer(-1), left
        else:
            # One byte beyond the end, where the sink has it: a room that is filled just so has libuv ask the system
            # once more, in vain.
            room, most = self._sink.get_buffer(left), left + 1
        size = len(room)
        if size > most:
            return room[:most]
        if not size:
            raise ValueError("a sink gave an empty buffer")  # which would hang the loop's TLS layer without a word
        return room

    def _take_line(self) -> str | None:
        """The next line of a chunked body's framing without its end, or None while it is incomplete."""
        end = self._buffer.find(b"\n", self._start, self._filled)
        if (end if end >= 0 else self._filled) - self._start > MAX_LINE:
            raise ProtocolError(f"a line of more than {MAX_LINE} bytes between chunks")
        if end < 0:
            return None
        line = str(self._room[self._start : end + 1], "latin-1")
        if not line.endswith("\r\n"):
            raise ProtocolError("a line between chunks ends with LF alone")
        self._start = end + 1
        return line[:-2]

    def _take_framing(self, line: str) -> bool:
        """Takes one line of a chunked body's framing (RFC 9112, section 7.1). True when it was the last."""
        self._slack -= len(line) + 2
        if self._phase == CHUNK_END:
            if line:
                raise ProtocolError("a chunk longer than its size")
            self._phase = CHUNK_SIZE
        elif self._phase == TRAILERS:
            if not line:
                return True
            if not is_field(line):
                raise ProtocolError("not a trailer field")
        else:
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise ProtocolError(f"not a chunk size: {line[:40]!a}")
            size = int(found[1], 16)
            self._received += size
            if self._received > MAX_LENGTH:
                raise ProtocolError(f"a chunk of {size} bytes")
            # Framing may cost as much as a sane server spends; one that sends mostly extensions or trailers is refused.
            self._slack = min(self._slack + 16 + 2 * size, self._max_head) if size else self._slack
            self._phase, self._left = (BODY, size) if size else (TRAILERS, 0)
        if self._slack < 0:
            raise ProtocolError("a chunked body with more framing than content")
        return False

    def _complete(self) -> Response:
        sink, head = self._sink, self._head
        assert head is not None
        self.surplus |= self._start < self._filled
        self.abandon()
        return Response(head, sink.take() if isinstance(sink, Collected) else b"", self._received)

    def _make_room(self) -> None:
        """Moves what is not consumed to the front, into more memory where it fills what there is."""
        waiting = bytes(self._room[self._start : self._filled])
        if self._start == 0:
            self._buffer = bytearray(2 * len(self._buffer))
            self._room = memoryview(self._buffer)
        self._room[: len(waiting)] = waiting
        self._start, self._filled, self._scanned = 0, len(waiting), max(0, self._scanned - self._start)


def _no_http(start: bytes) -> str:
    if start[:2] in (b"\x15\x03", b"\x16\x03"):  # the record types alert and handshake, RFC 8446, section 5.1
        return "the server speaks TLS, the request did not"
    return f"not a status line: {start.decode('latin-1')!a}"
