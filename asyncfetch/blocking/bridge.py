"""The one event loop of a process for callers without one: on a thread of its own, begun with its first use.

A process that was forked has none of its parent's threads, so bridges are told apart by process id. What a bridge runs
is closed when its interpreter ends: before its own threads are gone, also in a child of multiprocessing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asyncfetch.bell import Bell
from asyncfetch.errors import FetcherClosed, ForeignUse, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Work = Callable[[], Coroutine[Any, Any, "T"]]

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Call(Generic[T]):
    """A coroutine on its way on a bridge's loop, and who waits for it on another thread."""

    def __init__(self, work: Work[T], ended: Callable[[Call[T]], None]) -> None:
        self._work = work
        self._ended = ended
        self._task: asyncio.Task[T] | None = None
        self._bell = Bell()
        self._tell: Callable[[], None] | None = None
        self.done = False  # whether `wait` would return at once

    def then(self, tell: Callable[[], None]) -> None:
        """Has a callback called when it is done: on the loop's thread, or at once where it is."""
        self._tell = tell
        if self.done:
            tell()

    def wait(self) -> T:
        """Waits for the result, or raises what the coroutine raised; `FetcherClosed` where the bridge ended first."""
        self.settle()
        if self._task is None or self._task.cancelled():
            raise FetcherClosed("The program was ending while this was awaited", remedy="Wait for it first.")
        return self._task.result()

    def settle(self) -> None:
        """Waits until the coroutine has ended, however it does."""
        self._bell.until(lambda: self.done)

    # On the loop

    def start(self) -> None:
        """Starts the coroutine, unless it was given up before."""
        if not self.done:
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Cancels the coroutine."""
        if self._task is None:
            self.abandon()
        else:
            self._task.cancel()

    def abandon(self) -> None:
        """Lets nobody wait for a coroutine that no loop will run any more."""
        self._end(None)

    def _end(self, task: asyncio.Task[T] | None) -> None:
        self._ended(self)
        self.done = True
        self._bell.ring()
        if self._tell is not None:
            self._tell()


class Bridge:
    """An event loop on a daemon thread, and the way to it from all other threads of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._begun = Bell()  # it has its loop, or has failed to
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._stop: asyncio.Event | None = None
        self._calls: set[Call[Any]] = set()  # not yet ended; adding and removing are one step each for threads
        self._closers: dict[object, Callable[[], Awaitable[None]]] = {}  # the loop's own, as the next
        self._over = False

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return self._thread is threading.current_thread()

    def run(self, work: Work[T]) -> T:
        """Runs a coroutine on the loop, and waits for its end.

        Raises what it raises. An exception that comes to the waiting thread from outside, such as Ctrl-C's, cancels
        the coroutine, waits for its end and goes on; a second one waits no longer. Raises `ForeignUse` in a process
        that was forked since, `UsageError` on the loop's own thread, and `FetcherClosed` when the interpreter is
        ending.
        """
        call = self.begin(work)
        try:
            return call.wait()
        finally:
            if not call.done:
                self.cancel(call)

    def begin(self, work: Work[T]) -> Call[T]:
        """Starts a coroutine on the loop. Raises as `run` does; who begins a call has to `wait` or to `cancel`."""
        if os.getpid() != self.pid:
            raise ForeignUse(f"This was begun in process {self.pid} and is used after a fork in {os.getpid()}")
        if self.is_here:
            raise UsageError(
                "asyncfetch.blocking was called on its own event loop", remedy="Await the asynchronous fetcher there."
            )
        loop = self._started()
        call = Call(work, self._calls.discard)
        self._calls.add(call)
        try:
            loop.call_soon_threadsafe(self._start, call)
        except RuntimeError:
            self._calls.discard(call)
            raise _ending() from None
        return call

    def cancel(self, call: Call[T]) -> None:
        """Ends a call, and waits until it has."""
        self.post(call.cancel)
        call.settle()

    def post(self, callback: Callable[[], object]) -> None:
        """Has a callback called on the loop, unless that has ended or is another process's."""
        if self._loop is not None and os.getpid() == self.pid:
            try:
                self._loop.call_soon_threadsafe(callback)
            except RuntimeError:  # it is closed
                return

    def end(self, work: Work[None]) -> None:
        """Runs what closes something, wherever the collector or a `finally` calls it from.

        Waits for it, except on the loop's own thread. Nothing is done where the loop has ended, which closed all, and
        in a process that was forked since, where nothing of it lives.
        """
        if self.is_here:
            self.post(lambda: asyncio.ensure_future(work()))
        elif self._loop is not None and os.getpid() == self.pid:
            try:
                self.run(work)
            except FetcherClosed:
                return

    def keep(self, thing: object, close: Callable[[], Awaitable[None]]) -> None:
        """Has something closed at the end, unless it is let go before. On the loop."""
        self._closers[thing] = close

    def let_go(self, thing: object) -> None:
        """Forgets something that was kept. On the loop."""
        self._closers.pop(thing, None)

    def close(self) -> None:
        """Closes what is kept, cancels what is under way, and ends the thread. In another process nothing is done."""
        if self._loop is not None and self._stop is not None and os.getpid() == self.pid and self._thread is not None:
            self.post(self._stop.set)
            self._thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is not None:
            return self._loop
        with self._starting:
            if self._thread is None:
                # Before atexit's turn the interpreter ends the threads that asyncio needs for closing, and children of
                # multiprocessing never come to it. concurrent.futures ends its own by the same call, made with this
                # import, and the last to be registered is the first to be called.
                import concurrent.futures.thread  # noqa: F401

                try:
                    threading._register_atexit(self.close)  # type: ignore[attr-defined]
                except RuntimeError:
                    raise _ending() from None
                self._thread = threading.Thread(target=self._run, name="asyncfetch: blocking", daemon=True)
                self._thread.start()
            self._begun.until(lambda: self._loop or self._failure)
        if self._loop is None:
            assert self._failure is not None
            raise self._failure
        return self._loop

    def _run(self) -> None:
        try:
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._loop is not None:
                raise
            self._failure = error
            self._begun.ring()
        finally:
            for call in list(self._calls):
                call.abandon()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun.ring()
        await self._stop.wait()
        self._over = True
        for failed in await asyncio.gather(*(close() for close in self._closers.values()), return_exceptions=True):
            if failed is not None:
                logger.error("Something could not be closed at the end of the program", exc_info=failed)

    def _start(self, call: Call[Any]) -> None:
        if self._over:  # those under way are being cancelled, and no other may come between
            call.abandon()
        else:
            call.start()


def bridge() -> Bridge:
    """The bridge of this process. A parent's stays here after a fork: its loop is not this process's to close."""
    pid = os.getpid()
    return _bridges.get(pid) or _bridges.setdefault(pid, Bridge())


_bridges: dict[int, Bridge] = {}


def _ending() -> FetcherClosed:
    return FetcherClosed("The program is ending", remedy="Join the threads that use asyncfetch before its end.")
