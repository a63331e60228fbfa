"""The run whose items are made in the decode pool, and in batches come to lie side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asyncfetch.decode import DecodeJob, Packed, slot_capacity
from asyncfetch.objects import Failure
from asyncfetch.streams.seats import Form, Seats
from asyncfetch.streams.work import WORTH, WorkRun, WorkSlot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncfetch.decode import DecodeOptions, MapOptions, Pixels, Row, Settled, Slab
    from asyncfetch.engine import Engine
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.streams.run import Run
    from asyncfetch.streams.slots import Joined, Slot
    from asyncfetch.uris import Location

T = TypeVar("T")

# Images decoded or being decoded and not yet taken, for each worker: 40 under way and what else is ready keep a worker
# busy; more would only hold pixels, where the consumer is quick.
AHEAD = 56

# Where it is late, and workers have less than that to do, others are decoded for it: as many as have room in half of
# the budget, which the streams share, and two batches at least; as long as a quarter of the budget is left for bodies,
# for what decoders take, and for what the consumer has in hand.
_SHARE, _USED = 1 / 2, 3 / 4
_BATCHES = 2
_MOST_SLABS = 32  # batches that are decoded ahead: each keeps a file open until it is given


class SeatedSlot(WorkSlot[T]):
    """A slot that knows the row of its batch."""

    __slots__ = ("in_row", "row", "seated")

    def __init__(
        self, run: Run[T], placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None
    ) -> None:
        WorkSlot.__init__(self, run, placed, payload, uri, location, listed)
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
        self._size = 0  # bytes that the next item will need, as far as the pool can tell
        self._seats = Seats(engine.pool, self.batch) if self.batch else None
        self._standing: deque[SeatedSlot[T]] = deque()  # in the order of the plan, those that are not seated

    @abstractmethod
    def array_in(self, content: Any) -> Pixels | None:
        """The array that is in what an item is made of, or in what takes its place; None where there is none."""

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
                    self._seat([slot])
            else:
                slot.seated = True
                if slot.row is not None:
                    self._seats.free(slot.row)
                    slot.row = None
                while self._standing and self._standing[0].seated:  # else they gather until there is an image
                    self._standing.popleft()
        super().settle(slot, result)

    def together(self, slots: list[Slot[T]]) -> Iterable[tuple[object, list[Slot[T]]]]:
        if self.in_order:
            return [(None, slots)]
        return [(slab, list(some)) for slab, some in groupby(slots, _slab_of)]

    def join(self, slots: list[Slot[T]]) -> Joined[T]:
        assert self._seats is not None
        import numpy as np

        seated = cast("list[SeatedSlot[T]]", slots)
        if not self.in_order:
            seated.sort(key=_place_in_slab)
        arrays = []
        for slot in seated:
            array = slot.result
            if (slot.instead or type(array) is not np.ndarray) and (array := self.array_in(array)) is None:
                break
            arrays.append(array)
        found = None
        if len(arrays) == len(seated):
            found = self._seats.array(arrays, [slot.row for slot in seated], [slot.in_row for slot in seated])
        return self.joined(slots, *(found or (None, ())))

    def emptied(self, slots: list[Slot[T]]) -> None:
        super().emptied(slots)
        for slot in cast("list[SeatedSlot[T]]", slots):
            slot.row = None

    def close(self) -> None:
        super().close()
        self._standing.clear()
        if self._seats is not None:
            self._seats.close()

    def may_send(self) -> bool:
        return self._seats is None or self._seats.known  # the first one tells how large the rows are

    def spare(self) -> int:
        pool, credits, seats = self.engine.pool, self.engine.credits, self._seats
        idle = self._idle()
        if idle < WORTH or not self._size:
            return 0
        size = slot_capacity(self._size)
        most = int(credits.total * _SHARE / len(self._sharing())) // size
        left = int(credits.total * _USED) - pool.used_bytes
        if seats is None or seats.form is None:
            return min(idle, most - self._ahead, left // size - pool.waiting)
        most = min(max(most, _BATCHES * self.batch), max(self._most_ahead, _MOST_SLABS * self.batch))
        slabs = max(0, left // slot_capacity(self.batch * seats.form.size))
        return min(idle, most - self._ahead, seats.left + slabs * self.batch)

    def jobs(self, slots: Sequence[WorkSlot[T]]) -> list[DecodeJob]:
        if self._seats is not None:
            self._seat(cast("Sequence[SeatedSlot[T]]", slots))
        done, epoch_of, jobs = self.settled, self._progress.epoch_of, []
        epoch, last = epoch_of(slots[0].place), epoch_of(slots[-1].place)  # they are in the order of the plan
        for slot in cast("Sequence[SeatedSlot[T]]", slots):
            landed = slot.landed
            assert landed is not None
            job = DecodeJob(
                slot.uri,
                landed.path,
                self._options,
                slot.place,
                done,
                slot,
                digest=landed.digest,
                epoch=epoch if epoch == last else epoch_of(slot.place),
                index=slot.index,
                row=slot.row,
                size=landed.size,
                header=landed.header,
                private=landed.private,
            )
            jobs.append(job)
        return jobs

    def settled(self, settled: list[Settled]) -> None:
        """Takes what the pool made of the objects of some slots, or its exceptions."""
        if self.closed:
            return
        made: list[SeatedSlot[T]] = []
        for job, outcome in settled:
            slot: SeatedSlot[T] = job.holder
            if isinstance(outcome, Exception):
                self.done(slot, outcome)
                continue
            array = None if isinstance(outcome, Packed) else outcome
            slot.in_row = array is not None and job.row is not None
            if self._seats is not None and not slot.seated:  # sent before it was known how large rows are
                first = not self._seats.known
                if first:
                    self._seats.expect(None if array is None else Form.of(array))
                self._seat([slot])
                if first:
                    self.send_on()
            assert slot.landed is not None
            slot.result = self.content(slot, slot.landed, outcome)
            made.append(slot)
        manner = settled[-1][0].manner
        assert manner is not None
        self._size = manner.guess
        if made:
            self.came(made)
        if self._waiter is None:
            self.hurry()
        if (self.late or len(self.engine.runs) > 1) and self._idle() >= WORTH:
            for run in self._sharing():
                if run.late:  # of which some may have nothing under way that would tell them
                    run.send_on(WORTH)

    def _idle(self) -> int:
        """How many fewer are under way, of all runs, than keep the workers busy."""
        return self._most_ahead - self.engine.pool.under_way

    def _sharing(self) -> list[SeatedRun[Any]]:
        """The runs of this kind, this one included."""
        return [run for run in self.engine.runs if isinstance(run, SeatedRun) and not run.closed]

    def _seat(self, slots: Sequence[SeatedSlot[T]]) -> None:
        """Gives slots their rows, after all that come before them in the plan have theirs: so a batch lies in order."""
        seats = self._seats
        assert seats is not None
        if not seats.known:
            return
        standing = self._standing  # empty where the order is that of completion
        for slot in slots:
            while standing and standing[0].place < slot.place:
                before = standing.popleft()
                if not before.seated:
                    before.seated, before.row = True, seats.next()
            if not slot.seated:
                slot.seated, slot.row = True, seats.next()


def _slab_of(slot: Slot[Any]) -> Slab | None:
    row = cast("SeatedSlot[Any]", slot).row
    return None if row is None else row.slab


def _place_in_slab(slot: SeatedSlot[Any]) -> int:
    return -1 if slot.row is None else slot.row.index
