"""The fixed set of tasks that talk to origins, and the queue before them.

An errand is one thing to do with one object. It waits in line until a lane is free and its bytes are granted, is flown,
and when it fails is flown again as `attempts` decides. Lanes are started as they are needed and never more than
`concurrency`: a task for each object would cost more than the object.
"""

from __future__ import annotations

import asyncio
import enum
import random
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.engine.attempts import next_pause
from asyncfetch.errors import FetcherClosed, ObjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from asyncfetch.engine.credits import Credits, Grant
    from asyncfetch.engine.meter import Meter


class Progress(enum.Enum):
    """How far an errand is."""

    NEW = enum.auto()
    QUEUED = enum.auto()
    FLYING = enum.auto()
    PAUSING = enum.auto()
    OVER = enum.auto()


class Errand(ABC):
    """One thing to do at an origin. `urgent` ones go first, and may overdraw the byte budget."""

    __slots__ = ("attempts", "grant", "lane", "progress", "timer", "urgent")

    def __init__(self, *, urgent: bool = False) -> None:
        self.urgent = urgent
        self.attempts = 0
        self.progress = Progress.NEW
        self.grant: Grant | None = None
        self.lane: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.progress is Progress.OVER

    @property
    @abstractmethod
    def need(self) -> int:
        """The bytes of memory that a try may hold, at most."""

    @abstractmethod
    async def fly(self) -> None:
        """Does it, once. The grant is the errand's to release when its bytes have left memory."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Takes the error that stands after the last try."""

    def release(self) -> None:
        """Gives the grant back, if there is one."""
        if self.grant is not None:
            self.grant.release()
            self.grant = None


class Lanes:
    """Flies errands, `concurrency` at a time."""

    def __init__(
        self,
        concurrency: int,
        attempts: int,
        credits: Credits,
        meter: Meter,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        self.concurrency = concurrency
        self.started = 0
        self._attempts = attempts
        self._credits = credits
        self._meter = meter
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Errand] = deque()
        self._urgent: deque[Errand] = deque()
        self._idle: list[asyncio.Future[Errand]] = []
        self._live: set[Errand] = set()
        self._tidying = False
        self._closed = False
        credits.subscribe(self.pump)

    @property
    def waiting(self) -> int:
        """Errands in line, those given up meanwhile included."""
        return len(self._queue) + len(self._urgent)

    @property
    def busy(self) -> int:
        """Lanes that have an errand."""
        return self.started - len(self._idle)

    def would_fly(self, need: int, *, leaving: int = 0) -> bool:
        """Whether an errand that is added now would be flown at once, and keep nobody waiting by that.

        `leaving` are busy lanes that are about to ask for their next errand.
        """
        free = self.busy - leaving < self.concurrency and not self.waiting
        return free and self._credits.held + need <= self._credits.total

    def add(self, errand: Errand) -> None:
        """Puts an errand in line. Call `pump` when the last of a batch is in. Raises `FetcherClosed` after `close`."""
        if self._closed:
            raise FetcherClosed("The fetcher was closed before this was done")
        errand.progress = Progress.QUEUED
        self._live.add(errand)
        (self._urgent if errand.urgent else self._queue).append(errand)

    def urge(self, errand: Errand) -> None:
        """Moves an errand to the front: somebody waits for just this one."""
        if not errand.urgent:
            errand.urgent = True
            if errand.progress is Progress.QUEUED:
                self._urgent.append(errand)  # its place in the other line is skipped when it comes up
                self.pump()

    def give_up(self, errand: Errand) -> None:
        """Ends an errand that nobody waits for: its place in line, its pause or its try."""
        before, errand.progress = errand.progress, Progress.OVER
        self._live.discard(errand)
        if before is Progress.QUEUED and not self._tidying:
            # It may be the one that the others wait behind; but they may be about to be given up as well.
            self._tidying = True
            self._loop.call_soon(self._tidy)
        elif before is Progress.PAUSING and errand.timer is not None:
            errand.timer.cancel()
        elif before is Progress.FLYING and errand.lane is not None:
            errand.lane.cancel()

    def close(self) -> None:
        """Fails every errand that is not over. The lanes themselves end with the task group they run in."""
        self._closed = True
        for errand in list(self._live):
            self._live.discard(errand)
            errand.progress = Progress.OVER
            errand.release()
            errand.fail(FetcherClosed("The fetcher was closed before this was done"))

    def pump(self) -> None:
        """Gives waiting errands to lanes, as far as there are lanes and credits."""
        while self._idle or self.started < self.concurrency:
            if (errand := self._next()) is None:
                return
            while self._idle:
                lane = self._idle.pop()
                if not lane.done():
                    lane.set_result(errand)
                    break
            else:
                self.started += 1
                self._start(partial(self._lane, errand))

    def _tidy(self) -> None:
        self._tidying = False
        if not self._closed:
            self.pump()

    def _next(self) -> Errand | None:
        """The next errand with its credits, or None while there is none that may go."""
        for line in (self._urgent, self._queue):
            while line:
                errand = line[0]
                if errand.progress is not Progress.QUEUED:
                    line.popleft()
                    continue
                grant = self._credits.take(errand.need, alone=errand.urgent)
                self._meter.budget.set(grant is None)
                if grant is None:
                    # Nobody overtakes: else one large object could wait for ever behind small ones.
                    return None
                line.popleft()
                errand.grant, errand.progress = grant, Progress.FLYING
                return errand
        self._meter.budget.set(False)
        return None

    async def _lane(self, errand: Errand | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            if errand is None:
                idle: asyncio.Future[Errand] = self._loop.create_future()
                self._idle.append(idle)
                errand = await idle
            if errand.progress is not Progress.FLYING:  # given up on the way here
                errand.release()
                errand = self._next()
                continue
            errand.lane = task
            errand.attempts += 1
            self._meter.lanes.add(1)
            try:
                await errand.fly()
                self._landed(errand)
            except asyncio.CancelledError:
                errand.release()
                if not errand.over:
                    raise  # the fetcher is closing; `close` tells the waiters
                task.uncancel()
            except Exception as error:  # whatever went wrong is this errand's outcome, not the lane's
                errand.release()
                self._failed(errand, error)
            finally:
                errand.lane = None
                self._meter.lanes.add(-1)
            errand = self._next()

    def _landed(self, errand: Errand) -> None:
        self._live.discard(errand)
        errand.progress = Progress.OVER

    def _failed(self, errand: Errand, error: Exception) -> None:
        if errand.over:
            return
        if isinstance(error, ObjectError):
            error.attempts = errand.attempts
        pause = next_pause(error, errand.attempts, self._attempts, random.uniform)
        if pause is None:
            self._landed(errand)
            errand.fail(error)
            return
        self._meter.retries += 1
        errand.progress = Progress.PAUSING
        errand.timer = self._loop.call_later(pause, self._again, errand)

    def _again(self, errand: Errand) -> None:
        errand.timer = None
        if errand.progress is Progress.PAUSING:
            self.add(errand)
            self.pump()
