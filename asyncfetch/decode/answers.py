"""What workers answer, and what becomes of the jobs by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncfetch.decode.failures import failure, insatiable
from asyncfetch.decode.packing import Packed
from asyncfetch.decode.wire import KEPT_HEAP

if TYPE_CHECKING:
    from asyncfetch.decode.arena import Slot
    from asyncfetch.decode.crew import Crew
    from asyncfetch.decode.jobs import DecodeJob
    from asyncfetch.decode.learning import Learning
    from asyncfetch.decode.manners import Manner
    from asyncfetch.decode.process import WorkerProcess
    from asyncfetch.decode.rows import Slab
    from asyncfetch.decode.seating import Seating
    from asyncfetch.decode.settling import Settling
    from asyncfetch.decode.waiting import WaitingGroups

# For more room than it was given. Two come about with every image of a new size: by its header, and by what a function
# makes of it. More only where that function draws a size at random; the largest of so many is soon found.
_MOST_ASKED = 8


class Answers:
    """Has jobs settled, or wait once more for the room that they turned out to need."""

    def __init__(
        self, crew: Crew, seating: Seating, waiting: WaitingGroups, ends: Settling, learning: Learning
    ) -> None:
        self.busy_seconds = 0.0  # spent on images, as the workers measure it
        self.asked = 0  # times that an image needed more room than it was given
        self._crew = crew
        self._seating = seating
        self._waiting = waiting
        self._ends = ends
        self._learning = learning

    def take(self, worker: WorkerProcess, answers: list[Any]) -> None:
        """Takes answers. Raises errors for what makes no sense, and has then taken what comes before it."""
        if not answers:
            worker.ready = True
        else:
            self._crew.heard(worker)
        for number, count, seconds, word, detail, *headers in answers:
            self.busy_seconds += seconds
            jobs, places = worker.answered_by(number, count)
            manner = jobs[0].manner
            assert manner is not None
            if headers:
                self._learning.hear(jobs, *headers)
            if word == "pixels":
                self._take_pixels(jobs, places, manner, *detail)
            else:
                [job], [place] = jobs, places
                self._take_one(job, place, manner, word, detail)
            worker.release(count)
            worker.learn(count, seconds)
        if worker.allowance.amount > KEPT_HEAP:
            worker.allowance.lower_to(max(KEPT_HEAP, *(sent.scratch for sent in worker.sent), 0))

    def _take_pixels(
        self,
        jobs: list[DecodeJob],
        places: list[Slot | Slab],
        manner: Manner,
        shape: list[int],
        dtype: str,
        scratch: int,
    ) -> None:
        most, arrays = int(scratch), self._seating.lend(jobs, places, shape, dtype)
        manner.learn(arrays[0].nbytes, most, count=len(jobs))
        # Of those that were cancelled meanwhile the memory comes back when the arrays are gone.
        made = [(job, pixels) for job, pixels in zip(jobs, arrays, strict=True) if job.state == "sent"]
        if arrays[0].itemsize > 1 and (astray := [job for job, pixels in made if not pixels.flags.aligned]):
            for job in astray:  # they came with another dtype than their rows were made for
                job.row = None
            made = [(job, pixels) for job, pixels in made if pixels.flags.aligned]
            self._waiting.add(*astray)
        self._ends.settle_made(made)

    def _take_one(self, job: DecodeJob, place: Slot | Slab, manner: Manner, word: str, detail: Any) -> None:
        if job.state != "sent":  # cancelled meanwhile
            self._seating.put_back(place)
        elif word == "value" and job.maps:
            spans, scratch = detail
            most, [ground] = int(scratch), self._seating.lend([job], [place], [sum(spans[-1])], "|u1")
            value = Packed(ground, spans)
            manner.learn(value.nbytes, most)
            self._ends.settle(job, value)
        else:
            self._seating.put_back(place)
            if word == "needs":
                job.need, job.scratch = detail
                job.asked += 1
                self.asked += 1
                if job.asked >= _MOST_ASKED:
                    self._ends.settle(job, insatiable(job))
                    return
                manner.learn(job.need, job.scratch)
                if job.row is not None and job.need > job.row.capacity:
                    job.row = None
                self._waiting.add(job)
            else:
                self._ends.settle(job, failure(job.uri, word, detail))
