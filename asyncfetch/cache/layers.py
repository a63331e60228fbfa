"""A cache of one's own over one that is only read: what is found in neither goes into the upper one.

The upper one is as temporary as its owner; what is learned of objects below, that they were checked or are gone, is
kept there too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.blobs import Blobs
from asyncfetch.cache.changes import forgotten
from asyncfetch.cache.index import Index
from asyncfetch.cache.records import CacheStats

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.below import Below
    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.proofs import Proofs
    from asyncfetch.cache.records import Known, RefKey
    from asyncfetch.settings import Digest


class LayeredIndex(Index):
    """The index of the upper cache, which asks that of the lower one for what it does not know."""

    def __init__(
        self, below: Below, directory: str, algorithm: Digest, scratch: Callable[[], str], *, boot: str
    ) -> None:
        """Opens the upper one, as `Index` does."""
        self._below = below
        self._gone: set[RefKey] = set()  # objects that their origin does not have any more
        super().__init__(directory, algorithm, scratch, boot=boot)

    def follow(self) -> None:
        super().follow()
        self._below.follow()

    def find(self, keys: Sequence[RefKey]) -> list[Known | None]:
        found = super().find(keys)
        missing = [key for key, known in zip(keys, found, strict=True) if known is None and key not in self._gone]
        lower = dict(zip(missing, self._below.find(missing), strict=True)) if missing else {}
        return [
            self._above(known) if known is not None else self._from_below(lower.get(key))
            for key, known in zip(keys, found, strict=True)
        ]

    def epoch_of(self, digest: str) -> int | None:
        epoch = super().epoch_of(digest)
        return self._below.epoch_of(digest) if epoch is None else epoch

    def apply(self, changes: Sequence[Change], also: Sequence[Callable[[sqlite3.Connection], object]] = ()) -> bool:
        self._gone.update(key for change in changes if (key := forgotten(change)) is not None)
        return super().apply(changes, also)

    def totals(self) -> CacheStats:
        pairs = zip(super().totals(), self._below.totals(), strict=True)
        return CacheStats(*(upper + lower for upper, lower in pairs))

    def _above(self, known: Known) -> Known:
        """A ref of the upper index, whose blob may lie below, where nobody is to be told that it is used."""
        if known.epoch is not None:
            return known
        return known._replace(epoch=self._below.epoch_of(known.ref.digest), used=math.inf)

    def _from_below(self, known: Known | None) -> Known | None:
        """A ref of the lower index, whose blob may lie above too."""
        return known and known._replace(epoch=self.epoch_of(known.ref.digest), used=math.inf)


class LayeredBlobs(Blobs):
    """The blobs of both, of which the lower ones are only read."""

    def __init__(self, below: Below, root: str, owner: Owner, proofs: Proofs) -> None:
        super().__init__(root, owner, proofs)
        self._below = below

    def find(self, digest: str, size: int) -> str | None:
        return super().find(digest, size) or self._below.path(digest, size)

    def read(self, digest: str, size: int) -> bytes | None:
        data = super().read(digest, size)
        if data is None and (path := self._below.path(digest, size)) is not None:
            data = files.read_whole(path, size)
        return data
