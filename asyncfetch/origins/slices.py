"""Sinks in front of a sink, for answers that hold more than was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.origins.base import pacing

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.origins.base import Sink

_ROOM = 64 << 10  # bytes; what is thrown away goes through one buffer
_WORTH = 1 << 20  # bytes that are dropped for a connection's sake: 10 ms at 100 MB/s, some handshakes' worth
_EXCERPT = 64 << 10  # bytes kept of an error document; S3's have some hundred


class Enough(Exception):
    """Raised by what takes an answer when it has all it wants: the rest of the body is not waited for."""


class Discard:
    """Takes a body and keeps nothing. Raises `Enough` where a new connection costs less than the rest of it."""

    __slots__ = ("_dropped", "_room")

    def __init__(self) -> None:
        self._dropped = 0
        self._room = memoryview(bytearray(_ROOM))

    def get_buffer(self, hint: int) -> memoryview:
        """The same room each time."""
        return self._room

    def advance(self, count: int) -> None:
        """Forgets what was written."""
        self._dropped += count
        if self._dropped >= _WORTH:
            raise Enough


class Excerpt:
    """Keeps the first 64 KiB of a body, and raises `Enough` then: it may have no end."""

    __slots__ = ("_kept", "_room")

    def __init__(self) -> None:
        self._kept = b""
        self._room: memoryview | None = None

    @property
    def data(self) -> bytes:
        """What was kept."""
        return self._kept

    def get_buffer(self, hint: int) -> memoryview:
        """The same room each time."""
        if self._room is None:
            self._room = memoryview(bytearray(_ROOM if hint < 0 else min(hint, _ROOM)))
        return self._room

    def advance(self, count: int) -> None:
        """Keeps what was written, as far as it belongs to the beginning."""
        if self._room is not None:
            self._kept += self._room[: min(count, _EXCERPT - len(self._kept))]
        if len(self._kept) >= _EXCERPT:
            raise Enough


class Slice:
    """Passes bytes `first` to before `last` of a body on to a sink (`last` None: to the end), and drops the others."""

    __slots__ = ("_at", "_drain", "_first", "_last", "_passing", "_room", "_sink")

    def __init__(self, sink: Sink, first: int, last: int | None) -> None:
        self._sink = sink
        self._drain = pacing(sink)
        self._first = first
        self._last = last
        self._at = 0
        self._room = memoryview(bytearray(_ROOM))
        self._passing = False

    def get_buffer(self, hint: int) -> memoryview:
        """Room that ends where the slice begins or ends."""
        if self._at < self._first:
            self._passing = False
            return self._room[: self._first - self._at]
        if self._last is not None and self._at >= self._last:
            self._passing = False
            return self._room
        self._passing = True
        if self._last is None:
            return self._sink.get_buffer(hint)
        left = self._last - self._at
        return self._sink.get_buffer(left)[:left]

    def advance(self, count: int) -> None:
        """Takes what was written."""
        self._at += count
        if self._passing:
            self._sink.advance(count)

    def drain(self) -> asyncio.Future[None] | None:
        """Waits for the sink behind."""
        return self._drain()
