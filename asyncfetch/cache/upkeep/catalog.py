"""The index as commands read it: in order, a page at a time, so that neither memory nor a job's writes are held up."""

from __future__ import annotations

import math
from collections import Counter
from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from asyncfetch.cache import strikes, tally
from asyncfetch.cache.records import CacheStats, Known, Ref, RefKey
from asyncfetch.cache.sums import STALE
from asyncfetch.cache.tally import Looked
from asyncfetch.cache.upkeep.selection import Place, Selection
from asyncfetch.settings import Digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Container, Iterator, Sequence

    from asyncfetch.cache.below import Below
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.strikes import Strikes

PAGE = 1000  # refs; 5 ms, as a look-up of each with its blob takes 4 us

_NEXT_PLACE = """
SELECT endpoint, container FROM refs WHERE (endpoint, container) > (?, ?) ORDER BY endpoint, container LIMIT 1
"""
_COLUMNS = """
refs.algorithm, key, version, refs.size, etag, refs.digest, validated, last_modified, used, epoch, pinned
FROM refs LEFT JOIN blobs ON blobs.algorithm = refs.algorithm AND blobs.digest = refs.digest
"""
_REFS = f"""
SELECT {_COLUMNS} WHERE endpoint = ? AND container = ? AND (key, version, refs.algorithm) > (?, ?, ?)
ORDER BY key, version, refs.algorithm LIMIT ?
"""
_BLOBS = """
SELECT digest, size, used, epoch, pinned FROM blobs WHERE algorithm = ? AND digest >= ? AND digest < ? ORDER BY digest
"""
_BLOB = "SELECT digest, size, used, epoch, pinned FROM blobs WHERE algorithm = ? AND digest = ?"
_UNUSED = """
SELECT digest, size, used, epoch, pinned FROM blobs
WHERE algorithm = ? AND digest >= ? AND digest < ? AND pinned = 0 AND used < ? ORDER BY digest
"""
_USES = "SELECT used, size FROM blobs WHERE pinned = 0 AND used < ? ORDER BY used"
_ODD_REFS = """
SELECT endpoint, container, key, version, refs.algorithm, refs.digest, refs.size, blobs.size FROM refs
LEFT JOIN blobs ON blobs.algorithm = refs.algorithm AND blobs.digest = refs.digest
WHERE {}blobs.size IS NOT refs.size AND (endpoint, container, key, version, refs.algorithm) > (?, ?, ?, ?, ?)
ORDER BY endpoint, container, key, version, refs.algorithm LIMIT ?
"""
_SUMS = """
SELECT (SELECT count(*) FROM refs), (SELECT coalesce(sum(size), 0) FROM refs),
(SELECT count(*) FROM blobs), (SELECT coalesce(sum(size), 0) FROM blobs), refs, ref_bytes, blobs, blob_bytes FROM totals
"""
_BY_PLACE = "SELECT endpoint, container, count(*), sum(size) FROM refs GROUP BY endpoint, container"
_BY_PREFIX = "SELECT {}, count(*), sum(size) FROM refs WHERE endpoint = ? AND container = ? GROUP BY 1 ORDER BY 1"

_Values = tuple[Any, ...]  # of a row, of the types that its columns have


class Listed(NamedTuple):
    """One ref, with what is known of its blob."""

    key: RefKey
    known: Known

    @property
    def place(self) -> Place:
        """Where it was fetched from."""
        return Place(self.key.endpoint, self.key.container)


class BlobRow(NamedTuple):
    """What the index says of a blob."""

    digest: str
    size: int  # bytes
    used: float  # seconds since 1970
    epoch: int
    pinned: int


class OddRef(NamedTuple):
    """A ref that no look-up can hit: its blob is not there (`blob_size` None), or has another size."""

    key: RefKey
    digest: str
    size: int  # bytes
    blob_size: int | None


class Pin(NamedTuple):
    """What begins with `prefix` at this place is not evicted."""

    endpoint: str
    container: str
    prefix: str

    @property
    def place(self) -> Place:
        """Where it holds."""
        return Place(self.endpoint, self.container)


class Group(NamedTuple):
    """The refs of one place whose keys begin alike; `looked` is None where their look-ups are not known."""

    place: Place
    prefix: str
    objects: int
    object_bytes: int
    looked: Looked | None = None


class Catalog:
    """Reads of an index. All raise `CacheUnusable` when it cannot be read.

    What is read in pages is not of one moment: what others add or remove meanwhile may be in it or not.
    """

    def __init__(self, index: Index | Below) -> None:
        self._index = index

    def rows(self, statement: str, row: _Values = ()) -> list[_Values]:
        """All that a statement selects."""
        return self._index.ask(lambda connection: connection.execute(statement, row).fetchall())

    def places(self) -> Iterator[Place]:
        """The buckets and hosts that have refs, in order; a step for each, however many refs it has."""
        last = Place("", "")  # before the first: no container is without a name
        while (row := self._one(_NEXT_PLACE, last)) is not None:
            last = Place(*row)
            yield last

    def refs(self, selection: Selection) -> Iterator[list[Listed]]:
        """The refs that are meant, in the order of their places and keys, in pages; no page is empty."""
        for place in self.places():
            if selection.admits(place):
                yield from self._refs_of(place, selection)

    def blobs(self, algorithm: str, shard: str) -> list[BlobRow]:
        """The blobs whose digests begin with the two hexadecimal digits of a shard."""
        return [_blob(algorithm, row) for row in self.rows(_BLOBS, (algorithm, *_bounds(int(shard, 16))))]

    def blob(self, digest: str) -> BlobRow | None:
        """What is known of one blob."""
        algorithm, _, name = digest.partition(":")
        row = self._one(_BLOB, (algorithm, bytes.fromhex(name)))
        return None if row is None else _blob(algorithm, row)

    def unused(self, before: float) -> Iterator[list[BlobRow]]:
        """The blobs that are not pinned and were last used before a time, in the order of their digests, in pages."""
        for algorithm in get_args(Digest):
            for shard in range(256):
                if rows := self.rows(_UNUSED, (algorithm, *_bounds(shard), before)):
                    yield [_blob(algorithm, row) for row in rows]

    def longest_unused(
        self, before: float, size: int, *, others: Sequence[tuple[float, int]], but: Collection[str]
    ) -> tuple[float, int]:
        """Until when that was used of which `size` bytes may go: a time, and the bytes to go of what was used then.

        What is pinned counts not, nor what was used at `before` or later, nor the digests in `but`; `others`, of which
        times and bytes are given, do. Infinite where all that has not so many bytes. 1 s for a million blobs.
        """
        passed = Counter((one.used, one.size) for one in map(self.blob, but) if one is not None)

        def read(connection: sqlite3.Connection) -> tuple[float, int]:
            last, at_last, missing = -math.inf, size, size
            left = passed.copy()
            for used, one in merge(connection.execute(_USES, (before,)), sorted(others)):
                if left and left[used, one] > 0:
                    left[used, one] -= 1
                    continue
                if used != last:
                    last, at_last = used, missing
                missing -= one
                if missing <= 0:
                    return last, at_last
            return math.inf, 0

        return self._index.ask(read)

    def odd_refs(self, gone: Container[bytes] | None = None) -> Iterator[list[OddRef]]:
        """The refs that no look-up can hit, in pages; 3 s for a million refs.

        With `gone`, digests, only refs to those: 1.2 s, for then a blob is looked for behind one ref in so many.
        """
        statement = _ODD_REFS.format("" if gone is None else "gone(refs.digest) AND ")

        def read(connection: sqlite3.Connection) -> list[_Values]:
            if gone is not None:
                connection.create_function("gone", 1, gone.__contains__, deterministic=True)
            return connection.execute(statement, (*after, PAGE)).fetchall()

        after: tuple[str, ...] = ("",) * 5
        while rows := self._index.ask(read):
            yield [
                OddRef(RefKey(*key), f"{algorithm}:{digest.hex()}", size, blob_size)
                for *key, algorithm, digest, size, blob_size in rows
            ]
            after = rows[-1][:5]

    def stale(self) -> int | None:
        """How many blobs went whose objects may not be forgotten; None where nobody has counted them from the first."""
        return self.counters().get(STALE)

    def by_place(self) -> list[Group]:
        """The refs of each bucket and host, and its look-ups, counted; 0.1 s for a million.

        One that was looked for and of which nothing is there is among them.
        """
        looked = tally.by_place(self.counters())
        groups = {tuple(row[:2]): Group(Place(*row[:2]), "", *row[2:]) for row in self.rows(_BY_PLACE)}
        return [
            groups.get(place, Group(Place(*place), "", 0, 0))._replace(looked=looked.get(place, Looked()))
            for place in sorted(groups.keys() | looked.keys())
        ]

    def by_prefix(self, depth: int) -> Iterator[Group]:
        """The refs of each prefix of as many slashes as `depth`, or fewer where a key has no more, and its look-ups.

        One that was looked for and of which nothing is there is among them. Half a second for a million with `depth` 2,
        and twice as long with two more: 8 is enough.
        """
        looked = tally.by_prefix(self.counters(), depth)
        statement = _BY_PREFIX.format(_folder(depth))
        places = {*self.places(), *(Place(endpoint, container) for endpoint, container, _ in looked)}
        for place in sorted(places):  # each by itself: all at once would have to be sorted, and take twice as long
            groups = {prefix: Group(place, prefix, *counts) for prefix, *counts in self.rows(statement, place)}
            empty = {prefix: Group(place, prefix, 0, 0) for *of, prefix in looked if of == [*place]}
            for prefix, group in sorted((empty | groups).items()):
                yield group._replace(looked=looked.get((*place, prefix)))

    def pins(self) -> list[Pin]:
        """All pins, in order."""
        return [Pin(*row) for row in self.rows("SELECT endpoint, container, prefix FROM pins ORDER BY 1, 2, 3")]

    def strikes(self) -> dict[str, Strikes]:
        """The bytes that have killed who used them, by digest, the longest ago first."""
        return self._index.ask(strikes.read)

    def counters(self) -> dict[str, int]:
        """What all jobs together have counted since the index was begun."""
        return dict(self.rows("SELECT name, value FROM counters"))

    def sums(self) -> tuple[CacheStats, CacheStats]:
        """What the rows add up to, and what the index believes that they do, at one moment."""
        (row,) = self.rows(_SUMS)
        return CacheStats(*row[:4]), CacheStats(*row[4:])

    def _refs_of(self, place: Place, selection: Selection) -> Iterator[list[Listed]]:
        after: tuple[str, str, str] | None = (selection.key, "", "")
        while after is not None:
            rows = self.rows(_REFS, (*place, *after, PAGE))
            page = [_listed(place, row) for row in rows]
            meant = [listed for listed in page if selection.covers(listed.key)]
            if meant:
                yield meant
            more = len(rows) == PAGE and selection.begins(page[-1].key.key)
            after = (rows[-1][1], rows[-1][2], rows[-1][0]) if more else None

    def _one(self, statement: str, row: _Values) -> _Values | None:
        return next(iter(self.rows(statement, row)), None)


def _bounds(shard: int) -> tuple[bytes, bytes]:
    """The first digest of a shard, and what comes after its last."""
    return bytes([shard]), bytes([shard + 1]) if shard < 255 else b"\xff" * 33


def _listed(place: Place, row: _Values) -> Listed:
    algorithm, key, version, size, etag, digest, validated, last_modified, *blob = row
    ref = Ref(size, etag, f"{algorithm}:{digest.hex()}", validated, last_modified)
    return Listed(RefKey(*place, key, version), Known(ref, *blob))


def _blob(algorithm: str, row: Sequence[Any]) -> BlobRow:
    digest, *rest = row
    return BlobRow(f"{algorithm}:{digest.hex()}", *rest)


def _folder(depth: int) -> str:
    """SQL for a key up to its slash number `depth`, or up to its last one where it has fewer."""
    end = "instr(key, '/')"
    for _ in range(depth - 1):
        end = f"({end} + instr(substr(key, {end} + 1), '/'))"
    return f"substr(key, 1, {end})"
