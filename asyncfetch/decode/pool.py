"""The decode pool: jobs in, pixels out, in worker programs that may die."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any

from asyncfetch.decode.allowance import Allowance
from asyncfetch.decode.answers import Answers
from asyncfetch.decode.counts import DecodeStatistics
from asyncfetch.decode.crew import Crew
from asyncfetch.decode.failures import death
from asyncfetch.decode.forms import Limits
from asyncfetch.decode.learning import Learning
from asyncfetch.decode.manners import Manners
from asyncfetch.decode.process import WorkerProcess
from asyncfetch.decode.quarantine import MOST_STRIKES, Quarantine
from asyncfetch.decode.seating import Seating
from asyncfetch.decode.settling import Settling
from asyncfetch.decode.waiting import WaitingGroups
from asyncfetch.errors import DecodeError, DecoderUnavailable, FetcherClosed, Quarantined, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.decode.budget import Budget
    from asyncfetch.decode.jobs import DecodeJob
    from asyncfetch.decode.rows import Slab
    from asyncfetch.settings import DecodePolicy

_LOOK_SECONDS = 0.5  # between looks at what takes too long, which cost some microseconds
_START_SECONDS = 120.0  # for a worker to start: half a second, or half a minute from a cold network file system


class DecodePool:
    """Decodes images in worker processes, as many as the policy says, started for jobs that are there or expected.

    The pixels are NumPy arrays over shared memory: writable, C-contiguous, charged to `budget` until the last view of
    them is gone, on whatever thread that happens, and valid even after the pool and its loop are closed.

    A pool serves one event loop, that of its first `submit` or `expect`, and its methods are called on that loop's
    thread. What goes wrong with an image is given to its job's `done`: an `ObjectError` that says what;
    `DecoderUnavailable` where no worker can be started; `FetcherClosed` when the pool closes first. Bytes that have
    killed three workers are noted in `quarantine` and refused from then on; without a record they are forgotten with
    the pool. `on_header` is told what the header of a digest's image says, where its job did not know that: as a number
    for the next job with it.
    """

    def __init__(
        self,
        policy: DecodePolicy,
        budget: Budget,
        quarantine: Quarantine | None = None,
        on_header: Callable[[str, int], None] | None = None,
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._quarantine = Quarantine() if quarantine is None else quarantine
        self._watching: asyncio.TimerHandle | None = None
        self._seating = Seating(budget, self._slots_came_back)
        self._waiting = WaitingGroups()
        self._ends = Settling()
        self._crew = Crew(policy.worker_count, self._start)
        self._workers = self._crew.workers
        self._manners = Manners(Limits(policy.max_pixels, policy.worker_memory))
        self._learning = Learning(on_header)
        self._answers = Answers(self._crew, self._seating, self._waiting, self._ends, self._learning)
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False
        self._woken = False
        self._hungry = False  # there is use for a slot that comes back: a job waits for it, or the budget does
        self._closed = False

    def submit(self, *jobs: DecodeJob) -> None:
        """Takes jobs. Raises `FetcherClosed` after `aclose`, `UsageError` for a job that was submitted before."""
        if self._closed:
            raise FetcherClosed("The decode pool is closed")
        self._begin()
        wanted = manner = None
        for job in jobs:
            if job.state != "new":
                raise UsageError(f"{job.uri}: a decode job can be submitted once")
            if manner is None or job.options is not wanted:
                wanted, manner = job.options, self._manners.of(job.options)
            job.number = next(self._numbers)
            job.manner = manner
            if job.header is not None:
                manner.foresee(job)
        self._waiting.add(*jobs)
        self._schedule()

    def expect(self, count: int) -> None:
        """Hears that so many jobs will come: the workers for them start while what they need is fetched."""
        if not self._closed:
            self._begin()
            self._crew.expected = count
            self._schedule()

    def cancel(self, job: DecodeJob) -> None:
        """Gives up a job: its `done` is not called any more. Nothing happens when it was called already.

        A job that a worker has is finished there, and its pixels are dropped.
        """
        if job.state == "waiting":
            self._waiting.remove(job)
            self._schedule()
        job.state = "over"

    def urge(self, job: DecodeJob) -> None:
        """Puts a job before those that are not urgent; if need be it may overdraw the budget."""
        if job.state == "waiting":
            self._waiting.urge(job)
            self._schedule()
        job.urgent = True

    def slab(self, count: int, size: int, *, alone: bool = False) -> Slab | None:
        """Room for `count` images of `size` bytes each; None for no bytes, without memory, or when the budget refuses.

        With `alone` it may overdraw the budget. It goes back when nothing looks at it any more.
        """
        return self._seating.slab(count, size, alone=alone)

    def pump(self) -> None:
        """Tries the waiting jobs again, soon: to be called when the budget has got bytes back."""
        if self._waiting:
            self._schedule()

    def reclaim(self, amount: int) -> int:
        """Gives up memory that is kept for reuse, `amount` bytes or a little more, and says how many went back."""
        returned = self._seating.reclaim(amount, self._workers)
        if returned:
            self._schedule()  # for the workers to unmap it as well
        return returned

    @property
    def waiting(self) -> int:
        """Jobs that no worker has."""
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        """Jobs that wait, or that a worker has."""
        return len(self._waiting) + sum(worker.load for worker in self._workers)

    @property
    def used_bytes(self) -> int:
        """What the budget has lent, to whomever, less what is kept here for reuse."""
        return self._budget.held - self._seating.free_bytes

    def statistics(self) -> DecodeStatistics:
        """Counts as of now."""
        memory = self._seating.statistics()
        busy = sum(1 for worker in self._workers if worker.sent)
        ends = self._ends
        counts = (len(self._workers), busy, len(self._waiting), ends.decoded, ends.failed, self._answers.asked)
        scratch = sum(worker.allowance.amount for worker in self._workers)
        return DecodeStatistics(*counts, self._crew.died, self._answers.busy_seconds, *memory, scratch)

    async def aclose(self) -> None:
        """Kills the workers, gives every open job a `FetcherClosed`, and frees all memory that no user looks at.

        Returns when the processes are gone. Cancelled, it has done the same, and waits no longer than it must for them.
        """
        if not self._closed:
            self._closed = True
            if self._watching is not None:
                self._watching.cancel()
            for worker in self._workers:
                worker.close()
            jobs = [job for worker in self._workers for sent in worker.sent for job in sent.jobs]
            self._seating.close()
            for job in (*(job for job in jobs if job.state == "sent"), *self._waiting.clear()):
                self._ends.settle(job, FetcherClosed(f"{job.uri}: the decode pool closed before the image was decoded"))
            self._ends.tell(self._loop)
        try:
            while not all(worker.has_ended() for worker in self._workers):  # noqa: ASYNC110 - a round or two
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            for worker in self._workers:
                with contextlib.suppress(TimeoutError):
                    worker.wait(1.0)
            raise
        self._workers.clear()

    # Rounds: what waits goes to workers that can take it.

    def _begin(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            _import_numpy_meanwhile()

    def _schedule(self) -> None:
        """Has the waiting jobs placed in the next round of the loop, together with all that is submitted until then."""
        if not self._scheduled and not self._closed and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _slots_came_back(self) -> None:
        """Called on any thread, also inside a garbage collection that interrupts any line of this class."""
        # Not by call_soon, even on the loop's thread: the loop may be just about to sleep, and would not notice. That
        # costs a system call, and most slots may as well be found by the next round.
        if self._hungry and self._loop is not None and not self._woken and not self._scheduled:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # a loop that is closed without aclose
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._scheduled = self._woken = False
        self._seating.collect()
        if self._closed:
            return
        assert self._loop is not None
        if self._crew.hire(len(self._waiting), self._loop.time()):
            self._schedule()
        if (fate := self._crew.gave_up()) is not None:
            message = f"Decode workers do not start; the last one {fate}"
            for given_up in self._waiting.clear():
                self._ends.settle(
                    given_up, DecoderUnavailable(message, remedy=f"Try: {sys.executable} -c 'import cv2'")
                )
        first = self._waiting.first()
        urgent = first is not None and first.urgent
        open_to_more = [each for each in self._workers if (each.has_room if urgent else each.wants_more)]
        while open_to_more and (job := self._waiting.first()) is not None:
            worker = self._place(job, open_to_more)
            if worker is None:
                break
            if not worker.has_room:
                open_to_more.remove(worker)
        for worker in self._workers:
            worker.flush()
        self._ends.tell(self._loop)
        self._hungry = self._budget.excess > 0 or bool(open_to_more and self._waiting)
        if self._hungry and self._seating.has_returned:
            self._schedule()  # it came back while nobody was known to wait for it
        if self._watching is None and not (self._crew.idle and self._crew.settled):
            self._watching = self._loop.call_later(min(_LOOK_SECONDS, self._policy.timeout / 2), self._watch)

    def _watch(self) -> None:
        """Ends workers that have been at one image for too long, or at their start.

        One timer for all, and none while nothing is sent and nobody starts.
        """
        self._watching = None
        for worker in self._workers:
            worker.end_unready(_START_SECONDS)
            if worker.sent:
                worker.end_after(self._policy.timeout)
        self._schedule()

    def _place(self, job: DecodeJob, open_to_more: list[WorkerProcess]) -> WorkerProcess | None:
        """Sends the first job to a worker, or settles it; None says that neither can be done now."""
        if self._quarantine and (why := self._quarantine.why(job.digest)) is not None:
            self._waiting.remove(job)
            message = f"its bytes have killed {MOST_STRIKES} decode workers; the last {why}"
            remedy = f"Where that was not their fault: asyncfetch cache release {job.digest}"
            self._ends.settle(job, Quarantined(job.uri, message, remedy=remedy))
            return open_to_more[0]
        try:
            seat = self._seating.seat(job, open_to_more, idle=job.urgent and self._crew.idle)
        except OSError as error:  # no memory for the mapping, or too many open files
            if job.need and not job.asked:  # only a header that was kept says so, which may be wrong
                job.need = job.scratch = 0
                return open_to_more[0]
            if not self._crew.idle:
                return None  # an answer will have this tried again
            self._waiting.remove(job)
            self._ends.settle(job, DecodeError(job.uri, f"there is no shared memory for its pixels: {error.strerror}"))
            return open_to_more[0]
        if seat is None:
            return None
        most = -(-len(self._waiting) // len(open_to_more))  # the other workers get their share of what waits
        if job.row is None and len(open_to_more) > 1:
            most = 1  # in turns, for what is wanted first to be made side by side
        places = self._seating.places(job, seat, most)
        may_go = self._may_go if self._quarantine else None
        group = self._waiting.take_group(job, len(places), seat.needs, seat.scratch, may_go)
        for surplus in places[len(group) :]:
            self._seating.put_back(surplus)
        for each in group:
            each.state = "sent"
        seat.worker.assign(group, places[: len(group)], seat.scratch, tell=self._learning.lacks(group))
        return seat.worker

    def _may_go(self, job: DecodeJob) -> bool:
        return self._quarantine.why(job.digest) is None

    # Workers: their beginning, their answers, their end.

    def _start(self) -> WorkerProcess:
        assert self._loop is not None
        worker = WorkerProcess(self._loop, self._policy, Allowance(self._budget), self._answered, self._exited)
        self._seating.admit(worker)
        return worker

    def _answered(self, worker: WorkerProcess, answers: list[Any]) -> None:
        self._schedule()
        if worker.mad:
            return
        try:
            self._answers.take(worker, answers)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            worker.end_mad()
        self._ends.tell(self._loop)

    def _exited(self, worker: WorkerProcess) -> None:
        """A worker ended unasked: the image it was at fails, its other jobs go back to their places."""
        culprit, fate = worker.current(), worker.fate()
        if worker.mad:
            culprit, fate = worker.sent[0].jobs[0].number if worker.sent else 0, "gave an answer that makes no sense"
        while worker.sent:
            job, place = worker.sent[0].jobs[0], worker.sent[0].places[0]
            worker.release(1)
            self._seating.put_back(place)
            if job.state != "sent":
                continue
            if job.number == culprit and worker.overdue in (0, job.number):
                if worker.overdue:
                    fate = f"was killed after {self._policy.timeout:g} seconds"
                if job.digest is not None and not worker.transforms:
                    self._quarantine.strike(job.digest, fate)
                at = "it" if not worker.transforms else "its mapped function" if job.maps else "its transform"
                self._ends.settle(job, death(job.uri, fate, late=worker.overdue > 0, at=at))
            else:  # also one that was begun in the instant between a look at the clock and the end
                self._waiting.add(job)
        self._seating.lose(worker)
        self._crew.lose(worker, fate, at_an_image=culprit != 0)
        self._schedule()
        self._ends.tell(self._loop)


def _import_numpy_meanwhile() -> None:
    """Loads NumPy in a thread while the first worker starts: 40-100 ms that the loop need not stand still for."""

    def load() -> None:
        with contextlib.suppress(ImportError):  # to be raised where it is used
            importlib.import_module("numpy")

    if "numpy" not in sys.modules:
        threading.Thread(target=load, name="asyncfetch-numpy").start()
