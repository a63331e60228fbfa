"""Threads that receive large bodies: each piece is dealt with where it came, by the thread that it came to.

A loop that receives for all is one core's work, and what it hands to threads has left its cache by then. Four bodies of
64 MiB, hashed and written: in a sketch, threads brought 1,450 MB/s for 1.20 CPU-s/GB, where the loop brought
940 for 1.66.

What such threads must not do is to let go of the interpreter often, for each time they take turns with the others to
have it again. In pieces of 128 KiB, with a poll before each read, they waited ten times as often: buffers of 512 KiB
and reads that simply wait are 1.5 times as fast beside that, for 0.7 of the CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from queue import SimpleQueue
from typing import Final, Protocol

# Bytes still to come that are worth a thread: to lend a socket takes 0.1 ms, to receive so many on the loop 0.4.
LEAST: Final = 1 << 20
# Sockets lent at once; what is received beside that the loop receives. A thread without news costs nothing but its
# stack, and one process cannot take in what more connections bring: from S3 each brings 85-90 MB/s.
MOST: Final = 32


class Intake(Protocol):
    """What a thread puts the next bytes of a body into. Called on that thread alone; may block, and may raise."""

    left: int  # bytes that it still takes

    def get_buffer(self) -> memoryview:
        """Gives room for the next bytes, never empty, nor for more than are `left`."""
        ...

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of the room given last as written."""
        ...

    def close(self) -> None:
        """Says, once, that nothing more comes this way: all did, or the connection ended, or the request."""
        ...


class Loan:
    """A connection's socket on a thread, for as many bytes as an intake takes, and not one more.

    Until `over` is done, which raises what the intake raised, nobody else may read from the socket. `received` and
    `busy`, whether the intake has the word, are the thread's. The socket is a descriptor of its own, and closed at the
    end: so whoever closes the connection meanwhile, the thread reads from nobody else's.
    """

    __slots__ = ("_counted", "_intake", "_loop", "_recalled", "_socket", "busy", "lent", "over", "received")

    def __init__(self, borrowed: socket.socket, intake: Intake) -> None:
        self._loop = asyncio.get_running_loop()
        self._intake = intake
        self._socket = borrowed
        self._recalled = False
        self._counted = 0
        self.lent = False  # whether a thread runs it, or will
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.received = 0
        self.busy = False

    @property
    def cut_off(self) -> bool:
        """Once it is over: whether less came than the intake takes."""
        return self._intake.left > 0

    def news(self) -> int:
        """How many bytes came since this was asked last."""
        received = self.received
        came, self._counted = received - self._counted, received
        return came

    def recall(self) -> None:
        """Ends it, soon, and the connection with it; what came is with the intake."""
        self._recalled = True
        with contextlib.suppress(OSError):  # the connection has ended by itself, and so does the loan
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """On the thread: receives."""
        failure: Exception | None = None
        try:
            try:
                self._block(True)
                self._receive()
            finally:
                self._block(False)
                self._intake.close()
        except Exception as error:  # whatever the intake raises is for the request to raise
            failure = error
        try:
            self._loop.call_soon_threadsafe(self._end, failure)
        except RuntimeError:  # the loop was closed over it: nobody is left to be told
            self._socket.close()

    def _block(self, blocking: bool) -> None:
        """Has reads wait, or not, for all who have the socket: the loop does not read while a thread does.

        With a time-out each read would be two system calls, and each of them lets go of the interpreter. What is silent
        for too long the loop's clock ends.
        """
        with contextlib.suppress(OSError):  # it has ended, as the next read shows
            self._socket.setblocking(blocking)

    def _receive(self) -> None:
        intake = self._intake
        while intake.left:
            room = intake.get_buffer()
            try:
                count = self._socket.recv_into(room)
            except OSError:  # the loop meets it too, and knows what to make of it
                return
            if not count:
                return
            self.busy = True
            self.received += count
            intake.advance(count)
            self.busy = False

    def _end(self, failure: Exception | None) -> None:
        self._socket.close()  # here, as `recall` is: its number must not be another's by then
        if failure is None or self._recalled:
            self.over.set_result(None)
        else:
            self.over.set_exception(failure)


class Receivers:
    """The threads of one client, started as they are needed. Belongs to the loop.

    They are daemons, so that a program that never closes its client can end.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Loan | None] = SimpleQueue()
        self._threads = 0
        self._lent = 0

    def ready(self) -> bool:
        """Whether a socket may be lent now: there is a thread for it, or one could be started."""
        if self._lent == self._threads < MOST:
            thread = threading.Thread(target=self._run, name=f"asyncfetch-receive-{self._threads}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more of them
                return False
            self._threads += 1
        return self._lent < self._threads

    def lend(self, loan: Loan) -> None:
        """Has a thread receive, which must be `ready`. Interrupted, `lent` tells whether one does all the same."""
        loan.over.add_done_callback(self._returned)
        self._lent += 1
        loan.lent = True  # from here to the end of the call below no signal's handler is run
        self._queue.put(loan)

    def close(self) -> None:
        """Lets each thread end once it has given back what it was lent. To be called when nothing is lent any more."""
        for _ in range(self._threads):
            self._queue.put(None)
        self._threads = 0

    def _returned(self, over: asyncio.Future[None]) -> None:
        self._lent -= 1

    def _run(self) -> None:
        while (loan := self._queue.get()) is not None:
            loan.run()
