"""Which blobs go first: the least recently used, found without an index of uses.

Few blobs are sorted. Of many, what goes next is somewhere in the tenth that is the longest unused, or in as much more
as is needed. Digests are as good as random, so those of any range of digests are a fair sample: it says when that
tenth was used. A hand that goes round all digests in their order then meets it; it is kept in the index, so that each
process, and the next, goes on where the last one came to. (Redis evicts by samples, too:
redis.io/docs/latest/develop/reference/eviction. A hand has the page replacement that is called CLOCK.)

An index of uses gave them exactly, one by one, each from another page of the table. In the order of digests a page has
several. With a million blobs the rows of 100,000 take 7 us each to go instead of 21, a blob that comes 18 instead of
22, one that is used again 20 instead of 41, and the file is half as large.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple, get_args

from asyncfetch.cache import database
from asyncfetch.settings import Digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

FEW = 1024  # blobs that are sorted (0.3 ms), or make a sample
PASSED = 4096  # rows that a slice passes at most to find its victims: 1 ms
SHARE = 0.1  # of all blobs, that may go in the order of digests

# Uses that lie in the future were noted before the clock was set back, and would keep their blobs until it is there
# again. They count as of now, or of the start of a job that lives, so that nothing goes that a job may be using.
AHEAD_SECONDS = 86_400  # clocks of machines that share a volume may differ, but not by a day

_ALGORITHMS: tuple[str, ...] = get_args(Digest)
_BYTES = 7  # of a digest, that say where it is: what is told of by them fits SQLite's numbers
_SPAN = 1 << 8 * _BYTES
_ALL = len(_ALGORITHMS) * _SPAN

_RANGE = "algorithm = ? AND digest >= ? AND digest < ?"
_SORTED = "SELECT algorithm, digest, size FROM blobs WHERE pinned = 0 AND used < ? ORDER BY used LIMIT ?"
_LONGEST = "SELECT min(used) FROM blobs WHERE pinned = 0 AND used < ?"
_NEXT = f"""
SELECT algorithm, digest, size FROM blobs WHERE {_RANGE} AND pinned = 0 AND used < ? ORDER BY digest LIMIT ?
"""  # noqa: S608
_FIRST = "SELECT digest FROM blobs WHERE algorithm = ? AND digest >= ? ORDER BY digest LIMIT 1"
_SAMPLE = f"SELECT CASE pinned WHEN 0 THEN used END FROM blobs WHERE {_RANGE}"  # noqa: S608
_HAND = "SELECT value FROM counters WHERE name = 'hand'"
_MOVE_HAND = "INSERT INTO counters VALUES ('hand', ?) ON CONFLICT DO UPDATE SET value = excluded.value"
_REWIND = f"UPDATE blobs SET used = ? WHERE {_RANGE} AND pinned = 0 AND used > ?"  # noqa: S608


class Victim(NamedTuple):
    """A blob that may go."""

    algorithm: str
    name: bytes  # its digest
    size: int  # bytes

    @property
    def digest(self) -> str:
        """As it is written."""
        return f"{self.algorithm}:{self.name.hex()}"


class Range(NamedTuple):
    """Digests of one algorithm, from `first` to before `last`, by their first bytes."""

    algorithm: str
    first: int
    last: int

    @property
    def bounds(self) -> tuple[str, bytes, bytes]:
        """For a statement."""
        last = self.last.to_bytes(_BYTES, "big") if self.last < _SPAN else b"\xff" * 33
        return self.algorithm, self.first.to_bytes(_BYTES, "big"), last


class Oldest:
    """The blobs that may go, in turn. For one thread at a time. All raise `sqlite3.Error`."""

    def __init__(self) -> None:
        self._sample = _Sample(-math.inf, math.inf, 0)
        self._before = math.nan  # of that sample
        self._passed = _ALL  # digests, since it was taken
        self._stored = self._at = 0  # the hand as it was found, and where it is: ahead by what was passed in vain
        self._in_vain = 0  # digests passed since something was found, where all that may go would have been
        self.exhausted = False  # nothing that may go was there, the last time that all were looked at

    def horizon(self, connection: sqlite3.Connection, before: float) -> float:
        """When the longest unused that may go was used, or about then; `before` or infinite where there are none."""
        blobs, _ = _held(connection)
        if blobs <= FEW:
            (longest,) = connection.execute(_LONGEST, (before,)).fetchone()
            return math.inf if longest is None else longest
        self._find_hand(connection)
        self._look(connection, blobs, before, SHARE)
        return min(self._sample.longest, before)

    def take(self, connection: sqlite3.Connection, before: float, need: int, most: int) -> list[Victim]:
        """Blobs of `need` bytes, or `most` blobs, or as many as a slice finds: none last used `before`, none pinned.

        For a transaction in which they go.
        """
        blobs, held = _held(connection)
        if blobs <= FEW:
            victims = _as_needed(connection.execute(_SORTED, (before, most)).fetchall(), need)
            self.exhausted = not victims
            if self.exhausted:
                _rewind(connection, before, [Range(algorithm, 0, _SPAN) for algorithm in _ALGORITHMS])
            return victims
        self._find_hand(connection)
        self._look(connection, blobs, before, max(SHARE, need / max(held, 1)))
        area = _range(_next(connection, self._at), _SPAN * PASSED // blobs)
        rows = connection.execute(_NEXT, (*area.bounds, min(self._sample.cutoff, before), most)).fetchall()
        victims = _as_needed(rows, need)
        more = len(victims) < len(rows) or len(rows) == most
        last = int.from_bytes(victims[-1].name[:_BYTES], "big") + 1 if more else area.last
        self._go_on(connection, _ALGORITHMS.index(area.algorithm) * _SPAN + last, found=bool(victims))
        if not victims and self._sample.cutoff == math.inf:
            _rewind(connection, before, [area])
        if not more and 4 * len(victims) < self._sample.share * blobs * (area.last - area.first) / _SPAN:
            self._passed = _ALL  # others have been here, or what was there is gone: the sample is none of what is left
        return victims

    def _find_hand(self, connection: sqlite3.Connection) -> None:
        if (stored := _hand(connection)) != self._stored:  # where it was written to, something was found
            self._stored = self._at = stored
            self._in_vain = 0

    def _look(self, connection: sqlite3.Connection, blobs: int, before: float, share: float) -> None:
        """Takes a sample where there is none, or where it is none any more."""
        if self._passed >= _ALL or before != self._before:
            self._sample, self._before, self._passed = _sample(connection, self._at, blobs, before, share), before, 0

    def _go_on(self, connection: sqlite3.Connection, stop: int, *, found: bool) -> None:
        """Moves the hand. What was passed in vain is not written down: on a full disk that might fail."""
        passed = (stop - self._at) % _ALL or _ALL
        self._passed += passed
        if found:
            self._in_vain = 0
            connection.execute(_MOVE_HAND, (stop % _ALL,))
        else:
            self._at = stop % _ALL
            self._in_vain += passed if self._sample.cutoff == math.inf else 0
        self.exhausted = self._in_vain >= _ALL


class _Sample(NamedTuple):
    longest: float  # when the longest unused of it was used; infinite where nothing of it may go
    cutoff: float  # what was used before may go now; infinite where all that may go does
    share: float  # of the blobs that were used before that


def _held(connection: sqlite3.Connection) -> tuple[int, int]:
    """The number of blobs and their bytes."""
    _, _, blobs, size = connection.execute(database.TOTALS).fetchone()
    return blobs, size


def _hand(connection: sqlite3.Connection) -> int:
    row = connection.execute(_HAND).fetchone()
    return int(row[0]) % _ALL if row else 0


def _next(connection: sqlite3.Connection, start: int) -> int:
    """Where the next blob is from there on; the beginning of all where there is none."""
    for at in (start, *range(start - start % _SPAN + _SPAN, _ALL, _SPAN)):
        algorithm, first, _ = _range(at, 0).bounds
        for (name,) in connection.execute(_FIRST, (algorithm, first)):
            return int(at - at % _SPAN + int.from_bytes(name[:_BYTES], "big"))
    return 0


def _range(start: int, width: int) -> Range:
    """So many digests from there on, or as many as this algorithm has left."""
    which, first = divmod(start, _SPAN)
    return Range(_ALGORITHMS[which], first, min(first + width, _SPAN))


def _as_needed(rows: Sequence[tuple[str, bytes, int]], need: int) -> list[Victim]:
    """As many as have `need` bytes."""
    victims = []
    for row in rows:
        victims.append(Victim(*row))
        need -= row[2]
        if need <= 0:
            break
    return victims


def _sample(connection: sqlite3.Connection, hand: int, blobs: int, before: float, share: float) -> _Sample:
    """Samples those that the hand meets next, for the share that is to go."""
    width = min(_SPAN * FEW // blobs, _SPAN)
    starts = [hand, *(start for start in range(0, _ALL, _SPAN) if start != hand - hand % _SPAN)]
    areas = [_range(start, width) for start in starts]
    if missing := width - (areas[0].last - areas[0].first):
        areas.append(Range(areas[0].algorithm, 0, missing))
    uses = [used for area in areas for (used,) in connection.execute(_SAMPLE, area.bounds)]
    may_go = sorted(used for used in uses if used is not None and used < before)
    count = math.ceil(len(uses) * share)
    if not 0 < count <= len(may_go):
        return _Sample(may_go[0] if may_go else math.inf, math.inf, 0)
    return _Sample(may_go[0], math.nextafter(may_go[count - 1], math.inf), share)


def _rewind(connection: sqlite3.Connection, before: float, areas: Sequence[Range]) -> None:
    now = max(time.time(), before)
    for area in areas:
        connection.execute(_REWIND, (now, *area.bounds, now + AHEAD_SECONDS))
