"""The run whose objects, once on disk, go on to a workshop that makes the items of them, as many as it can use."""

from __future__ import annotations

import heapq
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from asyncfetch.errors import ObjectNotFound
from asyncfetch.streams.run import Run
from asyncfetch.streams.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.uris import Location

T = TypeVar("T")

WORTH = 16  # jobs that are sent on together: the workshop has more than these to do meanwhile


class Workshop(Protocol):
    """Who makes items: the decode pool, or the reader of bodies. Each takes jobs of its own kind."""

    def submit(self, *jobs: Any) -> None: ...

    def cancel(self, job: Any, /) -> None: ...

    def urge(self, job: Any, /) -> None: ...


class WorkSlot(Slot[T]):
    """A slot that knows its job."""

    __slots__ = ("again", "job")

    def __init__(
        self, run: Run[T], placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None
    ) -> None:
        Slot.__init__(self, run, placed, payload, uri, location, listed)
        self.job: Any = None  # of the workshop's kind
        self.again = False  # its blob was gone when it was to be read, and it is fetched once more


class WorkRun(Run[T]):
    """A run whose items are made by a workshop, in the order of the plan among what is on disk."""

    def __init__(
        self,
        engine: Engine,
        reading: Reading,
        progress: Progress,
        *,
        workshop: Workshop,
        most_ahead: int,
        stage: str,
        **rest: Any,
    ) -> None:
        super().__init__(engine, reading, progress, **rest)
        self._workshop = workshop
        self._most_ahead = most_ahead
        self._stage = stage
        self._pending: list[tuple[int, Slot[T]]] = []  # a heap by place: on disk, not yet sent
        self._newest = -1  # the place of the slot that was on disk last
        self._ahead = 0
        self._sending = False

    @abstractmethod
    def jobs(self, slots: Sequence[WorkSlot[T]]) -> list[Any]:
        """Makes the jobs of objects on disk."""

    @abstractmethod
    def content(self, slot: WorkSlot[T], landed: Landed, outcome: Any) -> Any:
        """What the item is made of, by what the workshop gave."""

    def may_send(self) -> bool:
        """Whether more may be sent than what is under way."""
        return True

    def spare(self) -> int:
        """How many may be sent because the consumer is late, beyond those that may be ahead of it in any case."""
        return 0

    def at_hand(self) -> tuple[int, int]:
        return len(self._pending) + self._ahead, max(0, self._ahead - self._most_ahead)

    def make(self, slot: Slot[T], landed: Landed) -> None:
        # Not twice, where an interrupt has this called again.
        if slot.place != self._newest or (
            cast("WorkSlot[T]", slot).job is None and (slot.place, slot) not in self._pending
        ):
            self._newest = slot.place
            heapq.heappush(self._pending, (slot.place, slot))
        if slot is self.awaited:
            self.urged(slot)
        elif not self._sending:  # with all that land in this turn of the loop
            self._sending = True
            self.engine.loop.call_soon(self._send_soon)

    def taken(self, slots: list[Slot[T]]) -> None:
        for slot in cast("list[WorkSlot[T]]", slots):  # an assertion would ask ABCMeta, for each item
            if slot.job is not None:
                slot.job = None
                self._ahead -= 1
        self._sending = False  # an interrupt may have taken that turn of the loop: what lands next asks for another
        if self._most_ahead - self._ahead >= WORTH or self.late:
            self.send_on(WORTH)

    def dropped(self, slot: Slot[T]) -> None:
        assert isinstance(slot, WorkSlot)
        if slot.job is not None:
            self._workshop.cancel(slot.job)
            slot.job = None
        self._pending.clear()

    def urged(self, slot: Slot[T]) -> None:
        assert isinstance(slot, WorkSlot)
        if slot.job is None and slot.landed is not None:
            if (slot.place, slot) in self._pending:  # else an interrupt came between that and the workshop
                self._pending.remove((slot.place, slot))
                heapq.heapify(self._pending)
            self._send([slot])
        if slot.job is not None:
            if slot.job.state == "new":  # an interrupt kept it from the workshop
                self._workshop.submit(slot.job)
            self._workshop.urge(slot.job)

    def send_on(self, worth: int = 1) -> None:
        """Sends what there is room for; where that is not for `worth` and the consumer is late, what can be spared."""
        pending = len(self._pending)
        room = self._most_ahead - self._ahead
        if room < worth and pending and self.late:
            room = self.spare()
        if room >= worth and not self.may_send():
            room = 0 if self._ahead else 1
        room = min(room, pending)
        if room > 0:
            slots = [heapq.heappop(self._pending)[1] for _ in range(room)]
            self._send(cast("list[WorkSlot[T]]", slots))

    def done(self, slot: WorkSlot[T], outcome: Any) -> None:
        """Takes what the workshop made of a slot's object, or its exception."""
        assert slot.landed is not None
        if not isinstance(outcome, Exception):
            self.settle(slot, self.content(slot, slot.landed, outcome))
        elif isinstance(outcome, ObjectNotFound) and slot.location.scheme != "file" and not slot.again:
            # Another process cleared the cache between the look-up and now.
            slot.again, slot.job, slot.landed = True, None, None
            self._ahead -= 1
            self.engine.request([slot])
            if slot is self.awaited:
                self.engine.flights.urge(slot)
            self.send_on()
        else:
            self.engine.meter.failures[type(outcome).__name__] += 1
            slot.fail(self._stage, outcome)

    def _send_soon(self) -> None:
        self._sending = False
        if not self.closed:
            self.send_on()
            self.hurry()

    def _send(self, slots: list[WorkSlot[T]]) -> None:
        self._workshop.submit(*self._jobs_of(slots))

    def _jobs_of(self, slots: list[WorkSlot[T]]) -> list[Any]:
        """Makes jobs that are to be under way now."""
        self._ahead += len(slots)
        jobs = self.jobs(slots)
        for slot, job in zip(slots, jobs, strict=True):
            slot.job = job
        return jobs
