"""Which blobs are to be doubted until their bytes were hashed: decided from plain facts, without looking at them.

What was stored under another boot and not synced since may have lost a race with the power; so may bytes that lie there
without a row. The policy may doubt more than that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from asyncfetch.cache.changes import stored

if TYPE_CHECKING:
    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.index import Index
    from asyncfetch.settings import Verify

Doubt = Literal["unproven", "policy"]

# Digests that are remembered as good, by 8 bytes of each: 16 MiB at most. Beyond that all are forgotten, which costs
# another look at those that come again.
MOST_REMEMBERED = 1 << 18


class Proofs:
    """What this process has found out about blobs. For the cache's thread, but `accept`, which is for any."""

    def __init__(self, verify: Verify, index: Index) -> None:
        self._verify, self._index = verify, index
        self._good: set[int] = set()
        self._bad: set[str] = set()  # found damaged, and not replaced since as far as we know
        self._untold: list[Change] = []

    def doubt(self, digest: str, epoch: int | None) -> Doubt | None:
        """Why a blob of an epoch (None: it has no row) must be hashed before it is served; None if it need not."""
        if not self._index.trusts(epoch) or (self._bad and digest in self._bad):
            return None if self._verify != "always" and hash(digest) in self._good else "unproven"
        if self._verify == "size" or (self._verify == "first" and hash(digest) in self._good):
            return None
        return "policy"

    def doubts_stored(self, digest: str) -> bool:
        """Whether bytes that lie under this digest must be hashed before they are taken for what they should be."""
        if digest in self._bad:
            return True
        return hash(digest) not in self._good and not self._index.trusts(self._index.epoch_of(digest))

    def accept(self, digest: str) -> None:
        """Takes a blob as good: its bytes have just been looked at."""
        if len(self._good) >= MOST_REMEMBERED:
            self._good.clear()
        self._good.add(hash(digest))
        self._bad.discard(digest)

    def accept_stored(self, digest: str, size: int) -> None:
        """Takes bytes that lay there unproven as good; the index is to be told so by what `take` gives."""
        self.accept(digest)
        # Not as proven: they were read from memory, and whether they are on the disk as well is for a sync to say.
        self._untold.append(stored(digest, size, time.time()))

    def reject(self, digest: str) -> None:
        """Takes a blob as damaged, until it is replaced."""
        self._good.discard(hash(digest))
        self._bad.add(digest)

    def replaced(self, digest: str) -> None:
        """Hears that a blob was written anew."""
        self._bad.discard(digest)

    def take(self) -> list[Change]:
        """What the index is to be told."""
        untold, self._untold = self._untold, []
        return untold
