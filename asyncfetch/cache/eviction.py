"""Room for new blobs: what is admitted, and slices of the least recently used that go for it.

A slice removes its rows and its files within one transaction, under the write lock. Whoever found a file in its place,
and says so to the index, looks once more after that commit: either the slice came before, and the file is seen to be
gone, or it comes after, and sees that the blob was used. So no path is handed out that is removed at that moment. All
this saves work: a path whose blob is gone is fetched again.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.admission import Level, room, to_free

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from asyncfetch.cache.admission import Limits
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.recovery import Intents

_log = logging.getLogger(__name__)

SLICE = 128  # victims; they hold the write lock for some 3 ms
SLICES = 4  # for one batch of bodies at most: 512 victims for 64 bodies, and look-ups wait for 12 ms
LOOK_SECONDS = 1.0  # between looks at the disk's free space, unless more than so many bytes were written meanwhile:
LOOK_BYTES = 64 << 20

# The share of the time that slices beside a running job take; what they do not get then they get when it is idle.
SHARE = 0.1

_VICTIMS = "SELECT algorithm, digest, size FROM blobs WHERE pinned = 0 AND used < ? ORDER BY used LIMIT ?"

_FIRST_REF = ("", "", "", "", "")
_NEXT_REFS = """
SELECT endpoint, container, key, version, refs.algorithm, blobs.size
FROM refs LEFT JOIN blobs ON blobs.algorithm = refs.algorithm AND blobs.digest = refs.digest
WHERE (endpoint, container, key, version, refs.algorithm) > (?, ?, ?, ?, ?)
ORDER BY endpoint, container, key, version, refs.algorithm LIMIT ?
"""
_DROP_REF = "DELETE FROM refs WHERE (endpoint, container, key, version, algorithm) = (?, ?, ?, ?, ?)"


class Room:
    """How much may be added to one cache directory. For the cache's thread alone.

    What other processes add at the same moment is not seen: a limit may be passed by what they have in one batch each,
    and the next one makes up for it.
    """

    def __init__(self, limits: Limits, index: Index, blobs: Blobs, owner: Owner, intents: Intents) -> None:
        self._limits, self._index, self._blobs, self._owner, self._intents = limits, index, blobs, owner, intents
        self._free = 0
        self._looked_at = 0.0
        self._written = 0  # since that look
        self._room = -1.0  # until the first look: the limit may be lower than last time
        self._exhausted_at = -1.0  # when nothing that may be evicted was left
        self._slice_at = 0.0
        self._last_ref = _FIRST_REF
        self.refusing = False  # the last body was refused, though not for its size alone
        self.evicted = self.evicted_bytes = 0

    def make(self, sizes: Sequence[int]) -> None:
        """Makes room for bodies that are about to be placed, as far as that goes without keeping others waiting."""
        if not self._limits.any:
            return
        self._index.limit()
        for _ in range(SLICES):
            level = self._level()
            self._room = room(self._limits, level)
            need = to_free(self._limits, level, sizes)
            if not need or not self._slice(need):
                return
        self._room = room(self._limits, self._level())

    def takes(self, size: int) -> bool:
        """Whether one more body of this size is admitted; it counts from then on."""
        if not self._limits.any:
            return True
        self.refusing = size > self._room
        if self.refusing:
            return False
        self._room -= size
        self._written += size
        return True

    def make_on_full_disk(self, size: int) -> bool:
        """Evicts at least so many bytes, because the disk has refused to take more. False where that cannot be."""
        self._index.limit()
        freed = self.evicted_bytes
        while self.evicted_bytes < freed + size and self._slice(size):
            pass
        return self.evicted_bytes >= freed + size

    def pause(self) -> float | None:
        """Seconds until the next slice is due because there is too much, None while there is not."""
        if not self._limits.any or self._room >= 0 or self._is_exhausted():
            return None
        return max(0.0, self._slice_at - time.monotonic())

    def shrink(self, *, beside: bool) -> None:
        """Removes a slice if one is due. `beside` others' look-ups it is not due again at once."""
        if self.pause() != 0.0:
            return
        self._index.limit()
        began = time.monotonic()
        if need := to_free(self._limits, self._level()):
            self._slice(need)
        self._room = room(self._limits, self._level())
        ended = time.monotonic()
        self._slice_at = ended + (ended - began) * (1 / SHARE - 1) if beside else ended

    def _level(self) -> Level:
        held = self._index.totals().blob_bytes
        if self._limits.min_free is None:
            return Level(held)
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS or self._written >= LOOK_BYTES or not self._looked_at:
            try:
                self._free = files.free_bytes(self._blobs.root)
            except OSError:  # writing will say why
                _log.debug("the free space of %s could not be seen", self._blobs.root, exc_info=True)
            self._looked_at, self._written = now, 0
        return Level(held, self._free - self._written)

    def _is_exhausted(self) -> bool:
        """Nothing to evict was found a moment ago; jobs end and blobs age, so that holds only for a while."""
        return time.monotonic() - self._exhausted_at < LOOK_SECONDS and self._exhausted_at >= 0

    def _slice(self, need: int) -> int:
        """Evicts blobs of `need` bytes, or a slice of the least recently used. Returns how many."""
        if self._is_exhausted():
            return 0
        gone: list[int] = []

        def work(connection: sqlite3.Connection) -> None:
            gone.clear()
            self._remove(connection, need, gone)

        taken = self._index.apply((), (work,))
        self._intents.fulfil_victims()
        if not taken or not gone:
            self._exhausted_at = time.monotonic()
            return 0
        self.evicted += len(gone)
        self.evicted_bytes += sum(gone)
        self._looked_at = 0.0
        return len(gone)

    def _remove(self, connection: sqlite3.Connection, need: int, gone: list[int]) -> None:
        before = self._owner.oldest_job()
        victims = []
        for algorithm, name, size in connection.execute(_VICTIMS, (before, SLICE)):
            victims.append((algorithm, name, size))
            need -= size
            if need <= 0:
                break
        self._intents.declare_victims(f"{algorithm}:{name.hex()}" for algorithm, name, _ in victims)
        removed, stuck = [], []
        for algorithm, name, size in victims:
            try:
                files.remove(self._blobs.path(f"{algorithm}:{name.hex()}"))
            except OSError as error:
                _log.warning("a blob could not be evicted: %s", error)
                stuck.append((before, algorithm, name))
            else:
                removed.append((algorithm, name))
                gone.append(size)
        connection.executemany("DELETE FROM blobs WHERE algorithm = ? AND digest = ?", removed)
        # As if just used, so that the next slice does not meet it again.
        connection.executemany("UPDATE blobs SET used = ? WHERE algorithm = ? AND digest = ?", stuck)
        self._drop_refs(connection)

    def _drop_refs(self, connection: sqlite3.Connection) -> None:
        """Forgets objects whose blob is gone, among the next few refs in their order.

        To look for those of the victims alone would take another index on refs, 4 us for every object that comes in.
        Twice as many are looked at as blobs can go, so that those left over are a fraction of all.
        """
        rows = connection.execute(_NEXT_REFS, (*self._last_ref, 2 * SLICE)).fetchall()
        connection.executemany(_DROP_REF, [row[:5] for row in rows if row[5] is None])
        self._last_ref = rows[-1][:5] if len(rows) == 2 * SLICE else _FIRST_REF
