"""A body too large for memory, on its way into a file: pieces go in on the loop and come back hashed and written."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.cache import digests, files
from asyncfetch.cache.failures import explain, retry_on_full_disk
from asyncfetch.errors import FetcherClosed, IntegrityError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.writers import Writers
    from asyncfetch.origins.checksums import Check
    from asyncfetch.settings import Digest

PIECES = 4  # of a body in memory at once: one being filled, the others on their way to the disk


class Spill:
    """One large body. Its pieces are handled in order, as the digest needs it, by one thread at a time.

    Shared under the lock: `_waiting` pieces, the `_failure` that ends them, whether a thread is `_running`, which may
    be one that it is lent to, and whether the body is to be `_sealed` or `_aborted`. Only the loop has one begin to
    run. The file and the digest in the making belong to that thread, all else to the loop; `_done` goes from one to the
    other.
    """

    def __init__(
        self,
        owner: Owner,
        algorithm: Digest,
        writers: Writers,
        loop: asyncio.AbstractEventLoop,
        *,
        give_back: Callable[[memoryview], None],
        make_room: Callable[[int], bool],
        ended: Callable[[Spill], None],
        check: Check | None = None,
    ) -> None:
        """`give_back` gets each piece when it is written, `ended` the spill itself once it was sealed or aborted.

        `make_room` is called, on a thread, when the disk is full; what could not be written is then tried again, until
        it says that nothing could be freed. The whole body is held against `check`.
        """
        self._check = check
        self._owner, self._algorithm, self._writers, self._loop = owner, algorithm, writers, loop
        self._give_back, self._make_room, self._ended = give_back, make_room, ended
        self._lock = threading.Lock()
        self._waiting: deque[tuple[memoryview, int]] = deque()  # pieces, and how much of each is filled
        self._running = self._sealed = self._aborted = False
        self._hasher = digests.new(algorithm)
        self._path = ""
        self._descriptor = -1
        self._offset = 0
        self._digest: str | None = None
        self._failure: Exception | None = None
        self._done: deque[memoryview] = deque()
        self._told = False  # the loop has been called, and has not looked yet
        self._outstanding = 0
        self._waiter: asyncio.Future[None] | None = None

    def put(self, piece: memoryview, count: int) -> None:
        """Takes a lent buffer whose first `count` bytes come next."""
        self._outstanding += 1
        with self._lock:
            if self._failure is None:
                self._waiting.append((piece, count))
            else:  # which is told next, and then it comes back
                self._done.append(piece)
        self._start()

    def lend(self) -> bool:
        """Whether a thread that receives may `write` what comes next, until it says `give_back`: if none is at work."""
        if self._running or self._failure is not None:
            return False
        # Without the lock, whose release is a moment for a signal: it is lent, and who asked knows, or it is not.
        self._running = True
        self._outstanding += 1
        return True

    def room(self) -> asyncio.Future[None] | None:
        """None when another piece may be filled, else a future to await first. Raises what writing failed with."""
        if self._failure is not None:
            self._landed()
            raise self._failure
        return None if self._outstanding < PIECES - 1 else self._wait()

    async def seal(self) -> tuple[str, str]:
        """Waits until all is written, and returns the digest and the path of the file, which is now the caller's.

        Raises `StorageFull`, `CacheUnusable` or `IntegrityError`. After that, or cancelled, it is still to be aborted.
        """
        self._start(sealed=True)
        while self._failure is None:
            if self._digest is not None:
                self._landed()  # it may have been seen before the call that tells of the last pieces
                digest, path, self._path = self._digest, self._path, ""
                self._ended(self)
                return digest, path
            await self._wait()
        self._landed()
        raise self._failure

    def abort(self) -> None:
        """Drops what there is: buffers come back and the file goes, those of a write under way when that has ended."""
        self._give_up(FetcherClosed("The cache was closed while a body was written"))  # told to who waits here
        self._landed()
        self._start(aborted=True)
        self._ended(self)

    def _start(self, *, sealed: bool = False, aborted: bool = False) -> None:
        with self._lock:
            self._sealed |= sealed
            self._aborted |= aborted
            idle, self._running = not self._running, True
        if idle:
            self._writers.submit(self._work)

    def _give_up(self, why: Exception) -> None:
        """Keeps the first reason, and writes nothing more."""
        with self._lock:
            self._failure = self._failure or why
            while self._waiting:
                self._done.append(self._waiting.popleft()[0])

    def _wait(self) -> asyncio.Future[None]:
        if self._waiter is None or self._waiter.done():
            self._waiter = self._loop.create_future()
        return self._waiter

    def _landed(self) -> None:
        """On the loop, after a thread has got on."""
        self._told = False
        while self._done:
            self._outstanding -= 1
            self._give_back(self._done.popleft())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop was closed over it: nobody is left to be told
                self._loop.call_soon_threadsafe(self._landed)

    # On the thread that it is lent to.

    def write(self, data: memoryview) -> None:
        """Hashes and writes what comes next. Raises what ends the body."""
        if self._failure is None:
            self._try(functools.partial(self._keep, data))
        if self._failure is not None:
            raise self._failure

    def give_back(self, piece: memoryview) -> None:
        """Returns the buffer, and does what has come to be done meanwhile."""
        self._done.append(piece)
        self._tell()
        self._work()

    # On that thread, or another.

    def _work(self) -> None:
        """All that there is to do now."""
        while (step := self._next()) is not None:
            self._try(step)
            self._tell()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, IntegrityError) as error:
            why = explain(error, self._path) if isinstance(error, OSError) else error
            self._drop()  # before anybody is told, so that nothing is left then
            self._give_up(why)

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._waiting:
                return functools.partial(self._write, *self._waiting.popleft())
            if self._aborted:
                step, self._aborted = self._drop, False
                return step
            if self._sealed:
                step, self._sealed = self._end, False
                return step
            self._running = False
            return None

    def _write(self, piece: memoryview, count: int) -> None:
        try:
            if self._failure is None:
                self._keep(piece[:count])
        finally:
            self._done.append(piece)

    def _keep(self, data: memoryview) -> None:
        self._hasher.update(data)
        if self._check is not None:
            self._check.update(data)
        try:
            self._store(data)
        except OSError as error:
            retry_on_full_disk(
                functools.partial(self._store, data), error, functools.partial(self._make_room, len(data))
            )
        self._offset += len(data)

    def _store(self, data: memoryview) -> None:
        if self._descriptor < 0:
            self._create()
        files.write_at(self._descriptor, data, self._offset)

    def _create(self) -> None:
        self._path = self._owner.new_path()
        try:
            self._descriptor = files.create(self._path)
        except FileNotFoundError:  # the owner's directory is gone, swept by mistake or as old
            self._owner.renew(self._path)
            self._path = self._owner.new_path()
            self._descriptor = files.create(self._path)

    def _end(self) -> None:
        if self._failure is None:
            descriptor, self._descriptor = self._descriptor, -1
            files.close(descriptor)
            if self._check is not None:
                self._check.verify()
            self._digest = f"{self._algorithm}:{self._hasher.hexdigest()}"

    def _drop(self) -> None:
        """Closes and removes the file, if there is one, without hiding why behind a second failure."""
        descriptor, self._descriptor = self._descriptor, -1
        path, self._path = self._path, ""
        with contextlib.suppress(OSError):
            if descriptor >= 0:
                files.close(descriptor)
        with contextlib.suppress(OSError):
            if path:
                files.remove(path)
