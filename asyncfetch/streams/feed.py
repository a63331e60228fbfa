"""Reads a user's sources in the order of a plan, plain or asynchronous, no further than there is room for."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from asyncfetch.errors import SourcesInterrupted
from asyncfetch.streams.order import AsyncReading

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator

    from asyncfetch.engine import Engine
    from asyncfetch.streams.order import Placed, Reading, Sift

BATCH = 128  # sources read at a time: enough to share a look-up's thread hop (80 us), few enough not to hold the loop
_MOST_READ = 8 * BATCH  # sources read at a time where the plan leaves most of them out


class Feed:
    """Hands sources to `deliver` in batches while `room()` is positive, and calls `ended` when there are no more.

    A plain iterable is read in callbacks on the loop; an asynchronous one in a task of the fetcher's, which closes it
    at the end, also at an early one: whoever passes a generator to a stream has left it to the stream. What the
    iterable raises is kept in `error`, to be raised in its place.

    An interrupt ends whatever generator it comes to, and may take what was read: then the feed is `broken`, and that is
    the error, to be raised before the first item of which it is not known whether it will come.
    """

    def __init__(
        self,
        engine: Engine,
        reading: Reading,
        *,
        room: Callable[[], int],
        deliver: Callable[[list[Placed]], None],
        ended: Callable[[], None],
    ) -> None:
        self.over = self.broken = False
        self.error: Exception | None = None
        self.seconds = 0.0  # waited for an asynchronous source
        self._engine = engine
        self._reading = reading
        self._room = room
        self._deliver = deliver
        self._ended = ended
        self._scheduled = False
        self._scope = anyio.CancelScope()
        self._parked: asyncio.Future[None] | None = None
        self._left: asyncio.Future[None] | None = None  # set when the task of an asynchronous source has ended

    def begin(self) -> None:
        """Starts to read."""
        if isinstance(self._reading, AsyncReading):
            try:
                left = self._engine.loop.create_future()
                self._engine.start(self._read_async)
            except BaseException:
                self._break()
                raise
            self._left = left
        else:
            self._read()

    def more(self) -> None:
        """Says that there is room again."""
        if self._parked is not None:
            if not self._parked.done():
                self._parked.set_result(None)
        elif self._left is None and not self._scheduled:
            self.begin()  # which an interrupt may have kept from it

    def close(self) -> None:
        """Stops reading and lets the sources go."""
        self.over = True
        self._scope.cancel()
        if not isinstance(self._reading, AsyncReading):
            self._reading = iter(())

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
        assert not isinstance(self._reading, AsyncReading)
        try:
            end = self._read_batch(self._reading)
        except BaseException:
            self._break()
            raise
        if end:
            self._end()
        elif self._room() > 0 and not self._scheduled:
            self._scheduled = True
            self._engine.loop.call_soon(self._read)

    def _read_batch(self, reading: Iterator[Placed | None]) -> bool:
        """Whether that was the last."""
        batch: list[Placed] = []
        end = False
        most = min(BATCH, self._room())
        try:
            for _ in range(_MOST_READ):
                if (placed := next(reading)) is not None:
                    batch.append(placed)
                    if len(batch) >= most:
                        break
        except StopIteration:
            end = True
        except Exception as error:  # the user's, raised in its place
            self.error = error
            end = True
        if batch:
            self._deliver(batch)
        return end

    async def _read_async(self) -> None:
        assert isinstance(self._reading, AsyncReading)
        sources, sift = self._reading
        try:
            with self._scope:
                while not self.over and self.error is None and sift.begin():
                    await self._read_epoch(aiter(sources), sift)
        except Exception as error:  # the user's, raised in its place
            self._fail(error)
        except (KeyboardInterrupt, SystemExit):
            self._break()
            raise
        finally:
            self._end()
            if self._left is not None:
                self._left.set_result(None)

    async def _read_epoch(self, iterator: AsyncIterator[Any], sift: Sift) -> None:
        try:
            await self._pull(iterator, sift)
        except Exception as error:  # the user's: the first of two counts
            self._fail(error)
        finally:
            if (close := getattr(iterator, "aclose", None)) is not None:
                with anyio.CancelScope(shield=True):
                    await close()

    async def _pull(self, iterator: AsyncIterator[Any], sift: Sift) -> None:
        batch: list[Placed] = []

        def flush() -> None:
            if batch and not self.over:
                full = batch.copy()
                batch.clear()
                self._deliver(full)

        async def put(placed: Placed) -> None:
            batch.append(placed)
            if len(batch) == 1:
                # Runs when the iterator makes us wait: what there is does not wait with us.
                self._engine.loop.call_soon(flush)
            if len(batch) >= min(BATCH, self._room()):
                flush()
                await self._until_room()

        while not sift.full:
            asked = perf_counter()
            try:
                source = await anext(iterator)
            except StopAsyncIteration:
                break
            except Exception:
                flush()  # what came before it comes first
                raise
            finally:
                self.seconds += perf_counter() - asked
            for placed in sift.push(source):
                await put(placed)
        for placed in sift.end():
            await put(placed)
        flush()

    async def _until_room(self) -> None:
        while self._room() <= 0:
            self._parked = self._engine.loop.create_future()
            try:
                await self._parked
            finally:
                self._parked = None

    def _fail(self, error: Exception) -> None:
        if not self.over and self.error is None:
            self.error = error

    def _break(self) -> None:
        """After an exception that is nobody's: what was read last may not have been delivered."""
        self.broken = True
        self._fail(SourcesInterrupted("An interrupt came while the sources were read: which it took, nobody knows"))
        self._end()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._ended()
