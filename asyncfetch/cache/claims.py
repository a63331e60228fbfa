"""Single flight across processes: who brings an object is said in the index, and the others wait for it there.

A claim saves bandwidth and nothing rests on it. Whoever waits goes on when the object is there, when the claim is gone
without it, when its owner is dead, and after `RACE_SECONDS` in any case, whoever has held the claim meanwhile. While no
other owner lives there are no rows: what is under way is remembered in memory, and told when one appears.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.changes import unclaim
from asyncfetch.cache.known import owners

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.commands import Later
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.records import Found, RefKey
    from asyncfetch.settings import Digest

    Find = Callable[[Sequence[RefKey]], list[Found | None]]  # where the objects are that are here

# The most that a waiter waits for an object, however many owners its claim has had; 2.5 GB come until then at the 85
# MB/s of AWS.
RACE_SECONDS = 30.0
POLL_SECONDS = 0.02  # between looks at the index, provided that they take this share of the time at most:
_POLL_SHARE = 0.02  # with a tenth, eight processes that wait for each other took twice the CPU of seven that need not
_POLL_SECONDS_MOST = 1.0
_DEAD_SECONDS = 0.25  # between looks at whether an owner lives, 15 us each

_CLAIM = "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)"
_TAKE_OVER = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)"
_LEAVE = "DELETE FROM claims WHERE owner = ?"


class Missed(NamedTuple):
    """Objects of one look-up that are to be asked for at their origin unless another process is doing that."""

    keys: Sequence[RefKey]
    seen: Sequence[Found | None]  # None where it is not here; else it is to be checked
    places: Sequence[int]  # of each among all that were looked up
    later: Later  # told instead, on the loop, once the other has
    answer: Callable[[int, Found | None, bool], None]  # takes a place, where it is, or whether another brings it


class Settled(NamedTuple):
    """What became of an object that another process had claimed."""

    key: RefKey
    found: Found | None
    laters: list[Later]


class _Wait(NamedTuple):
    owner: str
    since: float  # when it began; another owner makes it no longer
    laters: list[Later]


class Claims:
    """What one owner is bringing, and what it waits for. For the cache's thread; `mine` may be read by anybody."""

    def __init__(self, index: Index, owner: Owner, algorithm: Digest, find: Find) -> None:
        self._index, self._owner, self._algorithm, self._find = index, owner, algorithm, find
        self.mine: set[RefKey] = set()
        self._awaited: dict[RefKey, _Wait] = {}
        self._told = False  # there have been rows of this owner's
        self._poll_at = self._dead_at = 0.0
        self._dead: set[str] = set()

    def claim(self, missed: Sequence[Missed]) -> None:
        """Claims what was missed, or begins to wait for it, and answers."""
        if not self._owner.in_company():
            for one in missed:
                self.mine.update(one.keys)
            return
        keys = [key for one in missed for key in one.keys]
        others = self._index.read(self._others(keys)) or {}  # before the lock, which who only waits need not have
        claimed = [] if self._told else list(self.mine)
        claimed += [key for key in keys if key not in others]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_CLAIM, map(self._row, claimed))
            for key in claimed:
                others.pop(key, None)  # who had it in the generation that this one took the place of
            others.update(self._others(claimed)(connection))

        if claimed:
            self._index.apply((), (work,))  # where that fails, each process fetches for itself
        self._told = True
        seen = {key: here for one in missed for key, here in zip(one.keys, one.seen, strict=True)}
        found = self._made_mine([key for key in keys if key not in others], seen)
        for one in missed:
            for key, place in zip(one.keys, one.places, strict=True):
                if (other := others.get(key)) is None:
                    one.answer(place, found.get(key), False)
                else:
                    self._wait(key, other, one.later)
                    one.answer(place, None, True)

    def release(self, key: RefKey) -> list[Change]:
        """Ends a claim: the object is there, or will not come. Returns what the index is to be told."""
        if key not in self.mine:
            return []
        self.mine.discard(key)
        return [unclaim(key, self._algorithm, self._me)] if self._told else []

    def leave(self) -> None:
        """Ends all claims of this owner."""
        self.mine.clear()
        if self._told:
            self._index.apply((), (lambda connection: connection.execute(_LEAVE, (self._me,)),))

    def pause(self) -> float | None:
        """Seconds until the awaited are to be looked at; None while nothing is awaited."""
        return max(0.0, self._poll_at - time.monotonic()) if self._awaited else None

    def poll(self) -> Sequence[Settled]:
        """Looks, when it is time to, which of the awaited are here by now, or this owner's to fetch.

        Raises `WouldWait` where the index is not patient and another holds it; all is looked at again then.
        """
        if self.pause() != 0.0:
            return ()
        began = time.monotonic()
        try:
            return self._settle(began)
        finally:
            ended = time.monotonic()
            self._poll_at = ended + min(max(POLL_SECONDS, (ended - began) / _POLL_SHARE), _POLL_SECONDS_MOST)

    @property
    def _me(self) -> str:
        return self._owner.directory.rpartition("/")[2]

    def _row(self, key: RefKey) -> tuple[str | float, ...]:
        return (*key, self._algorithm, self._me, time.time())

    def _wait(self, key: RefKey, owner: str, later: Later) -> None:
        if not self._awaited:
            self._poll_at = time.monotonic() + POLL_SECONDS
        wait = self._awaited.get(key)
        if wait is None:
            self._awaited[key] = _Wait(owner, time.monotonic(), [later])
        else:
            wait.laters.append(later)

    def _made_mine(self, keys: Sequence[RefKey], seen: Mapping[RefKey, Found | None]) -> dict[RefKey, Found]:
        """Takes down what is claimed by now, less what came in or was checked just before that, after it was `seen`."""
        here = {}
        for key, found in zip(keys, self._find(keys), strict=True):
            before = seen.get(key)
            if found is not None and (before is None or found.ref.validated > before.ref.validated):
                here[key] = found
        self.mine.update(key for key in keys if key not in here)
        if here:
            self._index.apply([unclaim(key, self._algorithm, self._me) for key in here])
        return here

    def _settle(self, now: float) -> list[Settled]:
        if now >= self._dead_at:
            self._dead_at = now + _DEAD_SECONDS
            self._dead = {
                owner for owner in {wait.owner for wait in self._awaited.values()} if self._owner.is_dead(owner)
            }
        keys = list(self._awaited)
        over = []
        claimed = self._index.read(lambda connection: owners(connection, keys, self._algorithm)) or {}
        for key in keys:
            wait, owner = self._awaited[key], claimed.get(key)
            if owner is not None and owner != wait.owner:
                self._awaited[key] = wait = wait._replace(owner=owner)
            if owner in (None, self._me) or now - wait.since > RACE_SECONDS or wait.owner in self._dead:
                over.append(key)
        here = dict(zip(over, self._find(over), strict=True))
        gone = [key for key in over if here[key] is None]
        if gone:
            taken = self._take(gone)
            here.update(self._made_mine(taken, {}))
            over = [key for key in over if here[key] is not None or key in taken]
        return [Settled(key, here[key], self._awaited.pop(key).laters) for key in over]

    def _others(self, keys: Sequence[RefKey]) -> Callable[[sqlite3.Connection], dict[RefKey, str]]:
        """What reads who else has claimed which of the objects."""

        def look(connection: sqlite3.Connection) -> dict[RefKey, str]:
            claimed = owners(connection, keys, self._algorithm)
            return {key: owner for key, owner in claimed.items() if owner != self._me}

        return look

    def _take(self, keys: Sequence[RefKey]) -> list[RefKey]:
        """Takes the claims over that nobody or only who was waited for holds. Those that another took first stay."""
        taken: list[RefKey] = []

        def work(connection: sqlite3.Connection) -> None:
            claimed = owners(connection, keys, self._algorithm)
            taken[:] = [key for key in keys if claimed.get(key) in (None, self._awaited[key].owner, self._me)]
            connection.executemany(_TAKE_OVER, map(self._row, taken))

        return taken if self._index.apply((), (work,)) else list(keys)
