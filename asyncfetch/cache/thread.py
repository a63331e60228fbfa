"""The cache's one thread: does all that has been handed in as one batch, and answers it all in one call on the loop.

A hop between threads costs some 80 us, which cannot be paid for each object.

Where the cache lies in memory (tmpfs) there is nothing to wait for but other processes that change the index. While
none of them holds it the loop does a batch itself, which saves a fifth of the CPU of a small cold object: two threads
that hand the interpreter to and fro at each system call, and the bytes from one processor to the other, cost more than
the calls. Where one does, the thread goes on from there. What is evicted beside all this the loop removes too.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.batch import Batch
from asyncfetch.cache.commands import LookUp, Read, Write
from asyncfetch.cache.needs import Need, Needs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.batch import Answer
    from asyncfetch.cache.commands import Command
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.recovery import Intents
    from asyncfetch.cache.work import Work
    from asyncfetch.cache.writers import Writers

# What the loop does at a time before others have their turn, 1 to 3 ms of it: 32 bodies of 4 KiB, or 16 of 86 KB. The
# more there are together, the fewer pages of the index are written for each; more than 32 gained nothing.
MOST_HERE = 32
BYTES_HERE = 1408 << 10
KEYS_HERE = 128
LOST_SECONDS = 0.1  # a turn that has been due for longer was most likely interrupted as it began

_threads: weakref.WeakSet[CacheThread] = weakref.WeakSet()


class _Done(NamedTuple):
    """What was done, and is to be told on the loop."""

    handled: int  # commands
    posted: int  # of them through the mailbox
    answers: deque[Answer]


class CacheThread:
    """The thread. `put` and `stop` are for the loop, `waiting` may be read by anybody, the rest is the thread's own.

    A KeyboardInterrupt may take any turn of the loop, as it begins or in its midst. So what is in line and what is to
    be told lie where the next turn finds them. Python looks for signals when a function begins or was called: between
    the taking out of one place and the putting into another there is no call.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work,
        *,
        index: Index,
        owner: Owner,
        writers: Writers,
        intents: Intents,
        at_hand: bool,
        at_end: Callable[[], None],
    ) -> None:
        """Takes over what it is given, and closes it at its end; `at_end` is called last, on the thread.

        `at_hand` says that no file operation in this cache ever waits for a disk.
        """
        self._loop, self._work, self._at_hand, self._at_end = loop, work, at_hand, at_end
        self._index, self._owner, self._writers, self._intents = index, owner, writers, intents
        self._turn = threading.Lock()  # whoever does the work, the thread or the loop, has it
        self._line: list[Command] = []  # what the loop may do itself, at the end of its turn
        self._due_since = 0.0  # that turn, when there is a line
        self._posted = 0  # commands that the thread has not answered
        self._done: deque[_Done] = deque()  # from either side
        self._mailbox: SimpleQueue[Sequence[Command] | Batch | Need | Callable[[], None] | None] = SimpleQueue()
        self._needs = Needs(self._mailbox.put)
        self._stopping = self._watching = False  # the latter: it sleeps no longer than until something is due
        self._stopped: Callable[[], None] | None = None
        self.waiting = 0
        # A daemon: a program that never closes its cache can end, and the cache bears being ended anywhere.
        self._thread = threading.Thread(target=self._run, name="asyncfetch-cache", daemon=True)
        self._thread.start()
        _threads.add(self)

    def put(self, commands: list[Command]) -> None:
        """Takes all commands out of a list, to be answered on the loop in any order. Interrupted, all or none."""
        count = len(commands)
        if not self._at_hand or self._loop.is_closed():
            taken = commands[:]
            del commands[:]
            self.waiting += count
            self._posted += count
            self._mailbox.put(taken)
            return
        if not self._line or time.monotonic() - self._due_since > LOST_SECONDS:
            self._serve_soon()
        self._line += commands
        del commands[:]
        self.waiting += count

    def is_free(self) -> bool:
        """Whether the thread has nothing to do. For the loop."""
        return not (self._posted or self._turn.locked())

    def read_here(self, command: Read) -> Answer | None:
        """On the loop: does a read at once, and calls nobody; None where it would have to wait, and is not done."""
        if not self.is_free():
            return None
        with self._turn:  # as in `_serve_here`
            batch = self._work.read_here(command)
        if batch is None:
            return None
        (answer,) = batch.answers
        if not batch.finished:  # the thread tells the index what it is to hear of this
            batch.answers.clear()
            self.waiting += 1
            self._posted += 1  # so that the loop does not come for its turn while the thread waits for the index in it
            self._mailbox.put(batch)
        self._look_after()
        return answer

    def make_room(self, size: int) -> bool:
        """Evicts so many bytes for a body on its way to a full disk. For the threads that write, and blocks them.

        False where nothing could go.
        """
        return self._needs.ask(size)

    def look(self) -> None:
        """Has it seen whether there is too much, now that something came that no batch brought. For any thread."""
        self._mailbox.put(self._work.room.look)

    def disown(self) -> None:
        """In a forked child, which has no such thread: leaves all to it, so that nothing is done or answered.

        What is in line its parent does, whose connection to the index is of no use here (sqlite.org/howtocorrupt.html).
        """
        self._line, self._at_hand = [], False
        self._posted += 1

    def stop(self, stopped: Callable[[], None]) -> None:
        """Ends the thread when all is answered that was handed in, closes what it has, calls `stopped` on the loop."""
        self._stopped = stopped
        self._post_line()
        self._mailbox.put(None)

    def _post_line(self) -> None:
        count = len(self._line)
        if count:
            line, self._line = self._line, []
            self._posted += count
            self._mailbox.put(line)

    def _serve_soon(self) -> None:
        self._due_since = time.monotonic()
        self._loop.call_soon(self._serve_here)

    def _serve_here(self) -> None:
        """On the loop: does what is in line, or leaves it to the thread where that has something to do or to wait for.

        An interruption amid it leaves all of it to the thread: whatever was done can be done twice.
        """
        if not self._line:
            return
        if not self.is_free():
            self._post_line()
            return
        commands, batch = _slice(self._line), None
        try:
            if self._work.is_quick(commands):
                # Should the thread begin with something due in this instant, that takes no longer than a batch. To ask
                # for the lock without waiting could leave it locked for ever where a signal comes.
                with self._turn:
                    batch = self._work.do_here(commands)
        finally:
            if batch is None:
                self._post_line()
        if batch is not None:
            self._settle_here(len(commands), batch)
            self._look_after()

    def _settle_here(self, count: int, batch: Batch) -> None:
        """Takes out of the line what was done, and hands on what was not."""
        rest = [*batch.put_off, *self._line[count:]]
        if batch.finished:
            done = _Done(batch.handled, 0, batch.answers)
            self._line = rest
            self._done.append(done)
        else:
            self._line, self._posted = rest, self._posted + batch.handled
            self._mailbox.put(batch)
        if batch.put_off:
            self._post_line()
        elif rest:
            self._serve_soon()
        self._deliver()

    def _look_after(self) -> None:
        """On the loop: removes what is too much, if it is time to."""
        pause = self._work.room.pause()
        if pause == 0.0 and self.is_free():
            with self._turn:  # as in `_serve_here`
                self._work.shrink_here()
        if not self._watching and self._work.pause() is not None:
            # The thread sleeps, and does not know that something is due: others came amid this batch, or it is tight.
            self._mailbox.put(())

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._needs.close()
            self._work.end()
            self._intents.close()
            self._index.close()
            self._writers.stop()
            self._writers.join()
            with contextlib.suppress(OSError):
                self._owner.close()
            self._at_end()
            self._tell(self._ended)

    def _serve(self) -> None:
        while self._receive():
            with self._turn:
                batch = self._work.do_batch()
                self._done.append(_Done(batch.handled, batch.handled, batch.answers))
                if not self._tell(self._deliver):
                    break
                # While the loop takes the answers there is mostly nothing to wait for it.
                self._work.shrink(beside=batch.beside)

    def _receive(self) -> bool:
        """Takes what is in the mailbox, waiting when there is nothing else to do. False at the end of all work."""
        while True:
            idle = not self._work.waits
            # Said before the look: what the loop finds due behind it wakes this thread.
            self._watching = False
            pause = self._work.pause()
            self._watching = pause is not None
            try:
                mail = self._mailbox.get(idle and not self._stopping, pause)
            except Empty:
                return not (idle and self._stopping)
            if mail is None:
                self._stopping = True
                continue
            if isinstance(mail, Need):
                mail = partial(self._needs.answer, mail, self._work.room.make_on_full_disk)
            if isinstance(mail, Batch):
                self._work.take_on(mail)
                continue
            if callable(mail):
                with self._turn:
                    self._work.attempt(mail)
                continue
            self._work.take(mail)

    def _tell(self, function: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop was closed before the cache: nobody is left to hear an answer
            return False
        return True

    def _deliver(self) -> None:
        """On the loop: calls back for what was done."""
        try:
            while self._done:
                done = self._done[0]
                self._call_back(done.answers)
                self.waiting -= done.handled
                self._posted -= done.posted
                self._done.popleft()
        finally:
            if self._done:  # a KeyboardInterrupt came out of a callback
                self._loop.call_soon(self._deliver)

    def _call_back(self, answers: deque[Answer]) -> None:
        while answers:
            done, result, release = answers.popleft()
            try:
                if release is not None:
                    release()
                done(result)
            except Exception as error:  # one caller's fault is no reason to leave the others waiting
                self._loop.call_exception_handler(
                    {"message": "an answer of the cache could not be taken", "exception": error}
                )

    def _ended(self) -> None:
        """On the loop: the thread has nothing more to do than to return."""
        self._thread.join()
        if self._stopped is not None:
            self._stopped()


def _slice(line: Sequence[Command]) -> Sequence[Command]:
    """The first of a line, as many as the loop does at a time: one at least."""
    size = keys = 0
    for count, command in enumerate(line[:MOST_HERE]):
        if isinstance(command, Write):
            size += command.body.held
        elif isinstance(command, LookUp):
            keys += len(command.keys)
        elif isinstance(command, Read):  # of what size is seen when it is read: 1 MiB at most
            size += BYTES_HERE // 8
        if count and (size > BYTES_HERE or keys > KEYS_HERE):
            return line[:count]
    return line[:MOST_HERE]


def _disown() -> None:
    for thread in list(_threads):
        thread.disown()


os.register_at_fork(after_in_child=_disown)
