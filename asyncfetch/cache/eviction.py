"""Room for new blobs: what is admitted, and slices of the least recently used that go for it.

A slice removes its rows and its files within one transaction, under the write lock. Whoever found a file in its place,
and says so to the index, looks once more after that commit: either the slice came before, and the file is seen to be
gone, or it comes after, and sees that the blob was used. So no path is handed out that is removed at that moment. All
this saves work: a path whose blob is gone is fetched again.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.admission import Level, room, to_free
from asyncfetch.cache.failures import WouldWait
from asyncfetch.cache.sums import drop_known_blobs
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from asyncfetch.cache.admission import Limits
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.partials import Partials
    from asyncfetch.cache.recovery import Intents

_log = logging.getLogger(__name__)

SLICE = 128  # victims; they hold the write lock for some 3 ms
SLICES = 4  # for one batch of bodies at most: 512 victims for 64 bodies, and look-ups wait for 12 ms
# Beside a running job, of victims and of refs: 1.5 to 2 ms, for which the loop stands still where it removes itself.
# With 128 a victim costs a tenth less.
SLICE_BESIDE = 64
FULL_SLACK = 16 * MIB  # bytes, as many as a batch of bodies has
LOOK_SECONDS = 1.0  # between looks at the disk's free space, unless more than so many bytes were written meanwhile:
LOOK_BYTES = 64 << 20

# The share of the time that slices beside a running job take, some of it while the loop takes answers; what they do not
# get then they get when it is idle. A job that does nothing but look up loses about as much. In a cache of a million
# entries a victim takes 22 to 28 us of CPU: 14 in SQLite, of which 6 write the page that its row is on, as each lies on
# another one; 5 to 8 to unlink; the rest in Python. So 100,000 take 25 s beside such a job, and 3 s beside none.
SHARE = 0.1

_OLDEST = "SELECT min(used) FROM blobs WHERE pinned = 0"
_VICTIMS = "SELECT algorithm, digest, size FROM blobs WHERE pinned = 0 AND used < ? ORDER BY used LIMIT ?"

# Uses that lie in the future were noted before the clock was set back, and would keep their blobs until it is there
# again. They count as of now, or of the start of a job that lives, so that nothing goes that a job may be using. Some
# 40 ms at once, when nothing else is left to evict.
AHEAD_SECONDS = 86_400  # clocks of machines that share a volume may differ, but not by a day
REWOUND = 4096
_REWIND = """
UPDATE blobs SET used = ? WHERE (algorithm, digest) IN (
    SELECT algorithm, digest FROM blobs WHERE pinned = 0 AND used > ? ORDER BY used DESC LIMIT ?
)
"""

_KEEP = "UPDATE blobs SET used = ? WHERE algorithm = ? AND digest = ?"

# Refs that are looked at for each blob that went, 2 us each, so that at most a quarter are of blobs that are gone; and
# for each victim that a slice could have: as many as take the same time.
REFS_EACH = 4
REFS_FOR_ONE = 8

_FIRST_REF, _LAST_REF = ("",) * 5, (chr(0x10FFFF),) * 5
_REF_AFTER = """
SELECT endpoint, container, key, version, algorithm FROM refs
WHERE (endpoint, container, key, version, algorithm) > (?, ?, ?, ?, ?)
ORDER BY endpoint, container, key, version, algorithm LIMIT 1 OFFSET ?
"""
_DROP_REFS = """
DELETE FROM refs WHERE (endpoint, container, key, version, algorithm) > (?, ?, ?, ?, ?)
AND (endpoint, container, key, version, algorithm) <= (?, ?, ?, ?, ?)
AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.algorithm = refs.algorithm AND blobs.digest = refs.digest)
"""


class Room:
    """How much may be added to one cache directory. For the cache's thread alone.

    What other processes add at the same moment is not seen: a limit may be passed by what they have in one batch each,
    and the next one makes up for it.
    """

    def __init__(
        self, limits: Limits, index: Index, blobs: Blobs, partials: Partials, owner: Owner, intents: Intents
    ) -> None:
        self._limits, self._index, self._blobs, self._owner, self._intents = limits, index, blobs, owner, intents
        self._partials = partials
        self._limited = limits.any  # asked for each body
        self._free = 0
        self._looked_at = 0.0
        self._written = 0  # since that look
        self._room = -1.0  # until the first look: the limit may be lower than last time
        self._exhausted_at = -1.0  # when nothing that may be evicted was left
        self._slice_at = 0.0
        self._last_ref = _FIRST_REF
        self._refs_due = 0  # to be looked at, whether their blobs are there
        self.refusing = False  # the last body was refused, though not for its size alone
        self.evicted = self.evicted_bytes = 0

    def make(self, sizes: Sequence[int], *, evict: bool = True) -> None:
        """Makes room for bodies that are about to be placed, as far as that goes without keeping others waiting.

        Raises `WouldWait` where something would have to go for them and it may not `evict`.
        """
        if not self._limited:
            return
        self._index.limit()
        for _ in range(SLICES):
            level = self._level()
            self._room = room(self._limits, level)
            need = to_free(self._limits, level, sizes)
            if need and not evict and not self._is_exhausted():
                raise WouldWait
            if not need or not self._slice(need):
                return
        self._room = room(self._limits, self._level())

    def takes(self, size: int) -> bool:
        """Whether one more body of this size is admitted; it counts from then on."""
        if not self._limited:
            return True
        self.refusing = size > self._room
        if self.refusing:
            return False
        self._room -= size
        self._written += size
        return True

    def make_on_full_disk(self, size: int) -> bool:
        """Evicts so many bytes, if there are, because the disk has refused to take more. False where none could go.

        As far as that goes without keeping others waiting also what a batch takes: it may come first.
        """
        self._index.limit()
        before, slices = self.evicted_bytes, 0
        while (freed := self.evicted_bytes - before) < size or (freed < size + FULL_SLACK and slices < SLICES):
            if not self._slice(size + FULL_SLACK - freed):
                break
            slices += 1
        return self.evicted_bytes > before

    def look(self) -> None:
        """Sees anew how much there is, because something came that no batch brought, and that may go too."""
        if self._limited:
            self._looked_at, self._exhausted_at = 0.0, -1.0
            self._room = room(self._limits, self._level())

    def pause(self) -> float | None:
        """Seconds until the next slice is due, of blobs because there are too many or of refs; None while none is."""
        if not self._refs_due and not self._has_too_much():
            return None
        return max(0.0, self._slice_at - time.monotonic())

    def shrink(self, *, beside: bool) -> None:
        """Removes a slice if one is due. `beside` others' look-ups it is not due again at once."""
        if self.pause() != 0.0:
            return
        self._index.limit()
        began = time.monotonic()
        most = SLICE_BESIDE if beside else SLICE
        if not self._has_too_much():
            self._drop_refs(most * REFS_FOR_ONE)
        elif need := to_free(self._limits, self._level()):
            self._slice(need, most)
        self._room = room(self._limits, self._level())
        ended = time.monotonic()
        self._slice_at = ended + (ended - began) * (1 / SHARE - 1) if beside else ended

    def _level(self) -> Level:
        held = self._index.totals().blob_bytes + self._partials.held()
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

    def _has_too_much(self) -> bool:
        return self._limits.any and self._room < 0 and not self._is_exhausted()

    def _is_exhausted(self) -> bool:
        """Nothing to evict was found a moment ago; jobs end and blobs age, so that holds only for a while."""
        return time.monotonic() - self._exhausted_at < LOOK_SECONDS and self._exhausted_at >= 0

    def _slice(self, need: int, most: int = SLICE) -> int:
        """Evicts blobs of `need` bytes, or as many as a slice has, the least recently used first. Returns how many.

        What came of unfinished objects goes in its turn, as if used when the last of it came, and where no blob may go.
        """
        if self._is_exhausted():
            return 0
        parts = self._evict_parts(need)
        need -= sum(parts)
        if need <= 0:
            return len(parts)
        gone: list[int] = []

        def work(connection: sqlite3.Connection) -> None:
            gone.clear()
            self._remove(connection, need, most, gone)

        if self._index.apply((), (work,)):
            self._intents.fulfil_victims()
        # Else their rows are still there and are met first by the next slice, or by whoever inherits the intents.
        if not gone:
            parts += self._evict_parts(need, last_resort=True)
            if not parts:
                self._exhausted_at = time.monotonic()
            return len(parts)
        self._count(gone)
        self._refs_due = min(self._refs_due + REFS_EACH * len(gone), self._index.totals().objects)
        return len(parts) + len(gone)

    def _evict_parts(self, need: int, *, last_resort: bool = False) -> list[int]:
        """Removes unfinished objects that are older than the least recently used blob, or, at last, any."""
        if not self._partials.held():
            return []
        (row,) = [None] if last_resort else self._index.first_rows(_OLDEST, [()])
        oldest = row[0] if row else None  # None too where there is no blob
        parts = self._partials.evict(need, math.inf if oldest is None else oldest)
        self._count(parts)
        return parts

    def _count(self, gone: Sequence[int]) -> None:
        self.evicted += len(gone)
        self.evicted_bytes += sum(gone)
        self._looked_at = 0.0

    def _remove(self, connection: sqlite3.Connection, need: int, most: int, gone: list[int]) -> None:
        before = self._owner.oldest_job()
        victims = []
        for algorithm, name, size in connection.execute(_VICTIMS, (before, most)):
            victims.append((f"{algorithm}:{name.hex()}", algorithm, name, size))
            need -= size
            if need <= 0:
                break
        if not victims:
            now = max(time.time(), before)
            connection.execute(_REWIND, (now, now + AHEAD_SECONDS, REWOUND))
        self._intents.declare_victims(victim[0] for victim in victims)
        removed, stuck = [], []
        for digest, algorithm, name, size in victims:
            try:
                files.remove(self._blobs.path(digest))
            except OSError as error:
                _log.warning("a blob could not be evicted: %s", error)
                stuck.append((before, algorithm, name))
            else:
                removed.append((algorithm, name))
                gone.append(size)
        drop_known_blobs(connection, removed, gone)
        connection.executemany(_KEEP, stuck)  # as if just used, so that the next slice does not meet it again

    def _drop_refs(self, count: int) -> None:
        """Forgets objects whose blob is gone, among the next `count` refs in their order.

        To look for those of the victims alone would take another index on refs, 4 us for every object that comes in.
        """
        last = _LAST_REF

        def work(connection: sqlite3.Connection) -> None:
            nonlocal last
            last = connection.execute(_REF_AFTER, (*self._last_ref, count - 1)).fetchone() or _LAST_REF
            connection.execute(_DROP_REFS, (*self._last_ref, *last))

        self._index.apply((), (work,))
        self._last_ref = _FIRST_REF if last == _LAST_REF else last
        self._refs_due = max(0, self._refs_due - count)
