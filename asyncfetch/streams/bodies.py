"""The run whose items are whole bodies in memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.engine import BodyJob
from asyncfetch.objects import Body
from asyncfetch.streams.run import entry_of
from asyncfetch.streams.work import WorkRun, WorkSlot

if TYPE_CHECKING:
    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.uris import Location

# Bodies read or being read and not yet taken: two batches under way and as many ready. What is on disk is soon read.
AHEAD = 128


class BodyRun(WorkRun[Body]):
    """A run whose items are bodies."""

    def __init__(self, engine: Engine, reading: Reading, progress: Progress, **rest: Any) -> None:
        super().__init__(engine, reading, progress, workshop=engine.bodies, most_ahead=AHEAD, stage="cache", **rest)

    def slot(
        self, placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None
    ) -> WorkSlot[Body]:
        return WorkSlot(self, placed, payload, uri, location, listed)

    def job(self, slot: WorkSlot[Body], landed: Landed) -> BodyJob:
        return BodyJob(slot.uri, landed.path, landed.size, slot.place, partial(self.done, slot))

    def content(self, slot: WorkSlot[Body], landed: Landed, outcome: bytearray) -> Body:
        entry = entry_of(slot.uri, landed, slot.index, slot.payload)
        return Body(slot.uri, outcome, entry, slot.index, slot.payload)
