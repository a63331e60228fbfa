"""The run whose items are pixels: objects on disk go on to the decode pool, as many as the workers can use."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.decode import DecodeJob, DecodeOptions
from asyncfetch.errors import ObjectNotFound
from asyncfetch.objects import Image
from asyncfetch.streams.run import Joined, Run, Slot
from asyncfetch.streams.seats import Form, Seats

if TYPE_CHECKING:
    from asyncfetch.decode import Pixels, Row
    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import Entry, Failure, ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.streams.run import Taken
    from asyncfetch.uris import Location

# Images decoded or being decoded and not yet taken, for each worker: two batches of eight under way and as many ready
# keep a worker busy; more would only hold pixels.
AHEAD = 32


class ImageSlot(Slot[Image]):
    """A slot that knows its decode job, and the row of its batch."""

    __slots__ = ("again", "in_row", "job", "row", "seated")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.job: DecodeJob | None = None
        self.row: Row | None = None
        self.seated = False  # whether it has a row, or will have none
        self.in_row = False  # whether its pixels lie there
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
        self._seats = Seats(engine.pool, self.batch) if self.batch else None
        self._standing: deque[ImageSlot] = deque()  # in the order of the plan, those that are not seated

    def slot(self, placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None) -> ImageSlot:
        slot = ImageSlot(self, placed, payload, uri, location, listed)
        if self._seats is not None and self.in_order:
            self._standing.append(slot)
        return slot

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

    def settle(self, slot: Slot[Image], result: Image | Failure) -> None:
        assert isinstance(slot, ImageSlot)
        if self._seats is not None and not isinstance(result, Image):
            if not self.outcomes.leaves_out:
                # It has a place in its batch, and so a row, in which a substitute may come to lie.
                if not self.in_order and not slot.seated:
                    self._seat(slot)
            else:
                slot.seated = True
                if slot.row is not None:
                    self._seats.free(slot.row)
                    slot.row = None
                while self._standing and self._standing[0].seated:  # else they gather until there is an image
                    self._standing.popleft()
        super().settle(slot, result)

    def together(self, slot: Slot[Image]) -> object:
        assert isinstance(slot, ImageSlot)
        return None if self.in_order or slot.row is None else slot.row.slab

    def join(self, taken: list[Taken[Image]]) -> Joined[Image]:
        images = [item for item, _ in taken if isinstance(item, Image)]
        if not images:
            return Joined(taken, None)
        array = self._array(taken) if len(images) == len(taken) else None
        if array is None:
            pixels: Any = [item.pixels if isinstance(item, Image) else None for item, _ in taken]
        else:
            pixels = array
            # With the dots also what has no axes, as a transform may give it, stays a view of the array.
            taken[:] = [(replace(item, pixels=array[at, ...]), slot) for at, (item, slot) in enumerate(taken)]
        for _, slot in taken:
            assert isinstance(slot, ImageSlot)
            slot.row = None
        return Joined(taken, pixels)

    def close(self) -> None:
        super().close()
        self._standing.clear()
        if self._seats is not None:
            self._seats.close()

    def _array(self, taken: list[Taken[Image]]) -> Pixels | None:
        assert self._seats is not None
        if not self.in_order:
            taken.sort(key=_place_in_slab)
        slots = [slot for _, slot in taken if isinstance(slot, ImageSlot)]
        images = [item.pixels for item, _ in taken]
        return self._seats.array(images, [slot.row for slot in slots], [slot.in_row for slot in slots])

    def _decode(self) -> None:
        while self._pending and self._ahead < self._most_ahead:
            if self._seats is not None and not self._seats.known and self._ahead:
                return  # the first image tells how large the rows are
            self._send(heapq.heappop(self._pending)[1])

    def _seat(self, slot: ImageSlot) -> None:
        """Gives a slot its row, after all that come before it in the plan have theirs: so a batch lies in order."""
        assert self._seats is not None
        if not self._seats.known:
            return
        while self.in_order and self._standing and self._standing[0].place < slot.place:
            before = self._standing.popleft()
            if not before.seated:
                before.seated, before.row = True, self._seats.next()
        if not slot.seated:
            slot.seated, slot.row = True, self._seats.next()

    def _send(self, slot: ImageSlot) -> None:
        assert slot.landed is not None
        self._ahead += 1
        if self._seats is not None:
            self._seat(slot)
        slot.job = DecodeJob(
            uri=slot.uri,
            path=slot.landed.path,
            options=self._options,
            order=slot.place,
            row=slot.row,
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
            slot.in_row = slot.job is not None and slot.job.row is not None
            if self._seats is not None and not slot.seated:  # sent before it was known how large rows are
                first = not self._seats.known
                if first:
                    self._seats.expect(Form.of(outcome))
                self._seat(slot)
                if first:
                    self._decode()
            self.settle(slot, Image(slot.uri, outcome, slot.entry(slot.landed), slot.index, slot.payload))


def _place_in_slab(taken: Taken[Image]) -> int:
    slot = taken[1]
    assert isinstance(slot, ImageSlot)
    return -1 if slot.row is None else slot.row.index
