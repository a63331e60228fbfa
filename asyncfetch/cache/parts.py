"""A large body whose parts come at the same time: each is written in its place, the digest follows the beginning."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.cache import digests, files
from asyncfetch.cache.buffers import new_memory
from asyncfetch.cache.failures import explain, retry_on_full_disk
from asyncfetch.cache.partsink import PartSink
from asyncfetch.cache.sinks import PIECE, Body
from asyncfetch.errors import FetcherClosed, IntegrityError
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.buffers import BufferPool
    from asyncfetch.cache.partfile import PartFile
    from asyncfetch.cache.partmap import Stretch
    from asyncfetch.cache.partsink import Arrivals
    from asyncfetch.cache.writers import Writers
    from asyncfetch.origins.checksums import Check
    from asyncfetch.settings import Digest

_WINDOW = MIB  # bytes read at a time for the digest; as large as where BLAKE3 is at its best


class PartsLost(Exception):
    """Raised when bytes of a body that were on the disk are not there to be read, or have been taken away."""


class PartedBody:
    """A body of known size in a temporary file, filled through `part` sinks in any order and at the same time.

    It may begin with what an earlier attempt has left: `opening` says when that is known, and then `present` what it
    is. Its digest is of what is read back of it now, as of all that comes early.

    Any of the cache's writer threads writes any piece, and who receives a part that is lent writes what comes. One of
    them at a time hashes: a piece that comes in order while
    it is in memory, and what came early by reading it back, out of the page cache, once the digest gets there.

    Shared under the lock: how far the digest is (`_hashed`), the stretches written behind that (`_early`, by their
    beginning), whether a thread `_hashing` is at it, the `_jobs` still to run, and how many parts threads that receive
    have given `_back`. The digest in the making belongs to the thread that hashes; `_done` goes from threads to the
    loop, which has all else, and counts how many it has `_lent`.
    """

    def __init__(
        self,
        size: int,
        file: PartFile,
        algorithm: Digest,
        writers: Writers,
        loop: asyncio.AbstractEventLoop,
        *,
        pool: BufferPool,
        windows: deque[memoryview],
        arrivals: Arrivals,
        discard: Callable[[str], None],
        make_room: Callable[[int], bool],
        ended: Callable[[PartedBody], None],
        left: Callable[[], None],
        check: Check | None = None,
    ) -> None:
        """`windows` keeps memory to read back into, and `arrivals` counts what comes, for all bodies.

        `ended` is called when this is whole or aborted. `make_room` is called, on a thread, when the disk is full, as
        for `Spill`, and `left` when what came was left to another attempt. The whole body is held against `check`.
        """
        self._check = check
        self.size = size
        self._file, self._algorithm, self._writers, self._loop = file, algorithm, writers, loop
        self._pool, self._windows, self._arrivals = pool, windows, arrivals
        self._discard, self._ended = discard, ended
        self._make_room, self._left = make_room, left
        self._lock = threading.Lock()
        self._hasher = digests.new(algorithm)
        self._hashed = 0
        self._hashing = self._aborted = False
        self._over = self._of_use = False
        self._early: dict[int, int] = {}
        self._jobs = self._lent = self._back = 0
        self._present: Sequence[Stretch] | None = None
        self._path = ""  # of the whole body
        self._digest: str | None = None
        self._mismatch: IntegrityError | None = None  # told at the end: no part can help it
        self._failure: Exception | None = None
        self._done: deque[tuple[PartSink, memoryview, int]] = deque()  # with the bytes not yet counted in `_taken`
        self._told = False  # the loop has been called, and has not looked yet
        self._taken = 0  # bytes handed in
        self._waiter: asyncio.Future[None] | None = None
        if file.lasting:
            self._jobs = 1
            writers.submit(self._begin)
        else:
            self._present = ()

    def opening(self) -> asyncio.Future[None] | None:
        """None when it is known what is there already, else a future to await first. Raises `FetcherClosed`."""
        self.check()
        return self._wait() if self._present is None else None

    @property
    def present(self) -> Sequence[Stretch]:
        """The bytes that are there already, which are not to come again."""
        return self._present or ()

    @property
    def writing(self) -> bool:
        """Whether bytes are on their way to the disk, or read back for the digest."""
        return self._jobs > 0

    def part(self, start: int, stop: int) -> PartSink:
        """A sink for bytes `start` to before `stop`. Each byte of the body is to come once, through one of them."""
        if not 0 <= start < stop <= self.size:
            raise ValueError(f"{start}:{stop} is no part of {self.size} bytes")
        return PartSink(self, start, stop, self._arrivals)

    async def finish(self) -> Body:
        """Waits until all is written and hashed, and names the body. All parts must have been flushed.

        Raises `StorageFull`, `CacheUnusable`, `IntegrityError` or `PartsLost`. After that, or cancelled, it is still to
        be aborted.
        """
        if self._taken != self.size and self._failure is None:
            raise ValueError(f"{self._taken} of {self.size} bytes came")
        while self._failure is None:
            if self._mismatch is not None:
                raise self._mismatch
            if self._digest is not None:
                self._landed()  # it may have been seen before the call that tells of the last pieces
                digest, path, self._path = self._digest, self._path, ""
                self._over = True
                self._ended(self)
                return Body(digest, self.size, functools.partial(self._discard, path), path=path)
            await self._wait()
        raise self._failure

    def abort(self, *, of_use: bool = False) -> None:
        """Drops what there is, at the latest after the writes under way. At any moment, also again or after `finish`.

        What is `of_use` is left to another attempt instead, unless the disk was at fault. A sink that is being filled
        keeps its buffer until it is closed.
        """
        if self._over:
            return
        self._over = True
        self._of_use = of_use and self._failure is None and self._mismatch is None
        if self._failure is None:  # for whoever waits here, or writes on, while somebody else aborts
            self._failure = FetcherClosed("A body was given up while its parts were written")
        self._file.give_up()
        with self._lock:
            self._aborted = True
            idle = self._idle
        if idle:
            self._writers.submit(self._end)
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

    def lend(self) -> None:
        """Has this last until the thread that receives a part gives it back."""
        self._lent += 1  # a count of its own, without the lock, whose release is a moment for a signal

    def new_future(self) -> asyncio.Future[None]:
        """A future of its loop."""
        return self._loop.create_future()

    def check(self) -> None:
        """Raises what writing failed with."""
        if self._failure is not None:
            raise self._failure

    def _wait(self) -> asyncio.Future[None]:
        if self._waiter is None or self._waiter.done():
            self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _landed(self) -> None:
        """On the loop, after a thread has got on."""
        self._told = False
        while self._done:
            sink, piece, count = self._done.popleft()
            self._taken += count
            self._pool.give(piece)
            sink.written()
        self._wake()

    # What a part that is lent calls, on the thread that receives.

    def write(self, data: memoryview, offset: int) -> None:
        """Writes and hashes bytes of a part. Raises what writing failed with, of this part or another."""
        with self._lock:
            self._jobs += 1
        self._keep(data, offset)
        self._catch_up()
        with self._lock:
            self._jobs -= 1
        self.check()

    def give_back(self, sink: PartSink, piece: memoryview, count: int) -> None:
        """Takes back the piece of a part that is lent no longer, and of which so many bytes came."""
        self._done.append((sink, piece, count))
        with self._lock:
            self._back += 1
            last = self._aborted and self._idle
        if last:
            self._end()
        self._tell()

    # What threads do.

    def _begin(self) -> None:
        """Goes on with what an earlier attempt has left, once that one has left it."""
        if self._failure is None:
            if not self._file.claim(self._begin):
                return
            present = self._file.take_up()
            self._early.update(present)
            self._taken = sum(stop - start for start, stop in present)
            self._present = present
        self._tell()
        self._get_on()

    def _work(self, sink: PartSink, piece: memoryview, count: int, offset: int) -> None:
        self._keep(piece[:count], offset)
        self._done.append((sink, piece, 0))
        self._tell()
        self._get_on()

    def _get_on(self) -> None:
        """Ends a job: hashes what there is for it, and ends the body if that was waited for."""
        self._catch_up()
        with self._lock:
            self._jobs -= 1
            last = self._aborted and self._idle
        if last:
            self._end()
        self._tell()

    @property
    def _idle(self) -> bool:
        """Under the lock: whether nobody writes, or will, but who begins now."""
        return not self._jobs and self._lent == self._back

    def _keep(self, data: memoryview, offset: int) -> None:
        try:
            if self._failure is None:
                self._write(data, offset)
        except (OSError, PartsLost) as error:
            self._fail(error)

    def _catch_up(self) -> None:
        try:
            while self._failure is None and (stretch := self._next_early()) is not None:
                self._read_back(*stretch)
        except (OSError, PartsLost) as error:
            self._fail(error)

    def _fail(self, error: OSError | PartsLost) -> None:
        self._failure = explain(error, self._file.path) if isinstance(error, OSError) else error

    def _write(self, data: memoryview, offset: int) -> None:
        with self._lock:
            in_order = offset == self._hashed  # then nobody hashes: each byte comes once
            self._hashing |= in_order
        try:
            self._file.write(data, offset)
        except OSError as error:
            again = functools.partial(self._file.write, data, offset)
            retry_on_full_disk(again, error, functools.partial(self._make_room, len(data)))
        if in_order:
            self._hash(data)
            self._hashed_up_to(offset + len(data))
        else:
            with self._lock:
                self._early[offset] = offset + len(data)

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
            window = new_memory(_WINDOW)
        try:
            at = start
            while at < stop and self._failure is None:
                room = window[: stop - at]
                self._file.read(room, at)
                self._hash(room)
                at += len(room)
        except OSError as error:
            if self._present:  # what an earlier attempt has left, perhaps
                raise PartsLost from error
            raise
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
            try:
                self._path = self._file.finish()
            except FileNotFoundError as error:  # whoever took us for dead goes on with it
                raise PartsLost from error
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

    def _end(self) -> None:
        """Leaves what there is, or removes it, once nobody writes any more."""
        if not self._of_use:
            self._file.drop()
        elif self._file.leave():
            self._left()
        path, self._path = self._path, ""
        with contextlib.suppress(OSError):
            if path:
                files.remove(path)
