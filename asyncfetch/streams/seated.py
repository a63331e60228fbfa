"""The run whose items are made in the decode pool, and in batches come to lie side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asyncfetch.decode import DecodeJob
from asyncfetch.objects import Failure
from asyncfetch.streams.seats import Form, Seats
from asyncfetch.streams.work import WorkRun, WorkSlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import DecodeOptions, MapOptions, Pixels, Row
    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.streams.run import Joined, Slot
    from asyncfetch.uris import Location

T = TypeVar("T")

# Images decoded or being decoded and not yet taken, for each worker: two batches of eight under way and as many ready
# keep a worker busy; more would only hold pixels.
AHEAD = 32


class SeatedSlot(WorkSlot[T]):
    """A slot that knows the row of its batch."""

    __slots__ = ("in_row", "row", "seated")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.row: Row | None = None
        self.seated = False  # whether it has a row, or will have none
        self.in_row = False  # whether its array lies there


class SeatedRun(WorkRun[T]):
    """A run whose items have an array each, or none, written by a worker: in a batch to the rows of one array."""

    def __init__(
        self, engine: Engine, reading: Reading, progress: Progress, *, options: DecodeOptions | MapOptions, **rest: Any
    ) -> None:
        most = AHEAD * engine.settings.decode.worker_count
        super().__init__(engine, reading, progress, workshop=engine.pool, most_ahead=most, stage="decode", **rest)
        self._options = options
        self._begun = False
        self._seats = Seats(engine.pool, self.batch) if self.batch else None
        self._standing: deque[SeatedSlot[T]] = deque()  # in the order of the plan, those that are not seated

    @abstractmethod
    def array_in(self, content: Any) -> Pixels | None:
        """The array that is in what the pool gave, or in what an item is made of; None where there is none."""

    @abstractmethod
    def joined(self, slots: list[Slot[T]], array: Pixels | None, moved: Sequence[int]) -> Joined[T]:
        """Makes a batch: of items whose arrays are the rows of one, or of what there is.

        Those at the places in `moved` have arrays of their own, and are to be given their rows.
        """

    def slot(
        self, placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None
    ) -> SeatedSlot[T]:
        slot: SeatedSlot[T] = SeatedSlot(self, placed, payload, uri, location, listed)  # [T] would cost as much again
        if self._seats is not None and self.in_order:
            self._standing.append(slot)
        return slot

    def deliver(self, batch: list[Placed]) -> None:
        if not self._begun:
            self._begun = True
            self.engine.pool.expect(len(batch))
        super().deliver(batch)

    def settle(self, slot: Slot[T], result: Any) -> None:
        if self._seats is not None and isinstance(result, Failure):
            assert isinstance(slot, SeatedSlot)
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

    def together(self, slot: Slot[T]) -> object:
        assert isinstance(slot, SeatedSlot)
        return None if self.in_order or slot.row is None else slot.row.slab

    def join(self, slots: list[Slot[T]]) -> Joined[T]:
        assert self._seats is not None
        seated = cast("list[SeatedSlot[T]]", slots)
        if not self.in_order:
            seated.sort(key=_place_in_slab)
        arrays = [array for slot in seated if (array := self.array_in(slot.result)) is not None]
        found = None
        if len(arrays) == len(seated):
            found = self._seats.array(arrays, [slot.row for slot in seated], [slot.in_row for slot in seated])
        for slot in seated:
            slot.row = None
        return self.joined(slots, *(found or (None, ())))

    def close(self) -> None:
        super().close()
        self._standing.clear()
        if self._seats is not None:
            self._seats.close()

    def may_send(self) -> bool:
        return self._seats is None or self._seats.known  # the first one tells how large the rows are

    def job(self, slot: WorkSlot[T], landed: Landed) -> DecodeJob:
        assert isinstance(slot, SeatedSlot)
        if self._seats is not None:
            self._seat(slot)
        return DecodeJob(
            uri=slot.uri,
            path=landed.path,
            options=self._options,
            order=slot.place,
            row=slot.row,
            done=partial(self.done, slot),
            digest=landed.digest,
            epoch=self._progress.epoch_of(slot.place),
            index=slot.index,
        )

    def made(self, slot: WorkSlot[T], outcome: Any) -> None:
        assert isinstance(slot, SeatedSlot)
        array = self.array_in(outcome)
        slot.in_row = array is not None and slot.job is not None and slot.job.row is not None
        if self._seats is not None and not slot.seated:  # sent before it was known how large rows are
            first = not self._seats.known
            if first:
                self._seats.expect(None if array is None else Form.of(array))
            self._seat(slot)
            if first:
                self.send_on()

    def _seat(self, slot: SeatedSlot[T]) -> None:
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


def _place_in_slab(slot: SeatedSlot[Any]) -> int:
    return -1 if slot.row is None else slot.row.index
