"""A large body whose parts come at the same time: each is written in its place, the digest follows the beginning."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.cache import digests, files
from asyncfetch.cache.failures import explain, retry_on_full_disk
from asyncfetch.cache.sinks import PIECE, Body
from asyncfetch.cache.spill import create_file
from asyncfetch.errors import FetcherClosed, IntegrityError
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncfetch.cache.buffers import BufferPool
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.writers import Writers
    from asyncfetch.origins.checksums import Check
    from asyncfetch.settings import Digest

_AHEAD = 2  # pieces of a part on their way to the disk, beside the one being filled

PART_MEMORY = (_AHEAD + 1) * PIECE  # what one part may hold of memory

_WINDOW = MIB  # bytes read at a time for the digest; as large as where BLAKE3 is at its best


class PartedBody:
    """A body of known size in a temporary file, filled through `part` sinks in any order and at the same time.

    Any of the cache's writer threads writes any piece. One of them at a time hashes: a piece that comes in order while
    it is in memory, and what came early by reading it back, out of the page cache, once the digest gets there.

    Shared under the lock: how far the digest is (`_hashed`), the stretches written behind that (`_early`, by their
    beginning), whether a thread `_hashing` is at it, and the `_jobs` still to run. The digest in the making belongs to
    that thread; `_done` goes from threads to the loop, which has all else.
    """

    def __init__(
        self,
        size: int,
        owner: Owner,
        algorithm: Digest,
        writers: Writers,
        loop: asyncio.AbstractEventLoop,
        *,
        pool: BufferPool,
        windows: deque[memoryview],
        discard: Callable[[str], None],
        make_room: Callable[[int], bool],
        ended: Callable[[PartedBody], None],
        check: Check | None = None,
    ) -> None:
        """`windows` keeps memory to read back into, for all bodies; `ended` is called once this is whole or aborted.

        `make_room` is called, on a thread, when the disk is full, as for `Spill`. The whole body is held against
        `check`.
        """
        self._check = check
        self.size = size
        self._owner, self._algorithm, self._writers, self._loop = owner, algorithm, writers, loop
        self._pool, self._windows, self._discard, self._ended = pool, windows, discard, ended
        self._make_room = make_room
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._hasher = digests.new(algorithm)
        self._path = ""
        self._descriptor = -1
        self._hashed = 0
        self._hashing = self._aborted = False
        self._early: dict[int, int] = {}
        self._jobs = 0
        self._digest: str | None = None
        self._mismatch: IntegrityError | None = None  # told at the end: no part can help it
        self._failure: Exception | None = None
        self._done: deque[tuple[PartSink, memoryview]] = deque()
        self._told = False  # the loop has been called, and has not looked yet
        self._taken = 0  # bytes handed in
        self._waiter: asyncio.Future[None] | None = None

    def part(self, start: int, stop: int) -> PartSink:
        """A sink for bytes `start` to before `stop`. Each byte of the body is to come once, through one of them."""
        if not 0 <= start < stop <= self.size:
            raise ValueError(f"{start}:{stop} is no part of {self.size} bytes")
        return PartSink(self, start, stop)

    async def finish(self) -> Body:
        """Waits until all is written and hashed, and names the body. All parts must have been flushed.

        Raises `StorageFull`, `CacheUnusable` or `IntegrityError`. After that, or cancelled, it is still to be aborted.
        """
        if self._taken != self.size and self._failure is None:
            raise ValueError(f"{self._taken} of {self.size} bytes came")
        while self._failure is None:
            if self._mismatch is not None:
                raise self._mismatch
            if self._digest is not None:
                self._landed()  # it may have been seen before the call that tells of the last pieces
                digest, path, self._path = self._digest, self._path, ""
                self._ended(self)
                return Body(digest, self.size, path=path, release=functools.partial(self._discard, path))
            await self._wait()
        raise self._failure

    def abort(self) -> None:
        """Drops what there is, at the latest after the writes under way. At any moment, also again or after `finish`.

        A sink that is being filled keeps its buffer until it is closed.
        """
        if self._failure is None:  # for whoever waits here, or writes on, while somebody else aborts
            self._failure = FetcherClosed("A body was given up while its parts were written")
        with self._lock:
            self._aborted = True
            idle = self._jobs == 0
        if idle and self._path:
            self._writers.submit(self._drop)
        self._wake()
        self._ended(self)

    # What its parts call, on the loop.

    def take(self) -> memoryview:
        """Lends a buffer for a piece."""
        return self._pool.take(PIECE)

    def give(self, piece: memoryview) -> None:
        """Takes one back."""
        self._pool.give(piece)

    def put(self, sink: PartSink, piece: memoryview, count: int, offset: int) -> None:
        """Takes a piece whose first `count` bytes belong at `offset`."""
        self._taken += count
        with self._lock:
            self._jobs += 1
        self._writers.submit(functools.partial(self._work, sink, piece, count, offset))

    def new_future(self) -> asyncio.Future[None]:
        """A future of its loop."""
        return self._loop.create_future()

    def check(self) -> None:
        """Raises what writing failed with."""
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _landed(self) -> None:
        """On the loop, after a thread has got on."""
        self._told = False
        while self._done:
            sink, piece = self._done.popleft()
            self._pool.give(piece)
            sink.written()
        self._wake()

    # What threads do.

    def _work(self, sink: PartSink, piece: memoryview, count: int, offset: int) -> None:
        try:
            if self._failure is None:
                self._write(piece[:count], offset)
        except OSError as error:
            self._failure = explain(error, self._path)
        self._done.append((sink, piece))
        self._tell()
        try:
            while self._failure is None and (stretch := self._next_early()) is not None:
                self._read_back(*stretch)
        except OSError as error:
            self._failure = explain(error, self._path)
        with self._lock:
            self._jobs -= 1
            last = self._aborted and self._jobs == 0
        if last:
            self._drop()
        self._tell()

    def _write(self, data: memoryview, offset: int) -> None:
        with self._lock:
            in_order = offset == self._hashed  # then nobody hashes: each byte comes once
            self._hashing |= in_order
        try:
            self._store(data, offset)
        except OSError as error:
            again = functools.partial(self._store, data, offset)
            retry_on_full_disk(again, error, functools.partial(self._make_room, len(data)))
        if in_order:
            self._hash(data)
            self._hashed_up_to(offset + len(data))
        else:
            with self._lock:
                self._early[offset] = offset + len(data)

    def _store(self, data: memoryview, offset: int) -> None:
        files.write_at(self._open(), data, offset)

    def _open(self) -> int:
        with self._opening:
            if self._descriptor < 0:
                self._path = self._owner.new_path()
                self._path, self._descriptor = create_file(self._owner, self._path, readable=True)
            return self._descriptor

    def _next_early(self) -> tuple[int, int] | None:
        """Makes this thread the one that hashes, if there is something for it to do: what came early, joined up."""
        with self._lock:
            start = stop = self._hashed
            if self._hashing:
                return None
            while (end := self._early.pop(stop, None)) is not None:
                stop = end
            self._hashing = stop > start
            return (start, stop) if stop > start else None

    def _read_back(self, start: int, stop: int) -> None:
        try:
            window = self._windows.pop()
        except IndexError:
            window = memoryview(bytearray(_WINDOW))
        try:
            at = start
            while at < stop and self._failure is None:
                room = window[: stop - at]
                files.read_at(self._descriptor, room, at)
                self._hash(room)
                at += len(room)
        finally:
            self._windows.append(window)
        if at == stop:
            self._hashed_up_to(stop)

    def _hash(self, data: memoryview) -> None:
        self._hasher.update(data)
        if self._check is not None:
            self._check.update(data)

    def _hashed_up_to(self, stop: int) -> None:
        with self._lock:
            self._hashed, self._hashing = stop, False
        if stop == self.size:
            descriptor, self._descriptor = self._descriptor, -1
            files.close(descriptor)
            try:
                if self._check is not None:
                    self._check.verify()
            except IntegrityError as error:
                self._mismatch = error
            else:
                self._digest = f"{self._algorithm}:{self._hasher.hexdigest()}"

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop was closed over it: nobody is left to be told
                self._loop.call_soon_threadsafe(self._landed)

    def _drop(self) -> None:
        """Closes and removes the file, if there is one, without hiding why behind a second failure."""
        with self._opening:
            descriptor, self._descriptor = self._descriptor, -1
            path, self._path = self._path, ""
        with contextlib.suppress(OSError):
            if descriptor >= 0:
                files.close(descriptor)
        with contextlib.suppress(OSError):
            if path:
                files.remove(path)


class PartSink:
    """Takes the bytes of one part, in order, in as many attempts as that takes. Belongs to the loop's thread.

    `at` is where in the body the next byte belongs; `stop`, the end of the part, may be moved on. At most `PART_MEMORY`
    is held, provided that `drain` is asked before each `get_buffer`.
    """

    __slots__ = ("_body", "_buffer", "_filled", "_on_way", "_waiter", "at", "stop")

    def __init__(self, body: PartedBody, start: int, stop: int) -> None:
        self.at = start
        self.stop = stop
        self._body = body
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
        self._filled += count
        self.at += count
        if self._filled == len(buffer):
            self._hand_on()

    def drain(self) -> asyncio.Future[None] | None:
        """None when there is room, else a future to await first. Raises `StorageFull` or `CacheUnusable`."""
        self._body.check()
        return None if self._buffer is not None or self._on_way < _AHEAD else self._wait()

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
