"""The run whose items are pixels: objects on disk go on to the decode pool, as many as the workers can use."""

from __future__ import annotations

import heapq
from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.decode import DecodeJob, DecodeOptions
from asyncfetch.errors import ObjectNotFound
from asyncfetch.objects import Image
from asyncfetch.streams.run import Run, Slot

if TYPE_CHECKING:
    from asyncfetch.decode import Pixels
    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import Entry, ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.uris import Location

# Images decoded or being decoded and not yet taken, for each worker: two batches of eight under way and as many ready
# keep a worker busy; more would only hold pixels.
AHEAD = 32


class ImageSlot(Slot[Image]):
    """A slot that knows its decode job."""

    __slots__ = ("again", "job")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.job: DecodeJob | None = None
        self.again = False  # its blob was gone when it was to be read, and it is fetched once more


class ImageRun(Run[Image]):
    """A run whose items are decoded images. Decoding follows the order of the plan among what is on disk."""

    def __init__(
        self, engine: Engine, reading: Reading, progress: Progress, *, options: DecodeOptions, **rest: Any
    ) -> None:
        super().__init__(engine, reading, progress, **rest)
        self._options = options
        self._pending: list[tuple[int, ImageSlot]] = []  # a heap by place: on disk, not yet sent to the pool
        self._ahead = 0
        self._most_ahead = AHEAD * engine.settings.decode.worker_count

    def slot(self, placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None) -> ImageSlot:
        return ImageSlot(self, placed, payload, uri, location, listed)

    def entry_of(self, item: Image) -> Entry:
        return item.entry

    def make(self, slot: Slot[Image], landed: Landed) -> None:
        assert isinstance(slot, ImageSlot)
        heapq.heappush(self._pending, (slot.place, slot))
        self._decode()
        if slot is self.awaited:
            self.urged(slot)

    def taken(self, slot: Slot[Image]) -> None:
        assert isinstance(slot, ImageSlot)
        if slot.job is not None:
            slot.job = None
            self._ahead -= 1
            self._decode()

    def dropped(self, slot: Slot[Image]) -> None:
        assert isinstance(slot, ImageSlot)
        if slot.job is not None:
            self.engine.pool.cancel(slot.job)
            slot.job = None
        self._pending.clear()

    def urged(self, slot: Slot[Image]) -> None:
        assert isinstance(slot, ImageSlot)
        if slot.job is None and slot.landed is not None:
            self._pending.remove((slot.place, slot))
            heapq.heapify(self._pending)
            self._send(slot)
        if slot.job is not None:
            self.engine.pool.urge(slot.job)

    def _decode(self) -> None:
        while self._pending and self._ahead < self._most_ahead:
            self._send(heapq.heappop(self._pending)[1])

    def _send(self, slot: ImageSlot) -> None:
        assert slot.landed is not None
        self._ahead += 1
        slot.job = DecodeJob(
            uri=slot.uri,
            path=slot.landed.path,
            options=self._options,
            order=slot.place,
            done=partial(self._decoded, slot),
            digest=slot.landed.digest,
            epoch=self._progress.epoch_of(slot.place),
            index=slot.index,
        )
        self.engine.pool.submit(slot.job)

    def _decoded(self, slot: ImageSlot, outcome: Pixels | Exception) -> None:
        assert slot.landed is not None
        if isinstance(outcome, ObjectNotFound) and slot.location.scheme != "file" and not slot.again:
            # Another process cleared the cache between the look-up and now.
            slot.again, slot.job, slot.landed = True, None, None
            self._ahead -= 1
            self.engine.request([slot])
            if slot is self.awaited:
                self.engine.flights.urge(slot)
            self._decode()
        elif isinstance(outcome, Exception):
            self.engine.meter.failures[type(outcome).__name__] += 1
            slot.fail("decode", outcome)
        else:
            self.settle(slot, Image(slot.uri, outcome, slot.entry(slot.landed), slot.index, slot.payload))
