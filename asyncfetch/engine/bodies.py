"""Bodies read into memory from the files they lie in: in batches on threads, as the byte budget allows.

In this process and not by the decode workers: a body would be copied once more there, and would need OpenCV's memory
and start beside it. Not by mapping the files either: a file that shrinks meanwhile would kill the process.
"""

from __future__ import annotations

import errno
import itertools
import os
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from asyncfetch.decode import WaitingJobs
from asyncfetch.engine.credits import Grant
from asyncfetch.errors import AccessDenied, FetcherClosed, ObjectNotFound, OriginError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.engine.credits import Credits

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


class Bodies:
    """Reads bodies. A body's share of the budget comes back when nothing looks at the body any more, on any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, credits: Credits) -> None:
        self._loop = loop
        self._credits = credits
        self._waiting = WaitingJobs[BodyJob]()
        self._numbers = itertools.count(1)
        self._batches = 0
        self._scheduled = False
        self._closed = False

    def submit(self, job: BodyJob) -> None:
        """Takes a job."""
        if self._closed:
            raise FetcherClosed("This fetcher is closed")
        job.number = next(self._numbers)
        self._waiting.add(job)
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
            reading = self._loop.run_in_executor(None, _read_files, [(job.path, job.size) for job, _ in batch])
            reading.add_done_callback(partial(self._came, batch))

    def _came(self, batch: list[tuple[BodyJob, Grant]], reading: asyncio.Future[list[_Data | int | OSError]]) -> None:
        self._batches -= 1
        found: list[Any] = [None] * len(batch) if reading.cancelled() else reading.result()
        for (job, grant), outcome in zip(batch, found, strict=True):
            if isinstance(outcome, _Data) and job.state == "sent":
                grant.correct(len(outcome))
                grant.delivered()
                weakref.finalize(outcome, grant.release).atexit = False
                job.state = "over"
                job.done(outcome)
                continue
            grant.release()
            if job.state != "sent":
                continue
            if isinstance(outcome, int):  # it has grown since it was looked at, and was not read
                job.size = outcome
                self._waiting.add(job)
            elif isinstance(outcome, OSError):
                job.state = "over"
                job.done(_failure(job, outcome))
        found.clear()  # futures outlive their callbacks, and bodies are not to be held by one
        self.pump()


def _read_files(files: Sequence[tuple[str, int]]) -> list[_Data | int | OSError]:
    """Reads files, each of a size at most, on a thread. Gives the size instead of one that has more, or the error."""
    return [_read_file(path, most) for path, most in files]


def _read_file(path: str, most: int) -> _Data | int | OSError:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > most:
                return size
            data, done = _Data(size), 0
            with memoryview(data) as room:
                while done < size and (count := os.readv(descriptor, [room[done:]])):
                    done += count
            del data[done:]
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
    except MemoryError:
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def _failure(job: BodyJob, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound(job.uri, f"its file {job.path} is not there any more")
    if isinstance(error, PermissionError):
        return AccessDenied(job.uri, f"its file {job.path} may not be read by this user")
    return OriginError(job.uri, f"its file {job.path} could not be read: {error.strerror}")
