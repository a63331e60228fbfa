"""How one thread waits for another's news, though an interrupt may come to either at any instant."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A signal that comes in the instant before its thread falls asleep does not wake it: so long may Ctrl-C take then. And
# so long does who waits take to see what happened, where an interrupt came before the ring.
PULSE = 0.5


class Bell:
    """What a thread waits for and others ring; rung twice before it is heard, it is heard once.

    An interrupt in the middle of `threading.Event`, or of a condition or semaphore, which are written in Python, may
    leave its lock taken for ever. A bare lock has no middle.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wakes whoever waits, or will wait next."""
        with suppress(RuntimeError):  # it was rung before, and nobody has heard it yet
            self._silence.release()

    def wait(self) -> None:
        """Waits until it is rung, or for a pulse."""
        self._silence.acquire(timeout=PULSE)

    def until(self, holds: Callable[[], object], seconds: float = math.inf) -> None:
        """Waits until something holds, of which a ring tells, or for so many seconds."""
        end = time.monotonic() + seconds
        while not holds() and (left := end - time.monotonic()) > 0:
            self._silence.acquire(timeout=min(left, PULSE))
