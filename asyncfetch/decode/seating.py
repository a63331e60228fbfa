"""Which worker a job goes to and where its pixels will lie: memory is found, or made, or the job waits for it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple, cast

from asyncfetch.decode.arena import Arena, Slot, needs_that_fit, slot_capacity
from asyncfetch.decode.rows import AllWorkers, Slab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from asyncfetch.decode.arena import ArenaStatistics
    from asyncfetch.decode.budget import Budget
    from asyncfetch.decode.forms import Pixels
    from asyncfetch.decode.jobs import DecodeJob
    from asyncfetch.decode.process import WorkerProcess

_FIRST_GUESS = 1 << 20  # bytes of pixels of an image nothing is known of: 640x480 in colour
_FIRST_SCRATCH = 4 << 20  # what the decoder of a JPEG may take for it
_UNKNOWN = range(1)


class Seat(NamedTuple):
    """A worker, and the memory that it may use for a job, or for some that have rows of one slab."""

    worker: WorkerProcess
    place: Slot | Slab
    scratch: int  # bytes beside the slot
    needs: range  # of others that may have slots as large; 0 is of those whose needs are not known


class Seating:
    """The memory of a pool: slots of single workers, slabs that all of them write to, and their own beside these.

    `wake` is called when a lent slot came back, on any thread, also inside a garbage collection.
    """

    def __init__(self, budget: Budget, wake: Callable[[], None]) -> None:
        self._budget = budget
        self._arena = Arena(budget, wake)
        self._all_workers = AllWorkers()
        self._arena.admit(self._all_workers)

    # Workers

    def admit(self, worker: WorkerProcess) -> None:
        """Knows a worker from now on."""
        self._arena.admit(worker)

    def lose(self, worker: WorkerProcess) -> None:
        """Gives up what was made for a worker that is no more."""
        self._arena.expel(worker)
        self._all_workers.lose(worker)

    # Jobs

    def seat(self, job: DecodeJob, open_to_more: Sequence[WorkerProcess], *, idle: bool) -> Seat | None:
        """Finds a worker and memory for a job, if that can be done now; `idle` says that no worker has any other.

        Raises `OSError` when there is no memory for the mapping, or there are too many open files.
        """
        worker = open_to_more[0]
        for other in open_to_more:
            if other.load < worker.load:
                worker = other
        manner = job.manner
        assert manner is not None
        need = job.need or (manner.guess if job.row is None else job.row.capacity)
        scratch = job.scratch or manner.scratch or _FIRST_SCRATCH
        if not need:
            # One image each, until it is known how large these are.
            if worker.sent:
                return None
            need = min(_FIRST_GUESS, job.options.most_bytes or _FIRST_GUESS)
        elif need < manner.guess and job.row is None and need in needs_that_fit(slot_capacity(manner.guess)):
            need = manner.guess  # as large as for others before it, so that images of about one size share slots
        worker, place = self._find(job, worker, open_to_more, need, scratch)
        if place is None and job.urgent and idle:
            # There is nothing left to wait for.
            job.row = None
            place = self._arena.overdraw(worker, need, max(0, scratch - worker.allowance.amount))
            worker.frugal = True
        if place is None:
            return None
        needs = needs_that_fit(place.capacity) if job.need and isinstance(place, Slot) else _UNKNOWN
        return Seat(worker, place, max(scratch, worker.allowance.amount), needs)

    def places(self, job: DecodeJob, seat: Seat, most: int) -> list[Slot | Slab]:
        """What was found for a job, and as much for others like it: for `most` of them, as far as the worker has room.

        They have the same slab, or slots that are free: none is made, and none taken before it is known what they need.
        """
        worker, place = seat.worker, seat.place
        if isinstance(place, Slab):
            return [place] * min(most, worker.room_for(place.size))
        assert job.manner is not None
        if not (job.need or job.manner.guess):
            return [place]
        return [place, *self._arena.find_like(place, min(most, worker.room_for(place.capacity)) - 1)]

    def lend(
        self, jobs: Sequence[DecodeJob], places: Sequence[Slot | Slab], shape: list[int], dtype: str
    ) -> list[Pixels]:
        """What was written for jobs, as arrays whose memory is lent until nothing looks at it any more.

        Raises `ValueError` or `TypeError` for arrays that cannot lie there, or not of numbers: objects are addresses.
        """
        if not _is_of_numbers(dtype):
            raise ValueError(f"an array of {dtype}")
        if isinstance(places[0], Slab):
            return places[0].pixels([job.row.index for job in jobs if job.row is not None], shape, dtype)
        return self._arena.lend(cast("Sequence[Slot]", places), shape, dtype)

    def put_back(self, place: Slot | Slab) -> None:
        """Takes back what a job was given."""
        if not isinstance(place, Slab):  # which comes back by itself
            self._arena.put_back(place)

    def slab(self, count: int, size: int, *, alone: bool) -> Slab | None:
        """Room for `count` images of `size` bytes each; None for no bytes, without memory, or when the budget refuses.

        With `alone` it may overdraw the budget. It goes back when nothing looks at it any more.
        """
        arena, owner, need = self._arena, self._all_workers, count * size
        if not need:
            return None
        arena.collect()
        while (slot := arena.find(owner, need)) is not None and slot.descriptor is None:
            arena.discard(slot)  # workers that come to it later could not map it
        try:
            slot = slot or (arena.overdraw(owner, need, 0) if alone else arena.make(owner, need))
        except OSError:
            return None
        if slot is None:
            return None
        [ground] = arena.lend([slot], [slot.capacity], "|u1")
        return Slab(slot, ground, count, size)

    # What comes back

    @property
    def has_returned(self) -> bool:
        """Whether users have let something go that was not yet collected."""
        return self._arena.has_returned

    @property
    def free_bytes(self) -> int:
        """What is kept for reuse."""
        self._arena.collect()
        return self._arena.free_bytes

    def collect(self) -> None:
        """Takes back what users have let go; what urgent jobs overdrew is not kept for reuse."""
        self._arena.collect()
        if excess := self._budget.excess:
            self._arena.reclaim(excess)

    def reclaim(self, amount: int, workers: Iterable[WorkerProcess]) -> int:
        """Gives up memory that is kept for reuse, `amount` bytes or a little more, and says how many went back."""
        returned = self._arena.reclaim(amount)
        for worker in workers:
            if returned >= amount:
                break
            if not worker.sent and worker.allowance.amount:
                returned += worker.allowance.lower_to(0)
                worker.frugal = True
        return returned

    def close(self) -> None:
        """Gives up all but what is lent, which ends with its last view."""
        self._arena.close()

    def statistics(self) -> ArenaStatistics:
        """Counts the slots as they are now."""
        self._arena.collect()
        return self._arena.statistics()

    def _find(
        self, job: DecodeJob, worker: WorkerProcess, others: Sequence[WorkerProcess], need: int, scratch: int
    ) -> tuple[WorkerProcess, Slot | Slab | None]:
        """Finds memory for a job: its slab, a free slot, a new one, or a new one for which free ones are dropped."""
        arena = self._arena
        if worker.sent and worker.allowance.amount < scratch:
            # What it keeps idle for the next image may do as well elsewhere.
            worker = max(others, key=lambda other: other.allowance.amount)
        kept = worker.allowance.amount
        if scratch > kept and not self._allow(worker, scratch):
            return worker, None
        if job.row is not None:
            slab = job.row.slab
            self._all_workers.tell(worker, slab.slot)
            return worker, slab
        slot = arena.find(worker, need) or arena.make(worker, need)
        if slot is not None:
            return worker, slot
        if worker.sent:
            # It has something to do: memory that is warm elsewhere is better than memory that is fresh here.
            for other in others:
                if other.allowance.amount >= scratch and (slot := arena.find(other, need)) is not None:
                    return other, slot
        while slot is None and arena.drop_one(worker, need, fitting=not worker.sent):
            slot = arena.make(worker, need)
        if slot is None:
            worker.allowance.lower_to(kept)  # nobody waits for memory while holding some
        return worker, slot

    def _allow(self, worker: WorkerProcess, scratch: int) -> bool:
        """Sees to it that a worker may take so much memory of its own; if need be free slots go for that."""
        allowance = worker.allowance
        if allowance.raise_to(scratch):
            return True
        self._arena.reclaim(scratch - allowance.amount)
        return allowance.raise_to(scratch)


@functools.cache
def _is_of_numbers(dtype: str) -> bool:
    import numpy as np

    return np.dtype(dtype).kind in "?biufc"
