"""Whether the network is waited for, or this process: in the first case alone do more connections for one object help.

A connection to S3 brings 85-90 MB/s at most, so a large object wants several. Where one connection brings more than can
be hashed and written, as within a data center, several only take turns with it, and what they bring out of order has to
be read back for the digest: four objects of 64 MiB from a server on the same machine came at 600 MB/s by many
connections and at 1,100 by one each.

How it shows: whoever waits for the network takes what comes as it comes, some packets at a time. Whoever is behind
finds heaps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from asyncfetch.cache import Arrivals

# Seconds between looks; 85 MB/s bring 400 KiB in one, a twentieth of a part.
LOOK: Final = 0.005
# Bytes of a read. 85 MB/s bring so much in 0.8 ms, in which a loop that has not much to do has looked often; from a
# server on the same machine the mean is 200 KiB, and 75 while TCP's window is still small.
HEAP: Final = 64 << 10


class Watcher(Protocol):
    """Who wants to know."""

    def look(self, waiting: bool) -> bool:
        """Takes note whether the network is waited for; says whether it wants to know that again."""
        ...

    @property
    def writing(self) -> bool:
        """Whether what came for it is still on its way to the disk."""
        ...


class Slack:
    """Looks at what comes of all large objects together, every `LOOK` seconds while somebody wants to know.

    Together, for a server may well feed one connection after the other.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._watchers: dict[Watcher, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = self._reads = 0  # at the last look

    def watch(self, watcher: Watcher) -> None:
        """Tells the watcher at each look, until it no longer wants to know."""
        self._watchers[watcher] = None
        if self._timer is None:
            self._begin()

    def forget(self, watcher: Watcher) -> None:
        """Tells it no more. May be called twice."""
        self._watchers.pop(watcher, None)
        if not self._watchers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._bytes, self._reads = self._arrivals.bytes, self._arrivals.reads
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _look(self) -> None:
        came, reads = self._arrivals.bytes - self._bytes, self._arrivals.reads - self._reads
        waiting = came < reads * HEAP if came else not any(watcher.writing for watcher in self._watchers)
        self._timer = None
        for watcher in list(self._watchers):
            if watcher in self._watchers and not watcher.look(waiting):
                self.forget(watcher)
        if self._watchers and self._timer is None:
            self._begin()
