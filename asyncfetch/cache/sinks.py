"""Where an origin's bytes go: into one buffer when a body is small, else through a few pieces into a file."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.changes import split
from asyncfetch.cache.digests import digest_of
from asyncfetch.cache.intake import Intake
from asyncfetch.cache.spill import PIECES
from asyncfetch.origins import check_of
from asyncfetch.settings import KIB, MIB

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncfetch.cache.buffers import BufferPool
    from asyncfetch.cache.spill import Spill
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins import Sink
    from asyncfetch.origins.checksums import Check
    from asyncfetch.settings import Digest

    # Gets what an origin says of an object, and at which of its bytes the body begins; may give another sink for it.
    OnHead = Callable[[ObjectStat, int], Sink | None]

# The most that is kept in memory whole and hashed on the loop, where BLAKE3 of 1 MiB takes 0.1 ms.
SMALL = MIB
PIECE = 512 * KIB  # of 256 KiB, hand-overs between threads took a tenth more CPU; of 1 MiB, no less than this

# What one body may hold of memory, whatever its size; a buffer's size class may add a quarter to a smaller one.
BODY_MEMORY = max(SMALL, PIECES * PIECE)


_ENDED = "this sink has ended; a body of another attempt takes another sink"


class Body:
    """A whole body: bytes in memory (`view`) or a temporary file (`path`), and their digest, `"blake3:<hex>"`.

    Whoever has it either hands it to the cache, which takes it over, or releases it.
    """

    __slots__ = ("_release", "digest", "held", "name", "path", "size", "view")

    def __init__(
        self, digest: str, size: int, release: Callable[[], None], view: memoryview | None = None, path: str = ""
    ) -> None:
        self.digest = digest
        self.name = split(digest)  # the same for the index
        self.size = size
        self.view = view
        self.path = path
        self.held = 0 if view is None else size  # bytes of it in memory
        self._release: Callable[[], None] | None = release

    def hand_over(self) -> Callable[[], None]:
        """Gives the duty to release it away. Raises `ValueError` when it was released or given away before."""
        release, self._release = self._release, None
        if release is None:
            raise ValueError("the body was released or handed over before")
        return release

    def release(self) -> None:
        """Gives its memory back, or removes its file; `view` and `path` mean nothing then. May be called twice."""
        release, self._release = self._release, None
        if release is not None:
            release()


class SinkParts(NamedTuple):
    """What sinks are made of; the cache gives it."""

    pool: BufferPool
    algorithm: Digest
    begin_spill: Callable[[Check | None], Spill]
    discard: Callable[[str], None]


class BodySink:
    """Takes one body on its way into the cache. Belongs to the loop's thread.

    A body whose length is announced and at most `SMALL` lies in one buffer of about that size. Others fill pieces of
    512 KiB, which threads hash and write to a temporary file while the next are filled; one that ends within its first
    piece stays in memory. At most `BODY_MEMORY` is held, provided that `drain` is asked before each `get_buffer`.

    Where the origin tells a checksum, it is computed where the digest is.
    """

    __slots__ = ("_buffer", "_check", "_ended", "_filled", "_on_head", "_on_length", "_parts", "_size", "_spill")

    def __init__(
        self, parts: SinkParts, on_length: Callable[[int], None] | None = None, on_head: OnHead | None = None
    ) -> None:
        """`on_length` is called once, with the body's length as soon as it is known: announced, or counted at the end.

        What it raises goes through `get_buffer`, before any memory is taken, or through `finish`. `on_head` is called
        first of all, by origins that know so early what comes; if it gives another sink this one stays empty.
        """
        self._parts = parts
        self._on_length = on_length
        self._on_head = on_head
        self._buffer: memoryview | None = None
        self._filled = 0  # bytes of the buffer
        self._size = 0  # bytes handed on before it, or put into what a thread had
        self._spill: Spill | None = None
        self._check: Check | None = None
        self._ended = False

    def begin(self, stat: ObjectStat, start: int) -> Sink:
        """Tells `on_head` what is about to come, and gives the sink that it wants this to go to."""
        if stat.checksum is not None:
            self._check = check_of(stat)
        return self if self._on_head is None else self._on_head(stat, start) or self

    def get_buffer(self, hint: int) -> memoryview:
        """Room for the next bytes, never empty. It may be longer than `hint`. Dead after the next call."""
        buffer = self._buffer
        if buffer is None:
            return self._first(hint)
        filled = self._filled
        if filled == len(buffer):
            self._hand_on(buffer)
            buffer = self._buffer = self._parts.pool.take(PIECE)
            return buffer
        return buffer[filled:]

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of the room given last as written. Raises `ValueError` for more."""
        filled = self._filled + count
        if self._buffer is None or not self._filled <= filled <= len(self._buffer):
            raise ValueError(f"{count} bytes were not written into this sink")
        self._filled = filled

    def drain(self) -> asyncio.Future[None] | None:
        """None when there is room, else a future to await first. Raises `StorageFull` or `CacheUnusable`."""
        if self._spill is None or self._buffer is None or self._filled < len(self._buffer):
            return None
        return self._spill.room()

    def intake(self, left: int) -> Intake | None:
        """Where a thread puts the next `left` bytes; see `http.Intake`.

        None for a body that stays in memory, and while pieces of it that came otherwise are on their way to the disk.
        """
        if self._ended or (self._spill is None and self._filled + left <= SMALL):
            return None
        if self._on_length is not None:
            told, self._on_length = self._on_length, None
            told(self._filled + left)
        spill = self._spill = self._spill or self._parts.begin_spill(self._check)
        buffer = self._buffer = self._buffer or self._parts.pool.take(PIECE)
        if self._filled == len(buffer):
            return None

        def over(intake: Intake, buffer: memoryview) -> None:
            self._size = intake.at
            spill.give_back(buffer)

        intake = Intake(buffer, self._filled, left, self._size, write=lambda data, at: spill.write(data), over=over)
        if not spill.lend():
            return None
        self._buffer, self._filled = None, 0  # no signal comes between this and that: the memory has one owner
        return intake

    async def finish(self) -> Body:
        """Ends the body and names it. One that stayed in memory is hashed here and now, without waiting.

        Raises `StorageFull` or `CacheUnusable`, and `IntegrityError` where the origin's checksum is of other bytes.
        After that, or cancelled, the sink is still to be aborted.
        """
        if self._ended:
            raise ValueError(_ENDED)
        parts, buffer, spill, filled = self._parts, self._buffer, self._spill, self._filled
        if self._on_length is not None:
            told, self._on_length = self._on_length, None
            told(self._size + filled)
        if spill is None:
            buffer = buffer or parts.pool.take(0)
            view = buffer[:filled]
            if self._check is not None:
                self._check.update(view)
                self._check.verify()
            body = Body(digest_of(view, parts.algorithm), filled, functools.partial(parts.pool.give, buffer), view)
        else:
            if buffer is not None:
                self._hand_on(buffer)
                self._buffer = None
            digest, path = await spill.seal()
            body = Body(digest, self._size, functools.partial(parts.discard, path), path=path)
        self._ended, self._buffer, self._spill = True, None, None
        return body

    def abort(self) -> None:
        """Drops what was taken: memory comes back, no file stays. At any moment, also again or after `finish`."""
        buffer, self._buffer = self._buffer, None
        spill, self._spill = self._spill, None
        self._ended = True
        if buffer is not None:
            self._parts.pool.give(buffer)
        if spill is not None:
            spill.abort()

    def _first(self, hint: int) -> memoryview:
        if self._ended:
            raise ValueError(_ENDED)
        if hint >= 0 and self._on_length is not None:
            told, self._on_length = self._on_length, None
            told(hint)
        # One byte more than is to come tells a body that ends there from one that goes on, without another look.
        buffer = self._buffer = self._parts.pool.take(hint + 1 if 0 <= hint <= SMALL else PIECE)
        return buffer

    def _hand_on(self, buffer: memoryview) -> None:
        if self._spill is None:
            self._spill = self._parts.begin_spill(self._check)
        self._spill.put(buffer, self._filled)
        self._size += self._filled
        self._filled = 0


# Bytes that are taken for a body because its length is announced; more is taken as it comes, for a server may lie.
_BELIEVED = 64 * MIB


class MemorySink:
    """Collects a body, or a range of one, into `bytes`. Nothing of it touches the disk. Belongs to the loop's thread.

    When the length is announced the origin writes straight into what becomes the result. Without that, and beyond it or
    64 MiB, bytes are copied once more.
    """

    __slots__ = ("_announced", "_begun", "_check", "_filled", "_on_length", "_piece", "_rest", "_room")

    def __init__(self, *, on_length: Callable[[int], None] | None = None) -> None:
        """`on_length` is as for `BodySink`: raise in it to refuse a body before memory is taken for it."""
        self._on_length = on_length
        self._check: Check | None = None
        self._begun = False
        self._announced = io.BytesIO()
        self._room = memoryview(b"")  # the memory of `_announced`, its first `_filled` bytes written
        self._filled = 0
        self._rest = io.BytesIO()
        self._piece = memoryview(b"")  # on the way to `_rest`

    def begin(self, stat: ObjectStat, start: int) -> Sink:
        """Takes note of the checksum, where the origin tells one."""
        self._check = check_of(stat)
        return self

    def get_buffer(self, hint: int) -> memoryview:
        """Room for the next bytes, never empty, nor longer than a `hint` above 0. Dead after the next call."""
        if not self._begun:
            self._begin(hint)
        start = self._filled
        if start < len(self._room):
            return self._room[start : start + hint] if hint > 0 else self._room[start:]
        if not self._piece:
            self._piece = memoryview(bytearray(PIECE))
        return self._piece[:hint] if hint > 0 else self._piece

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of the room given last as written. Raises `ValueError` for more."""
        straight = self._filled < len(self._room)
        if not 0 <= count <= (len(self._room) - self._filled if straight else len(self._piece)):
            raise ValueError(f"{count} bytes were not written into this sink")
        if straight:
            self._filled += count
        else:
            self._rest.write(self._piece[:count])

    def finish(self) -> bytes:
        """Ends the body and returns it. Raises `IntegrityError` where the origin's checksum is of other bytes."""
        self._tell(self._filled + self._rest.tell())
        announced, self._room = self._announced, memoryview(b"")
        try:
            announced.truncate(self._filled)
        except BufferError:  # somebody still holds a view: what is given away must not change under it
            value = bytes(announced.getbuffer()[: self._filled])
        else:
            value = announced.getvalue()
        if self._rest.tell():
            value += self._rest.getvalue()
        if self._check is not None:
            self._check.update(memoryview(value))
            self._check.verify()
        return value

    def _begin(self, length: int) -> None:
        if length >= 0:
            self._tell(length)
        if length > 0:
            # One byte at the end makes room for all; what getvalue() gives later is this memory, not a copy.
            self._announced.seek(min(length, _BELIEVED) - 1)
            self._announced.write(b"\0")
            self._room = self._announced.getbuffer()
        self._begun = True

    def _tell(self, length: int) -> None:
        if self._on_length is not None:
            told, self._on_length = self._on_length, None
            told(length)
