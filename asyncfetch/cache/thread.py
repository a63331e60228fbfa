"""The cache's one thread: does all that has been handed in as one batch, and answers it all in one call on the loop.

A hop between threads costs some 80 us, which cannot be paid for each object.

Where the cache lies in memory (tmpfs) and nobody else uses it there is nothing to wait for. Then the loop does a batch
itself, which saves a fifth of the CPU of a small cold object: two threads that hand the interpreter to and fro at each
system call, and the bytes from one processor to the other, cost more than the calls.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from asyncfetch.cache.batch import Answer
from asyncfetch.cache.needs import Need, Needs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.commands import Command
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.recovery import Intents
    from asyncfetch.cache.work import Work
    from asyncfetch.cache.writers import Writers

# Commands that the loop does at a time: 16 bodies of 86 KB take it 1 ms, and then others have their turn.
MOST_HERE = 16


class CacheThread:
    """The thread. `put` and `stop` are for the loop, `waiting` may be read by anybody, the rest is the thread's own."""

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
        self._posted = 0  # commands that the thread has not answered
        self._mailbox: SimpleQueue[Sequence[Command] | Need | Callable[[], None] | None] = SimpleQueue()
        self._needs = Needs(self._mailbox.put)
        self._stopping = False
        self._stopped: Callable[[], None] | None = None
        self.waiting = 0
        # A daemon: a program that never closes its cache can end, and the cache bears being ended anywhere.
        self._thread = threading.Thread(target=self._run, name="asyncfetch-cache", daemon=True)
        self._thread.start()

    def put(self, commands: Sequence[Command]) -> None:
        """Hands in commands, to be answered on the loop in any order."""
        self.waiting += len(commands)
        if not self._at_hand or self._loop.is_closed():
            self._post(commands)
            return
        if not self._line:
            self._loop.call_soon(self._serve_here)
        self._line.extend(commands)

    def make_room(self, size: int) -> bool:
        """Evicts so many bytes for a body on its way to a full disk. For the threads that write, and blocks them.

        False where nothing could go.
        """
        return self._needs.ask(size)

    def look(self) -> None:
        """Has it seen whether there is too much, now that something was left. For the threads that write."""
        self._mailbox.put(self._work.room.look)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Ends the thread when all is answered that was handed in, closes what it has, calls `stopped` on the loop."""
        self._stopped = stopped
        self._post_line()
        self._mailbox.put(None)

    def _post(self, commands: Sequence[Command]) -> None:
        self._posted += len(commands)
        self._mailbox.put(commands)

    def _post_line(self) -> None:
        line, self._line = self._line, []
        if line:
            self._post(line)

    def _serve_here(self) -> None:
        """On the loop: does what is in line, or leaves it to the thread where that has something to do or to wait for.

        An interruption (a KeyboardInterrupt) leaves all of it to the thread: whatever was done can be done twice.
        """
        if self._posted or not self._turn.acquire(blocking=False):
            self._post_line()
            return
        commands = self._line[:MOST_HERE]
        answers, done = deque[Answer](), False
        try:
            if self._work.is_quick(commands):
                self._work.take(commands)
                while self._work.waits:
                    answers += self._work.do_batch().answers
                done = True
        finally:
            if not done:
                self._work.drop()
            self._turn.release()
            if not done:
                self._post_line()
        if done:
            del self._line[:MOST_HERE]
            if self._line:
                self._loop.call_soon(self._serve_here)
            self._deliver(len(commands), answers)

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
                if not self._tell(self._returned, batch.handled, batch.answers):
                    break
                # While the loop takes the answers there is mostly nothing to wait for it.
                self._work.shrink(beside=batch.beside)

    def _receive(self) -> bool:
        """Takes what is in the mailbox, waiting when there is nothing else to do. False at the end of all work."""
        while True:
            idle = not self._work.waits
            try:
                mail = self._mailbox.get(idle and not self._stopping, self._work.pause())
            except Empty:
                return not (idle and self._stopping)
            if mail is None:
                self._stopping = True
                continue
            if isinstance(mail, Need):
                mail = partial(self._needs.answer, mail, self._work.room.make_on_full_disk)
            if callable(mail):
                with self._turn:
                    self._work.attempt(mail)
                continue
            self._work.take(mail)

    def _tell(self, function: Callable[..., None], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed before the cache: nobody is left to hear an answer
            return False
        return True

    def _returned(self, handled: int, answers: deque[Answer]) -> None:
        self._posted -= handled
        self._deliver(handled, answers)

    def _deliver(self, handled: int, answers: deque[Answer]) -> None:
        """On the loop: calls back for one batch."""
        self.waiting -= handled
        try:
            while answers:
                answer = answers.popleft()
                try:
                    if answer.release is not None:
                        answer.release()
                    answer.done(answer.result)
                except Exception as error:  # one caller's fault is no reason to leave the others waiting
                    self._loop.call_exception_handler(
                        {"message": "an answer of the cache could not be taken", "exception": error}
                    )
        finally:
            if answers:  # a KeyboardInterrupt came out of a callback
                self._loop.call_soon(self._deliver, 0, answers)

    def _ended(self) -> None:
        """On the loop: the thread has nothing more to do than to return."""
        self._thread.join()
        if self._stopped is not None:
            self._stopped()
