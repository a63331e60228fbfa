"""The sink of one part of a large body."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from asyncfetch.cache.intake import Intake
from asyncfetch.cache.sinks import PIECE

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.cache.parts import PartedBody

_AHEAD = 2  # pieces of a part on their way to the disk, beside the one being filled

PART_MEMORY = (_AHEAD + 1) * PIECE  # what one part may hold of memory


class Arrivals:
    """What came of objects in parts since a cache was opened: how many bytes, and in how many reads that took all there
    was. For any thread.
    """

    __slots__ = ("_lock", "bytes", "reads")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bytes = self.reads = 0

    def add(self, count: int, room: int) -> None:
        """Counts a read of so many bytes into so much room."""
        with self._lock:
            self.bytes += count
            self.reads += count < room


class PartSink:
    """Takes the bytes of one part, in order, in as many attempts as that takes. Belongs to the loop's thread.

    `at` is where in the body the next byte belongs; `stop`, the end of the part, may be moved on. At most `PART_MEMORY`
    is held, provided that `drain` is asked before each `get_buffer`.
    """

    __slots__ = ("_arrivals", "_body", "_buffer", "_filled", "_on_way", "_waiter", "at", "stop")

    def __init__(self, body: PartedBody, start: int, stop: int, arrivals: Arrivals) -> None:
        self.at = start
        self.stop = stop
        self._body = body
        self._arrivals = arrivals
        self._buffer: memoryview | None = None
        self._filled = 0
        self._on_way = 0  # pieces
        self._waiter: asyncio.Future[None] | None = None

    def get_buffer(self, hint: int) -> memoryview:
        """Room for the next bytes, never empty, nor beyond the end of the part. Dead after the next call.

        Raises `ValueError` when the part is whole.
        """
        left = self.stop - self.at
        if left <= 0:
            raise ValueError("this part is whole")
        if self._buffer is None:
            self._buffer = self._body.take()
        return self._buffer[self._filled : self._filled + (min(left, hint) if hint > 0 else left)]

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of the room given last as written. Raises `ValueError` for more."""
        buffer = self._buffer
        if buffer is None or not 0 <= count <= min(len(buffer) - self._filled, self.stop - self.at):
            raise ValueError(f"{count} bytes were not written into this part")
        self._arrivals.add(count, min(len(buffer) - self._filled, self.stop - self.at))
        self._filled += count
        self.at += count
        if self._filled == len(buffer):
            self._hand_on()

    def drain(self) -> asyncio.Future[None] | None:
        """None when there is room, else a future to await first. Raises `StorageFull` or `CacheUnusable`."""
        self._body.check()
        return None if self._buffer is not None or self._on_way < _AHEAD else self._wait()

    def intake(self, left: int) -> Intake:
        """Where a thread puts the next bytes, `left` of them, as far as the part goes; see `http.Intake`.

        Raises `ValueError` when the part is whole.
        """
        left = min(left, self.stop - self.at)
        if left <= 0:
            raise ValueError("this part is whole")
        buffer = self._buffer = self._buffer or self._body.take()
        began = self.at - self._filled
        intake = Intake(
            buffer,
            self._filled,
            left,
            began,
            write=self._body.write,
            over=functools.partial(self._returned, began),
            arrivals=self._arrivals,
        )
        self._body.lend()
        self._buffer, self._filled = None, 0  # no signal comes between this and that: the memory has one owner
        self._on_way += 1
        return intake

    async def flush(self) -> None:
        """Hands on what there is and waits until it is written, so that the part holds no memory.

        To be called when nothing is read into it any more; another attempt may then go on where this one ended. Raises
        `StorageFull` or `CacheUnusable`.
        """
        if self._filled:
            self._hand_on()
        self.close()
        while self._on_way:
            await self._wait()
        self._body.check()

    def close(self) -> None:
        """Drops the piece that is being filled, when nothing is read into it any more and its body is given up."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self.at -= self._filled
            self._filled = 0
            self._body.give(buffer)

    def written(self) -> None:
        """A piece of it has left memory."""
        self._on_way -= 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _returned(self, began: int, intake: Intake, buffer: memoryview) -> None:
        """On the thread that has received."""
        self.at = intake.at
        self._body.give_back(self, buffer, intake.at - began)

    def _wait(self) -> asyncio.Future[None]:
        if self._waiter is None or self._waiter.done():
            self._waiter = self._body.new_future()
        return self._waiter

    def _hand_on(self) -> None:
        buffer, self._buffer = self._buffer, None
        assert buffer is not None
        count, self._filled = self._filled, 0
        self._on_way += 1
        self._body.put(self, buffer, count, self.at - count)
