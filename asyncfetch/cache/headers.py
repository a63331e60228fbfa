"""What the headers of images say, by the digests of their blobs: learned by who decodes, for the next who will.

It is a number whose meaning is not the cache's. The index is told of many together, and when it is written to anyway:
what is not told yet when a process is killed is learned again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from asyncfetch.cache.changes import described

if TYPE_CHECKING:
    from asyncfetch.cache.changes import Change

# A row takes 4 us among 1,000 and 10 among 50,000, wherever they lie. With so many it is 1 to 3 ms on the loop,
# where the cache is on a tmpfs.
DUE = 256
_MOST = 4096  # in memory, while the index cannot be told


class Headers:
    """What was heard. `hear` is for the loop, the rest for one thread at a time."""

    def __init__(self) -> None:
        self._heard: dict[str, int] = {}
        self._telling: dict[str, int] = {}
        self._hearing = threading.Lock()

    @property
    def due(self) -> bool:
        """Whether the index is to be told though there is nothing else to tell it."""
        return len(self._heard) >= DUE

    def hear(self, digest: str, header: int) -> None:
        """Takes down what the header of a blob says; look-ups find it from now on."""
        if len(self._heard) < _MOST:
            with self._hearing:
                self._heard[digest] = header

    def get(self, digest: str) -> int | None:
        """What the index has not been told of a blob."""
        return self._heard.get(digest)

    def untold(self) -> list[Change]:
        """What the index has not been told yet."""
        with self._hearing:
            self._telling = self._heard.copy()
        return [described(digest, header) for digest, header in self._telling.items()]

    def told(self) -> None:
        """Hears that the index was told what was untold. What it could not take is learned again."""
        with self._hearing:  # another number may have come for one meanwhile
            self._heard = dict(self._heard.items() - self._telling.items())
        self._telling = {}
