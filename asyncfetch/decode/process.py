"""One worker as the pool sees it: its process, its socket, the jobs it has."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from asyncfetch.decode.arena import Slot
from asyncfetch.decode.forms import MOST_FORMS
from asyncfetch.decode.shared import anonymous_file
from asyncfetch.decode.starting import start
from asyncfetch.decode.wire import STATUS, Unpacker, pack

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.decode.allowance import Allowance
    from asyncfetch.decode.jobs import DecodeJob
    from asyncfetch.decode.rows import Slab
    from asyncfetch.settings import DecodePolicy

# What a worker answers in one go, and 16 behind it, so that it never waits for the loop; of images that take long no
# more than what keeps it busy so long: what is wanted at once comes behind them, and at the end others have nothing.
_MOST_JOBS, _FIRST_JOBS, _LEAST_JOBS = 40, 16, 4
_AHEAD_SECONDS = 0.07
_PACE_IMAGES = 8  # that its pace is a mean of
# In slots of jobs sent, where images are large: two jobs keep a worker busy then. Of 640x480 in colour that is 30. With
# 16 a worker has answered all before the loop hears of it, and waits; with 40 they are no longer all in a processor's
# cache, and an image takes 6 % more CPU.
_MOST_BYTES = 28 << 20
_MOST_UNSEEN = (
    4  # slots the worker has not confirmed: their descriptors are open, and 64 workers have 1,024 between them
)
_SOCKET_BYTES = 256 << 10  # holds 32 jobs with paths of 4 KiB; macOS gives 8 KiB
_POLL_SECONDS = 0.002  # between looks for the exit status of a worker that has hung up
_GRACE_SECONDS = 2.0  # until one that has hung up and does not end is killed
_QUOTED_BYTES, _QUOTED_LINES = 600, 3


class Sent:
    """A group of jobs that a worker has and answers in their order, with the memory for it."""

    __slots__ = ("jobs", "places", "scratch", "size")

    def __init__(self, jobs: list[DecodeJob], places: Sequence[Slot | Slab], scratch: int) -> None:
        self.jobs = jobs  # that are not answered
        self.places = list(places)  # of these
        self.size = places[0].capacity if isinstance(places[0], Slot) else places[0].size  # bytes for each
        self.scratch = scratch  # bytes that each may take beside


class WorkerProcess:
    """A worker program, started by the constructor, on the loop's thread.

    `on_answers` is called with each list of answers, `on_exit` once when the process has ended unasked. Raises
    `OSError` when there can be no process.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        policy: DecodePolicy,
        allowance: Allowance,
        on_answers: Callable[[WorkerProcess, list[Any]], None],
        on_exit: Callable[[WorkerProcess], None],
    ) -> None:
        self.sent: deque[Sent] = deque()
        self.load = 0  # jobs of these that are not answered
        self.sent_bytes = 0
        self.most = _FIRST_JOBS  # jobs that it may have
        self.ready = False
        self.answered = False
        self.mad = False  # whether it has answered nonsense, and was killed for that
        self.overdue = 0  # the job that took too long, once it has been killed for that
        self.hung = 0.0  # seconds that it had to start, once it has been killed for not having done so
        self.allowance = allowance
        self.frugal = False  # with the next orders it is told to keep no memory for the next image
        self._loop = loop
        self._on_answers = on_answers
        self._on_exit = on_exit
        self._begun = loop.time()
        self._pace = 0.0  # seconds for an image
        self._unseen = 0
        self._filled = False  # it had all the jobs that it may have, and has not yet done half of them
        self._forms: set[int] = set()  # that the worker knows
        self._made: list[Slot] = []
        self._dropped: list[int] = []
        self._groups: list[list[Any]] = []
        self._unsent: deque[tuple[bytes, list[Slot]]] = deque()
        self._unpacker = Unpacker()
        self._untold: deque[list[Any]] = deque()  # lists of answers
        self._blocked = False
        self._closed = False
        with contextlib.ExitStack() as parts:
            self._channel, theirs = socket.socketpair()
            parts.callback(self._channel.close)
            with theirs:
                for end in self._channel, theirs:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
                self._channel.setblocking(False)
                self._stderr = anonymous_file(0)
                parts.callback(os.close, self._stderr)
                # The worker empties the file when it grows; the next words must begin at its begin again.
                fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND)
                self._status, self._process = start(theirs.fileno(), self._stderr, policy)
            parts.pop_all()
        loop.add_reader(self._channel.fileno(), self._read)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_starting(self) -> bool:
        """Whether it has neither greeted nor hung up."""
        return not self.ready and self._channel.fileno() >= 0

    @property
    def has_room(self) -> bool:
        """Whether it may be sent another job now."""
        enough = self.load >= self.most or (self.load >= 2 and self.sent_bytes >= _MOST_BYTES)
        return self.ready and not self.mad and not enough and self._unseen < _MOST_UNSEEN

    def room_for(self, size: int) -> int:
        """How many more jobs of so many bytes it may be sent, by the rules of `has_room`."""
        return min(self.most - self.load, max(2 - self.load, -(-(_MOST_BYTES - self.sent_bytes) // size)))

    @property
    def wants_more(self) -> bool:
        """Whether it is time for more: jobs go in batches, because it is the frame that costs, not what is in it."""
        if self.load <= self.most // 2:
            self._filled = False
        elif self.load >= self.most:
            self._filled = True
        return not self._filled and self.has_room

    def introduce(self, slot: Slot) -> None:
        """Has the worker map a slot, with the orders sent next."""
        self._made.append(slot)
        self._unseen += 1

    def share(self, slot: Slot) -> None:
        """Has the worker map a slot that others map too, with the orders sent next. Its descriptor stays open."""
        self._made.append(slot)

    def forget(self, slot: Slot) -> None:
        """Has the worker unmap a slot, with the orders sent next."""
        self._dropped.append(slot.number)

    def assign(self, jobs: list[DecodeJob], places: Sequence[Slot | Slab], scratch: int, *, tell: bool) -> None:
        """Adds jobs that are alike to the orders sent next: with slots of one size, or with rows of one slab.

        Each may take `scratch` bytes beside. With `tell` the worker is to say what their headers say.
        """
        manner = jobs[0].manner
        assert manner is not None
        sent = Sent(jobs, places, scratch)
        self.sent.append(sent)
        self.load += len(jobs)
        self.sent_bytes += len(jobs) * sent.size
        group: list[Any] = [0, 0, scratch, manner.number, tell and manner.reads_headers]
        if isinstance(sent.places[0], Slot):
            ats = [place.number for place in sent.places if isinstance(place, Slot)]
        else:
            slab = sent.places[0]
            group[:2] = slab.slot.number, slab.size
            ats = [job.row.index for job in jobs if job.row is not None]
        group.append([[job.number, job.path, job.epoch, job.index, at] for job, at in zip(jobs, ats, strict=True)])
        if manner.number not in self._forms:
            if len(self._forms) == MOST_FORMS:
                self._forms.clear()
            self._forms.add(manner.number)
            group.append(manner.form)
        self._groups.append(group)

    def learn(self, count: int, seconds: float) -> None:
        """Hears how long it took for so many images, and how many it may have from now on follows from that."""
        self._pace += (seconds / count - self._pace) * min(1, count / _PACE_IMAGES if self._pace else 1)
        self.most = max(_LEAST_JOBS, min(_MOST_JOBS, int(_AHEAD_SECONDS / max(self._pace, 1e-6))))

    def answered_by(self, number: int, count: int) -> tuple[list[DecodeJob], list[Slot | Slab]]:
        """The jobs that an answer is of, the first of which has the number, and where what became of each lies.

        Raises `ValueError` where these are not next.
        """
        sent = self.sent[0] if self.sent else None
        if sent is None or sent.jobs[0].number != number or not 1 <= count <= len(sent.jobs):
            raise ValueError("a worker has answered what it was not asked")
        return sent.jobs[:count], sent.places[:count]

    def release(self, count: int) -> None:
        """Takes out so many jobs, the next to be answered."""
        sent = self.sent[0]
        for place in sent.places[:count]:
            if isinstance(place, Slot) and place.descriptor is not None:
                place.close_descriptor()
                self._unseen -= 1
        del sent.jobs[:count], sent.places[:count]
        self.load -= count
        self.sent_bytes -= count * sent.size
        if not sent.jobs:
            self.sent.popleft()

    def flush(self) -> None:
        """Sends what has gathered. Never blocks: what the socket does not take follows when it does."""
        if self._made or self._dropped or self._groups or self.frugal:
            made = [[slot.number, slot.capacity] for slot in self._made]
            self._unsent.append((pack([made, self._dropped, self.frugal, self._groups]), self._made))
            self._made, self._dropped, self._groups, self.frugal = [], [], [], False
            if len(self._unsent) == 1:
                self._write()

    def current(self) -> int:
        """The number of the job it is working on, 0 between jobs. Also of a dead worker."""
        return int(STATUS.unpack_from(self._status)[0])

    @property
    def transforms(self) -> bool:
        """Whether that job has come to its transform."""
        return bool(STATUS.unpack_from(self._status)[2])

    def end_after(self, seconds: float) -> None:
        """Kills the process if it has been at one job for longer; that job's number is `overdue` from then on."""
        number, begun, _ = STATUS.unpack_from(self._status)
        if number and time.monotonic_ns() - begun > seconds * 1e9 and self.ready:
            self.overdue = number
            self._process.kill()

    def end_unready(self, seconds: float) -> None:
        """Kills the process if it has not greeted for longer: what it imports hangs."""
        if self.is_starting and self._loop.time() - self._begun > seconds:
            self.hung = seconds
            self._process.kill()

    def end_mad(self) -> None:
        """Kills the process, since what it says makes no sense: strangers' bytes may have got the better of it."""
        self.mad = True
        self._process.kill()

    def fate(self) -> str:
        """How the process ended, and its last words."""
        code = self._process.returncode
        try:
            end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            end = f"was killed by signal {-code}"
        if self.hung:
            end = f"was killed because it had not started after {self.hung:g} seconds"
        size = os.fstat(self._stderr).st_size
        tail = os.pread(self._stderr, _QUOTED_BYTES, max(0, size - _QUOTED_BYTES)).decode(errors="replace")
        words = " / ".join([line.strip() for line in tail.splitlines() if line.strip()][-_QUOTED_LINES:])
        return f"{end}; its last words were: {words}" if words else end

    def close(self) -> None:
        """Kills the process, which has nothing of its own to lose, and frees all that is held for it. Twice is once."""
        if not self._closed:
            self._closed = True
            self._hang_up()
            self._process.kill()
            self.allowance.lower_to(0)
            self._status.close()
            os.close(self._stderr)

    def has_ended(self) -> bool:
        """Whether the process is gone and leaves no zombie."""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Waits for the end of a closed worker, blocking. Raises `TimeoutError`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None

    def _read(self) -> None:
        try:
            data = self._channel.recv(64 << 10)
            lists = self._unpacker.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):  # the connection was reset; or a worker gone mad, which the kill below ends
            data = b""
            self._process.kill()
        if not data:
            self._hang_up()
            self._bury(self._loop.time() + _GRACE_SECONDS)
            return
        self._untold += lists
        self._tell()

    def _tell(self) -> None:
        try:
            while self._untold:
                answers = self._untold[0]
                del self._untold[0]
                self._on_answers(self, answers)
        finally:
            if self._untold:  # an interrupt came between, and what follows would be taken for what is left out
                self._loop.call_soon(self._tell)

    def _write(self) -> None:
        if self._channel.fileno() < 0:
            return
        try:
            while self._unsent:
                data, made = self._unsent[0]
                descriptors = [slot.descriptor for slot in made if slot.descriptor is not None]
                count = socket.send_fds(self._channel, [data], descriptors) if made else self._channel.send(data)
                if count < len(data):
                    self._unsent[0] = data[count:], []
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            self._blocked = True
            self._loop.add_writer(self._channel.fileno(), self._write)
        except ConnectionError:  # it has died; the reader sees that too, and says so
            self._unsent.clear()
        except OSError:  # more descriptors are on their way than the system allows (ETOOMANYREFS, on macOS EMSGSIZE)
            self._loop.call_later(_POLL_SECONDS, self._write)
        if self._blocked and not self._unsent:
            self._blocked = False
            self._loop.remove_writer(self._channel.fileno())

    def _hang_up(self) -> None:
        self.ready = False
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        with contextlib.suppress(OSError):
            # Closing would not do where a fork of this process has a copy of the descriptor.
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()

    def _bury(self, deadline: float) -> None:
        """Waits for the exit status, which follows the end of the connection by an instant."""
        if self._closed:
            return
        if not self.has_ended():
            if self._loop.time() > deadline:
                self._process.kill()
            self._loop.call_later(_POLL_SECONDS, self._bury, deadline)
            return
        self._on_exit(self)
        self.close()
