"""How the threads that write large bodies ask the cache's one thread for room on a full disk, and wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Need:
    """So many bytes that a full disk did not take."""

    __slots__ = ("answered", "freed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.freed = False
        self.answered = threading.Event()


class Needs:
    """Those that are not answered. Each is: whoever asks when nobody is left to answer is told at once."""

    def __init__(self, post: Callable[[Need], None]) -> None:
        """`post` hands a need to the thread that answers it."""
        self._post = post
        self._lock = threading.Lock()
        self._waiting: set[Need] = set()
        self._closed = False

    def ask(self, size: int) -> bool:
        """Waits until something was freed, or says False. For any thread but the one that answers."""
        need = Need(size)
        with self._lock:
            if self._closed:
                return False
            self._waiting.add(need)
        self._post(need)
        need.answered.wait()
        return need.freed

    def answer(self, need: Need, free: Callable[[int], bool]) -> None:
        """Frees what it can, and lets go of who waits, also where that fails."""
        try:
            need.freed = free(need.size)
        finally:
            with self._lock:
                self._waiting.discard(need)
            need.answered.set()

    def close(self) -> None:
        """Answers all that wait and all that will: nothing is freed any more."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, set()
        for need in waiting:
            need.answered.set()
