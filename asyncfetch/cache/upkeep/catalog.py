"""The index as commands read it: in order, a page at a time, so that neither memory nor a job's writes are held up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.cache.records import CacheStats, Known, Ref, RefKey
from asyncfetch.cache.upkeep.selection import Place, Selection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.cache.index import Index

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
_SUMS = """
SELECT (SELECT count(*) FROM refs), (SELECT coalesce(sum(size), 0) FROM refs),
(SELECT count(*) FROM blobs), (SELECT coalesce(sum(size), 0) FROM blobs), refs, ref_bytes, blobs, blob_bytes FROM totals
"""
_BY_PLACE = "SELECT endpoint, container, count(*), sum(size) FROM refs GROUP BY endpoint, container"
_KEYS = "SELECT key, size FROM refs WHERE endpoint = ? AND container = ? ORDER BY key"

_Values = tuple[Any, ...]  # of a row, of the types that its columns have


class Listed(NamedTuple):
    """One ref, with what is known of its blob."""

    key: RefKey
    known: Known


class BlobRow(NamedTuple):
    """What the index says of a blob."""

    digest: str
    size: int  # bytes
    used: float  # seconds since 1970
    epoch: int
    pinned: int


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
    """The refs of one place whose keys begin alike."""

    place: Place
    prefix: str
    objects: int
    object_bytes: int


class Catalog:
    """Reads of an index. All raise `CacheUnusable` when it cannot be read.

    What is read in pages is not of one moment: what others add or remove meanwhile may be in it or not.
    """

    def __init__(self, index: Index) -> None:
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
        first = int(shard, 16)
        bounds = bytes([first]), bytes([first + 1]) if first < 255 else b"\xff" * 33
        return [_blob(algorithm, row) for row in self.rows(_BLOBS, (algorithm, *bounds))]

    def blob(self, digest: str) -> BlobRow | None:
        """What is known of one blob."""
        algorithm, _, name = digest.partition(":")
        row = self._one(_BLOB, (algorithm, bytes.fromhex(name)))
        return None if row is None else _blob(algorithm, row)

    def by_place(self) -> list[Group]:
        """The refs of each bucket and host, counted; 0.1 s for a million."""
        return [Group(Place(*row[:2]), "", *row[2:]) for row in self.rows(_BY_PLACE)]

    def by_prefix(self, depth: int) -> Iterator[Group]:
        """The refs of each prefix of as many slashes as `depth`, or fewer where a key has no more; 0.9 s for a million.

        SQLite could group them, if slower where there is more than one slash.
        """
        for place in self.places():
            sums: dict[str, list[int]] = {}
            for key, size in self.rows(_KEYS, place):
                count = sums.setdefault(_folder(key, depth), [0, 0])
                count[0] += 1
                count[1] += size
            yield from (Group(place, prefix, *count) for prefix, count in sorted(sums.items()))

    def pins(self) -> list[Pin]:
        """All pins, in order."""
        return [Pin(*row) for row in self.rows("SELECT endpoint, container, prefix FROM pins ORDER BY 1, 2, 3")]

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


def _listed(place: Place, row: _Values) -> Listed:
    algorithm, key, version, size, etag, digest, validated, last_modified, *blob = row
    ref = Ref(size, etag, f"{algorithm}:{digest.hex()}", validated, last_modified)
    return Listed(RefKey(*place, key, version), Known(ref, *blob))


def _blob(algorithm: str, row: _Values) -> BlobRow:
    digest, *rest = row
    return BlobRow(f"{algorithm}:{digest.hex()}", *rest)


def _folder(key: str, depth: int) -> str:
    """The key up to its slash number `depth`, or up to its last one where it has fewer."""
    at = 0
    for _ in range(depth):
        at, before = key.find("/", at) + 1, at
        if not at:
            return key[:before]
    return key[:at]
