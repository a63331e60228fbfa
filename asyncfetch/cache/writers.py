"""The few threads that hash and write large bodies, started with the first of them."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Hashing and writing release the interpreter; beyond four a disk gains nothing, below two a slow write would hold all
# up.
MOST_THREADS = min(4, max(2, os.cpu_count() or 1))


class Writers:
    """A pool of threads for work that raises nothing and reports by itself.

    Not concurrent.futures: its Future and Condition cost more than handing over a piece of 512 KiB does. The threads
    are daemons, so that a program that never closes its cache can end; the cache bears being ended anywhere.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def submit(self, work: Callable[[], None]) -> None:
        """Has work done soon. Belongs to the loop's thread."""
        if len(self._threads) < MOST_THREADS and not self._stopped:
            thread = threading.Thread(target=self._run, name=f"asyncfetch-write-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(work)

    def stop(self) -> None:
        """Lets the threads end once what was submitted is done. Later work is not done."""
        if not self._stopped:
            self._stopped = True
            for _ in self._threads:
                self._queue.put(None)

    def join(self) -> None:
        """Waits, after `stop`, for the end of the threads. Blocks."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
