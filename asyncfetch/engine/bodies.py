"""Bodies read into memory from the files they lie in, as the byte budget allows.

What the page cache has is read on the loop: memory is copied sooner than a thread is asked. All else is read in batches
on threads. In this process and not by the decode workers: a body would be copied once more there, and would need
OpenCV's memory and start beside it. Not by mapping the files either: a file that shrinks meanwhile would kill the
process.
"""

from __future__ import annotations

import errno
import itertools
import os
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from asyncfetch.cache import Turns
from asyncfetch.decode import WaitingJobs
from asyncfetch.engine.credits import Grant
from asyncfetch.errors import AccessDenied, FetcherClosed, ObjectNotFound, OriginError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.engine.credits import Credits

_MOST_NEAR = 1 << 20  # bytes of a body that is read on the loop
_COLD = 64  # so many go to threads once one was not in the page cache: others that are not will be near
_BATCH, _BATCH_BYTES = 32, 4 << 20  # read in one hop to a thread, which costs 80 us
_MOST_BATCHES = 2  # under way at once: local files are read at the speed of memory


@dataclass(slots=True, eq=False)
class BodyJob:
    """One body wanted. Waiting ones are read by `order`, those that are `urgent` first.

    `size` is what the file is thought to have. `done` is called once on the loop, never from inside `submit`, with the
    bytes or with an exception, unless the job was cancelled before.
    """

    uri: str
    path: str
    size: int
    order: Any  # only ever compared
    done: Callable[[bytearray | Exception], None]
    urgent: bool = False
    number: int = field(default=0, init=False)
    state: Literal["new", "waiting", "sent", "over"] = field(default="new", init=False)


class _Data(bytearray):
    """Bytes whose end can be watched, as that of a plain bytearray cannot."""

    __slots__ = ("__weakref__",)


_Outcome = _Data | int | OSError | None


class Bodies:
    """Reads bodies. A body's share of the budget comes back when nothing looks at the body any more, on any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, credits: Credits, *, near: str, in_memory: bool) -> None:
        """`near` is a directory whose files may be opened on the loop, `in_memory` says that it is on a tmpfs."""
        self._near = f"{near}/"
        # Linux alone can read what it has and nothing else; of a tmpfs it has all.
        self._flags: int | None = 0 if in_memory else getattr(os, "RWF_NOWAIT", None)
        self._warm = self._flags is not None  # what was tried last was in memory
        self._cold = 0  # of those that come next, so many are not tried on the loop
        self._loop = loop
        self._turns = Turns(loop)
        self._credits = credits
        self._waiting = WaitingJobs[BodyJob]()
        self._numbers = itertools.count(1)
        self._batches = 0
        self._scheduled = False
        self._closed = False

    def at_hand(self, path: str, size: int) -> bool:
        """Whether the system most likely has a file in memory and the loop may read it: not before it is asked for."""
        return self._warm and self._is_near(path, size)

    def read_now(self, job: BodyJob) -> bool:
        """Reads a body that its consumer asks for at this moment, and mostly calls `done` before this returns.

        False, and nothing is done, where the loop may not read it or has read much in this turn: then it is to be
        submitted.
        """
        if self._closed or not self.at_hand(job.path, job.size) or not self._turns.take():
            return False
        grant = self._credits.take(job.size, alone=True)
        if grant is None or not self._read_one(job, grant):
            return False
        self._turns.spend(job.size)
        return True

    def submit(self, *jobs: BodyJob) -> None:
        """Takes jobs."""
        if self._closed:
            raise FetcherClosed("This fetcher is closed")
        for job in jobs:
            job.number = next(self._numbers)
        self._waiting.add(*jobs)
        self.pump()

    def cancel(self, job: BodyJob) -> None:
        """Gives up a job: its `done` is not called any more."""
        if job.state == "waiting":
            self._waiting.remove(job)
            self.pump()
        job.state = "over"

    def urge(self, job: BodyJob) -> None:
        """Puts a job before those that are not urgent; if need be it may overdraw the budget."""
        if job.state == "waiting":
            self._waiting.urge(job)
            self.pump()
        job.urgent = True

    def pump(self) -> None:
        """Tries the waiting jobs, soon: with all that are submitted until then."""
        if self._waiting and not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._read)

    def close(self) -> None:
        """Gives up what waits. What is being read is dropped when it comes."""
        self._closed = True
        self._waiting.clear()

    def _read(self) -> None:
        self._scheduled = False
        if self._read_near():
            self.pump()
        else:
            self._read_far()

    def _read_near(self) -> bool:
        """Reads what it can on the loop in this turn. False where that is nothing, in any turn."""
        done = False
        while self._flags is not None and not (self._closed or self._cold):
            job = self._waiting.first()
            if job is None or not self._is_near(job.path, job.size):
                break
            if not self._turns.take():
                return True
            grant = self._credits.take(job.size, alone=job.urgent)
            if grant is None or not self._read_one(job, grant):
                break
            self._turns.spend(job.size)
            done = True
        return done

    def _is_near(self, path: str, size: int) -> bool:
        return size <= _MOST_NEAR and path.startswith(self._near)

    def _read_one(self, job: BodyJob, grant: Grant) -> bool:
        """Reads a body on the loop. False where it is not in memory."""
        assert self._flags is not None
        outcome = _read_file(job.path, job.size, self._flags)
        if outcome is None:
            self._cold, self._warm = _COLD, False
            grant.release()
            return False
        self._warm = True
        if job.state == "waiting":
            self._waiting.remove(job)
        job.state = "sent"
        self._settle(job, grant, outcome)
        return True

    def _read_far(self) -> None:
        while not self._closed and self._batches < _MOST_BATCHES:
            batch, size = list[tuple[BodyJob, Grant]](), 0
            while len(batch) < _BATCH and size < _BATCH_BYTES and (job := self._waiting.first()) is not None:
                grant = self._credits.take(job.size, alone=job.urgent)
                if grant is None:
                    break
                self._waiting.remove(job)
                job.state = "sent"
                batch.append((job, grant))
                size += job.size
            if not batch:
                return
            self._batches += 1
            self._cold = max(self._cold - len(batch), 0)
            reading = self._loop.run_in_executor(None, _read_files, [(job.path, job.size) for job, _ in batch])
            reading.add_done_callback(partial(self._came, batch))

    def _came(self, batch: list[tuple[BodyJob, Grant]], reading: asyncio.Future[list[_Outcome]]) -> None:
        self._batches -= 1
        found: list[_Outcome] = [None] * len(batch) if reading.cancelled() else reading.result()
        for (job, grant), outcome in zip(batch, found, strict=True):
            self._settle(job, grant, outcome)
        found.clear()  # futures outlive their callbacks, and bodies are not to be held by one
        self.pump()

    def _settle(self, job: BodyJob, grant: Grant, outcome: _Outcome) -> None:
        if isinstance(outcome, _Data) and job.state == "sent":
            grant.correct(len(outcome))
            grant.delivered()
            weakref.finalize(outcome, grant.release).atexit = False
            job.state = "over"
            job.done(outcome)
            return
        grant.release()
        if job.state != "sent":
            return
        if isinstance(outcome, int):  # it has grown since it was looked at, and was not read
            job.size = outcome
            self._waiting.add(job)
            self.pump()
        elif isinstance(outcome, OSError):
            job.state = "over"
            job.done(_failure(job, outcome))


def _read_files(files: Sequence[tuple[str, int]]) -> list[_Outcome]:
    """Reads files, each of a size at most, on a thread."""
    return [_read_file(path, most) for path, most in files]


def _read_file(path: str, most: int, flags: int = 0) -> _Outcome:
    """Gives the size instead of a file that has more, or the error; None where `flags` let it not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > most:
                return size
            data, done = _Data(size), 0
            with memoryview(data) as room:
                while done < size and (count := os.preadv(descriptor, [room[done:]], done, flags)):
                    done += count
            del data[done:]
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        return None if flags and error.errno in (errno.EAGAIN, errno.EOPNOTSUPP) else error
    except MemoryError:
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def _failure(job: BodyJob, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound(job.uri, f"its file {job.path} is not there any more")
    if isinstance(error, PermissionError):
        return AccessDenied(job.uri, f"its file {job.path} may not be read by this user")
    return OriginError(job.uri, f"its file {job.path} could not be read: {error.strerror}")
