"""The run whose items are whole bodies in memory."""

from __future__ import annotations

import heapq
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from asyncfetch.engine import BodyJob
from asyncfetch.objects import Body
from asyncfetch.streams.entries import entry_of
from asyncfetch.streams.work import WorkRun, WorkSlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.streams.slots import Slot
    from asyncfetch.uris import Location

# Bodies read or being read and not yet taken: two batches under way and as many ready. What is on disk is soon read.
AHEAD = 128


class BodyRun(WorkRun[Body]):
    """A run whose items are bodies."""

    def __init__(self, engine: Engine, reading: Reading, progress: Progress, **rest: Any) -> None:
        super().__init__(engine, reading, progress, workshop=engine.bodies, most_ahead=AHEAD, stage="cache", **rest)

    def _bring(self, most: int) -> bool:
        """Reads each body before it is taken, where it is in memory.

        Nothing is gained by reading it sooner, and much lost: a body that waits keeps its memory from the next one.
        """
        reads = True
        while True:
            if (slot := self._next_to_read()) is not None:
                heapq.heappop(self._pending)
                [job] = self._jobs_of([slot])
                reads = self.engine.bodies.read_now(job)
                if not reads:
                    job.urgent = True
                    self.engine.bodies.submit(job)
                    self.send_on()
            if super()._bring(1):
                return True
            if not reads or self._next_to_read() is None:
                return False  # else what was settled was left out, or went meanwhile, and there is another

    def send_on(self, worth: int = 1) -> None:
        if not (self._pending and self._at_hand(self._pending[0][1])):
            super().send_on(worth)
        elif self._next_to_read() is not None:
            self._wake()

    def _at_hand(self, slot: Slot[Body]) -> bool:
        """Whether a body is soon read when it is asked for."""
        assert slot.landed is not None
        return self.engine.bodies.at_hand(slot.landed.path, slot.landed.size)

    def _next_to_read(self) -> WorkSlot[Body] | None:
        """The slot of the body that the consumer could have next, if that is on disk, and nobody is to read it yet."""
        if not self._pending or self._ready:
            return None
        slot = cast("WorkSlot[Body]", self._pending[0][1])
        return slot if not self.in_order or slot is self._line[0] else None

    def slot(
        self, placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None
    ) -> WorkSlot[Body]:
        return WorkSlot(self, placed, payload, uri, location, listed)

    def jobs(self, slots: Sequence[WorkSlot[Body]]) -> list[BodyJob]:
        jobs = []
        for slot in slots:
            assert slot.landed is not None
            done = partial(self.done, slot)
            jobs.append(BodyJob(slot.uri, slot.landed.path, slot.landed.size, slot.place, done))
        return jobs

    def content(self, slot: WorkSlot[Body], landed: Landed, outcome: bytearray) -> Body:
        entry = entry_of(slot.uri, landed, slot.index, slot.payload)
        return Body(slot.uri, outcome, entry, slot.index, slot.payload)
