"""The jobs that wait for a worker or for memory: urgent ones first, then in plan order."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.decode.jobs import DecodeJob


class Waiting(Protocol):
    """A job as the queue knows it. Any `order` that compares with others will do."""

    urgent: bool
    order: Any
    number: int
    state: Literal["new", "waiting", "sent", "over"]


J = TypeVar("J", bound=Waiting)


class WaitingJobs(Generic[J]):
    """A priority queue out of which jobs may be taken anywhere.

    A place in the heap counts only while its job waits with the same urgency; other places are passed over when they
    come up, and swept when they are the majority, so that cancelling is cheap and memory stays in proportion.
    """

    def __init__(self) -> None:
        # Not urgent, order, number, job: the number keeps equal orders in the order of their submission, and jobs
        # uncompared.
        self._places: list[tuple[bool, Any, int, J]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, *jobs: J) -> None:
        """Puts jobs in their places."""
        self._count += len(jobs)  # before them: what an interrupt keeps from coming is rather counted than missing
        for job in jobs:
            job.state = "waiting"
            heapq.heappush(self._places, (not job.urgent, job.order, job.number, job))

    def first(self) -> J | None:
        """The job whose turn it is; it stays."""
        places = self._places
        while places:
            place = places[0]
            if _counts(place):
                return place[3]
            heapq.heappop(places)
        return None

    def remove(self, job: J) -> None:
        """Takes out a job that waits; the caller says what becomes of it."""
        job.state = "over"
        self._count -= 1
        if self._places[0][3] is job:
            heapq.heappop(self._places)
        elif len(self._places) > 2 * self._count + 64:
            self._places = [place for place in self._places if _counts(place)]
            heapq.heapify(self._places)

    def urge(self, job: J) -> None:
        """Moves a waiting job before all that are not urgent."""
        if not job.urgent:
            job.urgent = True
            heapq.heappush(self._places, (False, job.order, job.number, job))

    def clear(self) -> list[J]:
        """Takes out all jobs, in the order of their turns."""
        jobs = [place[3] for place in sorted(self._places, key=lambda place: place[:3]) if _counts(place)]
        for job in jobs:
            job.state = "over"
        self._places.clear()
        self._count = 0
        return jobs


class WaitingGroups(WaitingJobs["DecodeJob"]):
    """The same of images, several of which may go to one worker in one order."""

    def take_group(
        self, first: DecodeJob, most: int, needs: range, scratch: int, may_go: Callable[[DecodeJob], bool] | None
    ) -> list[DecodeJob]:
        """Takes out the first job, and up to `most` with those right behind it that are wanted alike.

        They go to the same slab, or none of them to any and each needs as much as one of `needs`. Of those behind it
        each needs no more than `scratch` bytes beside, and `may_go`, if that is asked for.
        """
        self.remove(first)
        group = [first]
        places, manner = self._places, first.manner
        slab = None if first.row is None else first.row.slab
        while places and len(group) < most:
            calm, _, _, job = places[0]
            if job.state == "waiting" and calm != job.urgent:  # else its place does not count
                row = job.row
                if (None if row is None else row.slab) is not slab or job.manner is not manner:
                    break
                if job.scratch > scratch or (slab is None and job.need not in needs):
                    break
                if may_go is not None and not may_go(job):
                    break
                group.append(job)
                job.state = "over"
            heapq.heappop(places)
        self._count -= len(group) - 1
        return group


def _counts(place: tuple[bool, Any, int, Waiting]) -> bool:
    return place[3].state == "waiting" and place[0] != place[3].urgent
