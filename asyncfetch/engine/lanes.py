"""The fixed set of tasks that talk to origins, and the lines before them.

An errand is one thing to do with one object. It waits in the line of its place until a lane is free, the place may be
asked, and its bytes are granted; it is flown, and when it fails is flown again as `attempts` decides. Lanes are started
as they are needed and never more than `concurrency`: a task for each object would cost more than the object.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from asyncfetch.attempts import Move, Outlook, Past, decide
from asyncfetch.engine.errand import FLYING, OVER, PAUSING, QUEUED, Tries
from asyncfetch.engine.places import Places
from asyncfetch.engine.standing import NO_RETRY
from asyncfetch.errors import FetcherClosed, ObjectError, OriginTimeout, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from asyncfetch.engine.credits import Credits
    from asyncfetch.engine.errand import Errand
    from asyncfetch.engine.meter import Meter
    from asyncfetch.engine.places import Place
    from asyncfetch.settings import NetworkPolicy
    from asyncfetch.uris import Location

logger = logging.getLogger(__name__)

LOOK = 0.01  # seconds between looks for late answers: a fifth of the least wait that is called late


class Lanes:
    """Flies errands, `concurrency` at a time, and no more to one place than that takes."""

    def __init__(
        self,
        policy: NetworkPolicy,
        concurrency: int,
        credits: Credits,
        meter: Meter,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        self.concurrency = concurrency
        self.started = 0
        self.places = Places(most=concurrency, patience=policy.patience, fixed=not policy.adaptive)
        self._policy = policy
        self._credits = credits
        self._meter = meter
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._queued: dict[Place, None] = {}  # those with somebody in line, whose turn is next in front
        self._idle: list[asyncio.Future[Errand]] = []
        self._live: set[Errand] = set()
        self._flying: set[Errand] = set()
        self._look: asyncio.TimerHandle | None = None  # for late answers, while something is out
        self._tidying = False
        self._closed = False
        credits.subscribe(self.pump)

    @property
    def waiting(self) -> int:
        """Errands in line, those given up meanwhile included."""
        return sum(len(place.urgent) + len(place.queue) for place in self._queued)

    @property
    def busy(self) -> int:
        """Lanes that have an errand."""
        return self.started - len(self._idle)

    @property
    def limit(self) -> int:
        """How many errands may be out at once, to all places that there was something to do at."""
        return min(self.concurrency, sum(place.window.limit for place in self.places)) or self.concurrency

    def would_fly(self, need: int, location: Location, *, leaving: int = 0) -> bool:
        """Whether an errand that is added now would be flown at once, and keep nobody waiting by that.

        `leaving` are busy lanes with errands to the same place that are about to ask for their next errand.
        """
        if self.waiting or self.busy - leaving >= self.concurrency:
            return False
        place = self.places.at(location)
        if place.flying - leaving >= place.window.limit:
            place.window.full = True
            return False
        return self._credits.held + need <= self._credits.total

    def add(self, errand: Errand) -> None:
        """Puts an errand in line. Call `pump` when the last of a batch is in. Raises `FetcherClosed` after `close`."""
        if self._closed:
            raise FetcherClosed("The fetcher was closed before this was done")
        place = errand.place = self.places.at(errand.location)
        errand.progress = QUEUED
        self._live.add(errand)
        (place.urgent if errand.urgent else place.queue).append(errand)
        self._queued[place] = None

    def urge(self, errand: Errand) -> None:
        """Moves an errand to the front: somebody waits for just this one."""
        if not errand.urgent:
            errand.urgent = True
            if errand.progress is QUEUED and errand.place is not None:
                errand.place.urgent.append(errand)  # its place in the other line is skipped when it comes up
                self._queued[errand.place] = None
                self.pump()

    def give_up(self, errand: Errand) -> None:
        """Ends an errand that nobody waits for: its place in line, its pause or its try."""
        before = errand.progress
        self._end(errand)
        if before is QUEUED and not self._tidying:
            # It may be the one that the others wait behind; but they may be about to be given up as well.
            self._tidying = True
            self._loop.call_soon(self._tidy)
        elif before is FLYING and errand.lane not in (None, asyncio.current_task()):
            errand.lane.cancel()  # from within its own try it is about to return, and its lane has others to fly

    def close(self) -> None:
        """Fails every errand that is not over. The lanes themselves end with the task group they run in."""
        self._closed = True
        if self._look is not None:
            self._look.cancel()
        for place in self.places:
            if place.timer is not None:
                place.timer.cancel()
        for errand in list(self._live):
            self._end(errand)
            errand.release()
            errand.fail(FetcherClosed("The fetcher was closed before this was done"))

    def pump(self) -> None:
        """Gives waiting errands to lanes, as far as there are lanes and credits, and their places may be asked."""
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
        """The next errand with its credits, or None while there is none that may go. Places take turns."""
        budget = self._meter.budget
        for urgent in (True, False):
            for place in self._queued:
                line = place.urgent if urgent else place.queue
                while line and line[0].progress is not QUEUED:
                    line.popleft()
                if not line or not self._open(place):
                    continue
                errand = line[0]
                grant = self._credits.take(errand.need, alone=errand.urgent)
                if grant is None:
                    # Nobody overtakes: else one large object could wait for ever behind small ones.
                    budget.set(True)
                    return None
                if budget.level:
                    budget.set(False)
                line.popleft()
                errand.grant, errand.progress = grant, FLYING
                place.flying += 1
                if place.pace.rate < math.inf:
                    place.pace.sent(perf_counter())
                if len(self._queued) > 1:
                    del self._queued[place]
                    self._queued[place] = None
                return errand
        budget.set(False)
        if self._queued:
            self._queued = {place: None for place in self._queued if place.urgent or place.queue}
        return None

    def _open(self, place: Place) -> bool:
        """Whether a place may be asked now. If it will be later by itself, it is looked at again then."""
        if place.flying >= place.window.limit:
            place.window.full = True
            return False
        if place.standing.out_since is None and place.pace.rate == math.inf:
            return True
        now = perf_counter()
        opens_at = place.opens_at(now)
        if opens_at is None or opens_at <= now:
            return opens_at is not None
        if place.timer is None:
            place.timer = self._loop.call_later(opens_at - now, self._opened, place)
            self._meter.held.add(1)
        return False

    def _opened(self, place: Place) -> None:
        place.timer = None
        self._meter.held.add(-1)
        self.pump()

    async def _lane(self, errand: Errand | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        at_work, flying, policy = self._meter.lanes, self._flying, self._policy
        at_work.add(1)
        try:
            while True:
                if errand is None:
                    idle: asyncio.Future[Errand] = self._loop.create_future()
                    self._idle.append(idle)
                    at_work.add(-1)
                    try:
                        errand = await idle
                    finally:
                        at_work.add(1)
                place = errand.place
                assert place is not None
                if errand.progress is not FLYING:  # given up on the way here
                    errand.release()
                    place.flying -= 1
                    errand = self._next()
                    continue
                errand.lane = task
                errand.attempts += 1
                errand.began = perf_counter()
                if policy.deadline is not None and errand.alarm is None:
                    self._set_alarm(errand, policy.deadline)
                flying.add(errand)
                if self._look is None and policy.hedge:
                    self._look = self._loop.call_later(LOOK, self._look_for_late)
                try:
                    await errand.fly()
                    place.flying -= 1
                    self._landed(errand, place)
                except asyncio.CancelledError:
                    place.flying -= 1
                    errand.release()
                    if not errand.over:
                        raise  # the fetcher is closing; `close` tells the waiters
                    task.uncancel()
                except Exception as error:  # whatever went wrong is this errand's outcome, not the lane's
                    place.flying -= 1
                    errand.release()
                    self._failed(errand, place, error)
                finally:
                    errand.lane = None
                    flying.discard(errand)
                errand = self._next()
        finally:
            at_work.add(-1)

    def _look_for_late(self) -> None:
        """Gives twins to those whose answers are late, as far as their places' budgets go; the latest first."""
        now = perf_counter()
        late: dict[Place, list[Errand]] = {}
        for errand in self._flying:
            kind, place = errand.unheard, errand.place
            if kind is not None and place is not None and now - errand.began > place.hedges.late_after(kind):
                late.setdefault(place, []).append(errand)
        for place, errands in late.items():
            # In an outage, or where a place asks for fewer requests, more of them would not help.
            if not place.standing.out and not place.pace.busy:
                errands.sort(key=_began)
                for errand in errands[: place.hedges.grant(len(errands), place.flying)]:
                    self._meter.hedges += errand.hedge(self._start)
        self._look = self._loop.call_later(LOOK, self._look_for_late) if self._flying else None

    def _landed(self, errand: Errand, place: Place) -> None:
        self._end(errand)
        tries, was_out = errand.tries, place.standing.out_since is not None
        refund = NO_RETRY if tries is None else tries.spent or NO_RETRY
        if place.answered(perf_counter(), errand.began, refund, errand.location.key):
            self.pump()
        if was_out:
            self._came_back(place)

    def _failed(self, errand: Errand, place: Place, error: Exception) -> None:
        if errand.over:
            return
        if isinstance(error, ObjectError):
            error.attempts = errand.attempts
        if errand.tries is None:
            errand.tries = Tries(errand.began)
        errand.tries.counted += 1
        standing, now = place.standing, perf_counter()
        was_out = standing.out
        standing.failed(error, errand.location, now, random.uniform)
        if isinstance(error, Throttled) and not standing.out:
            for branch in place.refused(now, errand.began, errand.location.key):
                self._branch_off(place, branch)
        if standing.out and not was_out:
            logger.warning("%s answers nobody any more; it is asked now and then (%s)", place.name, error)
        elif was_out and not standing.out:
            self._came_back(place)
        self._settle(errand, place, error)

    def _branch_off(self, place: Place, branch: Place) -> None:
        """Moves those who wait for a prefix of a bucket into lines of their own."""
        logger.info("%s asks for fewer requests, and is waited for apart from others", branch.name)
        for line, own in ((place.urgent, branch.urgent), (place.queue, branch.queue)):
            waiting = list(line)
            line.clear()
            for errand in waiting:
                if errand.progress is not QUEUED:  # it has gone from the other line
                    continue
                errand.place = place.root.under(errand.location.key)
                (own if errand.place is branch else line).append(errand)
        if not branch.idle:
            self._queued[branch] = None

    def _settle(self, errand: Errand, place: Place, error: Exception) -> None:
        """Does what is decided after a failed try, or after a pause in which it could not be decided."""
        tries, standing, policy = errand.tries, place.standing, self._policy
        assert tries is not None
        paced = standing.known and self.places.at(errand.location).pace.rate < math.inf
        cost = standing.cost(error, paced=paced)
        move, pause = decide(
            error,
            Past(tries.counted, tries.pause, perf_counter() - tries.began),
            # Who is alone may go: nobody else is there to earn what it would wait for.
            Outlook(
                out=standing.out,
                known=standing.known,
                affordable=standing.tokens >= cost or (standing.known and not place.flying),
                paced=paced,
            ),
            attempts=policy.attempts,
            deadline=policy.deadline,
            uniform=random.uniform,
        )
        if move is Move.GIVE_UP:
            self._end(errand)
            errand.fail(error)
            return
        if move is Move.WAIT:
            tries.counted, tries.pause = 0, 0.0  # they were the place's failures
            self._meter.retries += 1
            self.add(errand)
            return
        errand.progress = PAUSING
        if move is Move.SAVE:
            errand.timer = self._loop.call_later(pause, self._reconsider, errand, place, error)
            return
        tries.pause, tries.spent = pause, cost
        standing.tokens = max(0, standing.tokens - cost)
        self._meter.retries += 1
        errand.timer = self._loop.call_later(pause, self._again, errand)

    def _reconsider(self, errand: Errand, place: Place, error: Exception) -> None:
        errand.timer = None
        self._settle(errand, place, error)
        self.pump()

    def _again(self, errand: Errand) -> None:
        errand.timer = None
        self.add(errand)
        self.pump()

    def _came_back(self, place: Place) -> None:
        if place.standing.known:
            logger.warning("%s answers again", place.name)
            place.restart(perf_counter())
        else:
            logger.warning("%s has answered nobody for %g s; errors stand now", place.name, self._policy.patience)
        self.pump()

    def _set_alarm(self, errand: Errand, deadline: float) -> None:
        if errand.due is None:
            errand.due = errand.began + deadline
        errand.alarm = self._loop.call_later(errand.due - errand.began, self._overdue, errand, deadline)

    def _overdue(self, errand: Errand, deadline: float) -> None:
        """Ends an errand at its deadline, wherever it is."""
        self.give_up(errand)
        detail = f"it did not come within its deadline, {deadline:g} s"
        errand.fail(OriginTimeout(str(errand.location), detail, attempts=errand.attempts))

    def _end(self, errand: Errand) -> None:
        """Takes an errand off the books."""
        errand.progress = OVER
        self._live.discard(errand)
        if errand.timer is not None:
            errand.timer.cancel()
            errand.timer = None
        if errand.alarm is not None:
            errand.alarm.cancel()
            errand.alarm = None


def _began(errand: Errand) -> float:
    return errand.began
