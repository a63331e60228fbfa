"""The consumer's side of a stream."""

from __future__ import annotations

import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

from asyncfetch.errors import FetcherClosed, UsageError
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from asyncfetch.objects import Report
    from asyncfetch.streams.run import Run

T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator over items, made by a fetcher.

    Prefetching begins with the first `async for` step, or with `async with`, and goes on while the consumer is busy,
    within the window and the byte budget. Leaving the loop, `aclose`, dropping the stream and closing its fetcher all
    end it: reads under way are cancelled, buffers and shared memory return, files that were kept out of the cache go.
    One task at a time may take items.

    A cancelled step has taken nothing: the item comes with the next one. An error that a step raises ends the stream,
    as it ends a generator.
    """

    def __init__(self, run: Run[T], *, raises: bool) -> None:
        self._run = run
        self._raises = raises
        self._begun = False
        self._ended = False
        self._waiting = False
        self._given: float | None = None
        self._finalizer = weakref.finalize(self, _drop, run)
        self._finalizer.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next item. Raises what the source or, with `on_error="raise"`, the item raised, and `FetcherClosed`."""
        run = self._run
        if self._waiting:
            raise UsageError("A stream has one consumer at a time", remedy="Make a stream for each task.")
        if self._given is not None:
            run.consumed(perf_counter() - self._given)
            self._given = None
        self._begin()
        while True:
            item = run.take()
            if item is not None:
                break
            if run.closed:
                if not self._ended:
                    raise FetcherClosed("The fetcher of this stream is closed")
                raise StopAsyncIteration
            if run.exhausted:
                error = run.feed.error
                await self.aclose()
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._waiting = True
            try:
                await run.wait()
            finally:
                self._waiting = False
        if isinstance(item, Failure) and self._raises:
            await self.aclose()
            raise item.exception
        self._given = perf_counter()
        return item  # type: ignore[return-value] # failures are items of a stream that yields them

    async def aclose(self) -> None:
        """Ends the stream. Nothing of it is left when this returns, also when it is cancelled."""
        self._ended = True
        self._finalizer.detach()
        self._run.close()
        await self._run.feed.closed()

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def report(self) -> Report:
        """What has been taken so far: counts, bytes, failures, and which stage held it back."""
        return self._run.report()

    def _begin(self) -> None:
        if not self._begun and not self._run.closed:
            self._begun = True
            self._run.feed.begin()


def _drop(run: Run[T]) -> None:
    """Ends the run of a stream that was dropped, from whatever thread the collector ran on."""
    try:
        run.engine.loop.call_soon_threadsafe(run.close)
    except RuntimeError:  # the loop is closed, and everything on it has ended
        run.closed = True
