"""Reads a user's sources, plain or asynchronous, no further than there is room for."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncfetch.engine import Engine
    from asyncfetch.objects import Sources

BATCH = 128  # sources read at a time: enough to share a look-up's thread hop (80 us), few enough not to hold the loop


class Feed:
    """Hands sources to `deliver` in batches while `room()` is positive, and calls `ended` when there are no more.

    A plain iterable is read in callbacks on the loop; an asynchronous one in a task of the fetcher's, which closes it
    at the end, also at an early one: whoever passes a generator to a stream has left it to the stream. What the
    iterable raises is kept in `error`, to be raised in its place.
    """

    def __init__(
        self,
        engine: Engine,
        sources: Sources,
        *,
        room: Callable[[], int],
        deliver: Callable[[list[Any]], None],
        ended: Callable[[], None],
    ) -> None:
        self.over = False
        self.error: Exception | None = None
        self.seconds = 0.0  # waited for an asynchronous source
        self._engine = engine
        self._iterator = _iterate(sources)
        self._room = room
        self._deliver = deliver
        self._ended = ended
        self._scheduled = False
        self._scope = anyio.CancelScope()
        self._parked: asyncio.Future[None] | None = None
        self._left: asyncio.Future[None] | None = None  # set when the task of an asynchronous source has ended

    def begin(self) -> None:
        """Starts to read."""
        if isinstance(self._iterator, AsyncIterator):
            self._left = self._engine.loop.create_future()
            self._engine.start(self._read_async)
        else:
            self._read()

    def more(self) -> None:
        """Says that there is room again."""
        if self._parked is not None:
            if not self._parked.done():
                self._parked.set_result(None)
        elif self._left is None and not self._scheduled:
            self._read()

    def close(self) -> None:
        """Stops reading and lets the sources go."""
        self.over = True
        self._scope.cancel()
        if not isinstance(self._iterator, AsyncIterator):
            self._iterator = iter(())

    async def closed(self) -> None:
        """Waits until an asynchronous source has been closed too."""
        if self._left is not None and not self._left.done():
            waiter = self._engine.loop.create_future()
            self._left.add_done_callback(lambda _: None if waiter.done() else waiter.set_result(None))
            await waiter

    def _read(self) -> None:
        """Reads one batch, and asks to be called again: the loop is not held for a whole window."""
        self._scheduled = False
        if self.over:
            return
        assert isinstance(self._iterator, Iterator)
        batch: list[Any] = []
        end = False
        try:
            for _ in range(min(BATCH, self._room())):
                batch.append(next(self._iterator))
        except StopIteration:
            end = True
        except Exception as error:  # the user's, raised in its place
            self.error = error
            end = True
        if batch:
            self._deliver(batch)
        if end:
            self._end()
        elif self._room() > 0 and not self._scheduled:
            self._scheduled = True
            self._engine.loop.call_soon(self._read)

    async def _read_async(self) -> None:
        assert isinstance(self._iterator, AsyncIterator)
        assert self._left is not None
        try:
            with self._scope:
                await self._pull(self._iterator)
        except Exception as error:  # the user's, raised in its place
            self._fail(error)
        finally:
            if (close := getattr(self._iterator, "aclose", None)) is not None:
                with anyio.CancelScope(shield=True):
                    try:
                        await close()
                    except Exception as error:  # the user's too
                        self._fail(error)
            self._end()
            self._left.set_result(None)

    async def _pull(self, iterator: AsyncIterator[Any]) -> None:
        batch: list[Any] = []

        def flush() -> None:
            if batch and not self.over:
                full = batch.copy()
                batch.clear()
                self._deliver(full)

        while True:
            asked = perf_counter()
            try:
                batch.append(await anext(iterator))
            except StopAsyncIteration:
                flush()
                return
            except Exception:
                flush()  # what came before it comes first
                raise
            finally:
                self.seconds += perf_counter() - asked
            if len(batch) == 1:
                # Runs when the iterator makes us wait: what there is does not wait with us.
                self._engine.loop.call_soon(flush)
            if len(batch) >= min(BATCH, self._room()):
                flush()
                while self._room() <= 0:
                    self._parked = self._engine.loop.create_future()
                    try:
                        await self._parked
                    finally:
                        self._parked = None

    def _fail(self, error: Exception) -> None:
        if not self.over and self.error is None:
            self.error = error

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._ended()


def _iterate(sources: Sources) -> Iterator[Any] | AsyncIterator[Any]:
    if isinstance(sources, str | bytes):
        raise UsageError("Sources are an iterable of URIs, not one text", remedy="Write [uri].")
    if isinstance(sources, AsyncIterable):
        return aiter(sources)
    if isinstance(sources, Iterable):
        return iter(sources)
    raise UsageError(f"Sources are an iterable or an async iterable of URIs, not {type(sources).__name__}")
