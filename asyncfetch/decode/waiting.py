"""The jobs that wait for a worker or for memory: urgent ones first, then in plan order."""

from __future__ import annotations

import heapq
from typing import Any, Generic, Literal, Protocol, TypeVar


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

    def add(self, job: J) -> None:
        """Puts a job in its place."""
        job.state = "waiting"
        self._count += 1
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


def _counts(place: tuple[bool, Any, int, Waiting]) -> bool:
    return place[3].state == "waiting" and place[0] != place[3].urgent
