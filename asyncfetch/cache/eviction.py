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
from asyncfetch.cache.finding import UNLIMITED_SECONDS
from asyncfetch.cache.oldest import Oldest
from asyncfetch.cache.sums import drop_known_blobs
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from asyncfetch.cache.admission import Limits
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.oldest import Victim
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.partials import Partials
    from asyncfetch.cache.recovery import Intents

_log = logging.getLogger(__name__)

# Victims. They hold the write lock for 2.5 ms (4 on slow cores), and where the loop removes itself it stands still for
# so long. With 64 a victim cost a tenth more, and with each slice look-ups lose what the processor has in its memory.
SLICE = 192
SLICES = 4  # for one batch of bodies at most: 768 victims for 64 bodies, and look-ups wait for 10 to 16 ms
FULL_SLACK = 16 * MIB  # bytes, as many as a batch of bodies has
LOOK_SECONDS = 1.0  # between looks at the disk's free space, unless more than so many bytes were written meanwhile:
LOOK_BYTES = 64 << 20
# More between looks for something to evict, for each blob: 100 times what it takes to pass it.
LOOK_SECONDS_EACH, LOOK_SECONDS_MOST = 3e-5, 60.0

# The share of the time that slices beside a running job take, some of it while the loop takes answers; what they do not
# get then they get when it is idle. A job that does nothing but look up loses about as much. In a cache of a million
# entries a victim takes 13 us of CPU: 5 to 6 to unlink (9 to 16 on slow cores), 6 in SQLite.
SHARE = 0.1

_KEEP = "UPDATE blobs SET used = ? WHERE algorithm = ? AND digest = ?"

# Refs that are looked at for each blob that went, 2 us each, so that at most a quarter are of blobs that are gone; and
# for each victim that a slice could have: as many as take the same time.
REFS_EACH = 4
REFS_FOR_ONE = 6

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
        self.limited = limits.any  # asked for each body
        self._free = 0
        self._looked_at = 0.0
        self._written = 0  # since that look
        self._room = -1.0  # until the first look: the limit may be lower than last time
        self._oldest = Oldest()
        self._exhausted_until = -math.inf  # nothing that may be evicted is left until then
        self._barren = -math.inf, math.nan  # nor until then, as long as the oldest job is the same
        self._pressed = False  # uses that were noted to the day alone do not hold what nothing else holds
        self._slice_at = 0.0
        self._last_ref = _FIRST_REF
        self._refs_due = 0  # to be looked at, whether their blobs are there
        self.spared: set[str] = set()  # digests of blobs that are in use, as the index could not be told
        self.untold = 0  # bytes of blobs in their places that the index could not be told of
        self.refusing = False  # the last body was refused, though not for its size alone
        self.evicted = self.evicted_bytes = 0

    def make(self, sizes: Sequence[int], *, evict: bool = True) -> None:
        """Makes room for bodies that are about to be placed, as far as that goes without keeping others waiting.

        Raises `WouldWait` where something would have to go for them and it may not `evict`.
        """
        if not self.limited:
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
        if not self.limited:
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
        if self.limited:
            self._looked_at, self._exhausted_until, self._barren = 0.0, -math.inf, (-math.inf, math.nan)
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
        if not self._has_too_much():
            self._drop_refs(SLICE * REFS_FOR_ONE)
        elif need := to_free(self._limits, self._level()):
            self._slice(need)
        self._room = room(self._limits, self._level())
        ended = time.monotonic()
        self._slice_at = ended + (ended - began) * (1 / SHARE - 1) if beside else ended

    def _level(self) -> Level:
        held = self._index.totals().blob_bytes + self.untold + self._partials.held()
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
        return time.monotonic() < self._exhausted_until

    def _slice(self, need: int) -> bool:
        """Evicts blobs of `need` bytes, or as many as a slice has, the least recently used first.

        What came of unfinished objects goes in its turn, as if used when the last of it came, and where no blob may go.
        False where nothing more may go for now.
        """
        if self._is_exhausted():
            return False
        until, oldest_job = self._barren
        if time.monotonic() < until and self._owner.oldest_job() == oldest_job:
            self._exhausted_until = time.monotonic() + LOOK_SECONDS
            return False
        need -= sum(self._evict_parts(need, in_turn=True))
        if need <= 0:
            return True
        gone: list[int] = []
        found = 0

        def work(connection: sqlite3.Connection) -> None:
            nonlocal found
            gone.clear()
            before = self._unused_since()  # under the lock: who has opened this cache by now may use what it finds
            victims = self._take(connection, before, need)
            found = len(victims)
            self._remove(connection, victims, before, gone)

        done = self._index.apply((), (work,))
        if done:
            self._intents.fulfil_victims()
        # Else their rows are still there and are met first by the next slice, or by whoever inherits the intents.
        if gone:
            self._count(gone)
            self._refs_due = min(self._refs_due + REFS_EACH * len(gone), self._index.totals().objects)
            return True
        return self._goes_on(need, done=done, stuck=found > 0)

    def _goes_on(self, need: int, *, done: bool, stuck: bool) -> bool:
        """What becomes of a slice in which nothing went: whether the next one may find something."""
        if done and not stuck:
            if not self._oldest.exhausted:
                return True
            if not self._pressed and self._unused_since() < self._owner.oldest_job():
                self._pressed = True
                return True
        if self._evict_parts(need):
            return True
        now = time.monotonic()
        self._exhausted_until = now + LOOK_SECONDS
        if done and not stuck:
            seconds = min(LOOK_SECONDS_MOST, self._index.totals().blobs * LOOK_SECONDS_EACH)
            self._barren = now + seconds, self._owner.oldest_job()
        return False

    def _unused_since(self) -> float:
        """What was last used before that, no job that lives has used."""
        since = self._owner.oldest_job()
        noted = self._pressed or self._index.limited_since() <= since
        return since if noted else since - UNLIMITED_SECONDS

    def _evict_parts(self, need: int, *, in_turn: bool = False) -> list[int]:
        """Removes unfinished objects: those that are older than the blobs that go next, or any."""
        if not self._partials.held():
            return []
        horizon = None
        if in_turn:
            before = self._unused_since()
            horizon = self._index.read(lambda connection: self._oldest.horizon(connection, before))
        parts = self._partials.evict(need, math.inf if horizon is None else horizon)
        self._count(parts)
        return parts

    def _count(self, gone: Sequence[int]) -> None:
        self.evicted += len(gone)
        self.evicted_bytes += sum(gone)
        self._looked_at = 0.0

    def _take(self, connection: sqlite3.Connection, before: float, need: int) -> Sequence[Victim]:
        """What goes next. Of what is in use the index is told by the way: on a full disk it could not be until now."""
        while victims := self._oldest.take(connection, before, need, SLICE):
            spared = [one for one in victims if one.digest in self.spared] if self.spared else []
            if not spared:
                return victims
            connection.executemany(_KEEP, [(self._owner.now(), one.algorithm, one.name) for one in spared])
            if len(spared) < len(victims):
                return [one for one in victims if one.digest not in self.spared]
        return []

    def _remove(
        self, connection: sqlite3.Connection, victims: Sequence[Victim], before: float, gone: list[int]
    ) -> None:
        digests = [victim.digest for victim in victims]
        self._intents.declare_victims(digests)
        path, remove, stuck = self._blobs.path, files.remove, set[int]()
        for place, digest in enumerate(digests):
            try:
                remove(path(digest))
            except OSError as error:
                if not stuck:
                    _log.warning("a blob could not be evicted: %s", error)
                stuck.add(place)
        removed = [victim for place, victim in enumerate(victims) if place not in stuck] if stuck else victims
        gone += [victim.size for victim in removed]
        drop_known_blobs(connection, [victim[:2] for victim in removed], gone)
        # as if just used, so that the next slice does not meet them again
        connection.executemany(_KEEP, [(before, *victims[place][:2]) for place in stuck])

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
