"""A second read of an object whose first is not being answered: whichever answer begins first is what counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from asyncfetch.errors import ObjectError

if TYPE_CHECKING:
    from asyncfetch.engine.flight import Flight
    from asyncfetch.objects import NotModified, ObjectStat
    from asyncfetch.origins import Sink


class Twin:
    """The second read of a flight, on a task of its own.

    It wins when its answer begins before the first read's, and the flight goes on with it; the first is cancelled. Else
    it is stopped: its connection is closed, and then its sink given back. Nobody but its own task touches its sink
    while it runs.
    """

    __slots__ = ("_answer", "_flight", "_stopped", "_task", "running", "sink", "won")

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self.sink = flight.table.cache.sink(on_length=self._learned, on_head=self._took_head)
        self.won = False
        self.running = True
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[ObjectStat | NotModified] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Reads."""
        self._task = asyncio.current_task()
        try:
            if self._stopped:
                raise asyncio.CancelledError
            answer = await self._flight.read(self.sink)
        except Exception as error:
            self.running = False
            if self.won:
                self._answer.set_exception(error)  # what its sink holds is the flight's to drop
            else:
                self.sink.abort()
        except BaseException:
            self.running = False
            self.sink.abort()
            if self.won and self._flight.parts is not None:
                self._flight.parts.close_first()
            if not self._stopped:
                raise
        else:
            self.running = False
            if self._claim():
                self._answer.set_result(answer)
            else:
                self.sink.abort()

    async def answer(self) -> ObjectStat | NotModified:
        """What came, or raises what its read raised."""
        return await self._answer

    def stop(self) -> None:
        """Ends it. May be called at any time, and twice."""
        if not self._stopped:
            self._stopped = True
            if self.running and self._task is not None:
                self._task.cancel()

    def overtaken(self) -> bool:
        """The first read's answer has begun. True where that is the first to begin."""
        if not self.won:
            self.stop()
        return not self.won

    def takes_over(self, error: BaseException) -> bool:
        """Whether the flight goes on with this one after the first read has ended with an error."""
        if isinstance(error, asyncio.CancelledError):
            if not self.won:
                return False
            lane = self._flight.lane
            assert lane is not None
            lane.uncancel()
            return not self._flight.over and (self.running or self._answer.done())
        if self._stopped or not (self.running or self.won) or not (isinstance(error, ObjectError) and error.retryable):
            return False
        self._win()
        return True

    def _claim(self) -> bool:
        """Whether it is the one that counts; if nothing has been heard of either yet, it is from now on."""
        if self._stopped or self.won:
            return self.won and not self._stopped
        self._win()
        assert self._flight.lane is not None
        self._flight.lane.cancel()
        return True

    def _win(self) -> None:
        self.won = True
        self._flight.table.meter.hedges_won += 1

    def _learned(self, length: int) -> None:
        if self._claim():
            self._flight.hears(length)

    def _took_head(self, stat: ObjectStat, start: int) -> Sink | None:
        return self._flight.goes_on(stat) if self._claim() else None
