"""How much is read on the loop before everything else has its turn.

A body that is read where it is wanted costs a third of one that waits in a batch: its consumer is done with it before
the next is read, and so the next comes into the same memory. Memory that is new costs 3 us for each 4 KiB of it in a
virtual machine, three times as much as to copy what it is for. But a consumer that never has to wait would keep the
loop for itself.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# What comes first ends a turn: some 0.5 ms.
READS = 16
READ_BYTES = 1 << 20
LOST_SECONDS = 0.1  # an end of a turn that has been due for longer was most likely interrupted as it began


class Turns:
    """The turns of one loop, as far as reads are concerned. For the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = -math.inf  # when something was first read or granted in this turn
        self._reads = self._bytes = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Whether one more may be read in this turn, which then counts. Nobody who waits is overtaken."""
        self._begin()
        if self._waiters or self._reads >= READS or self._bytes >= READ_BYTES:
            return False
        self._reads += 1
        return True

    async def wait(self) -> None:
        """Returns in a turn in which one may be read, which then counts. Cancelled, it takes that turn at most."""
        if not self.take():
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def spend(self, size: int) -> None:
        """Says how many bytes there were."""
        self._bytes += size

    def _begin(self) -> None:
        now = self._loop.time()
        if now - self._begun > LOST_SECONDS:
            self._begun = now
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        """Lets as many go on as there will be room for, if they read as much each as those before."""
        most = min(READS, max(1, READ_BYTES * self._reads // self._bytes)) if self._bytes else READS
        self._begun, self._reads, self._bytes = -math.inf, 0, 0
        while self._waiters and self._reads < most:
            waiter = self._waiters.popleft()
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
                self._reads += 1
        if self._reads or self._waiters:
            self._begin()
