"""The index's own sums: rows that come, and blobs that go, added up once for each batch.

They change in the transaction that changes the rows, so they hold whoever is killed when. What a statement does to a
row that was there already, triggers tell them (see database).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from asyncfetch.cache.changes import BlobName, Row

_ADD = """
UPDATE totals SET refs = refs + ?, ref_bytes = ref_bytes + ?, blobs = blobs + ?, blob_bytes = blob_bytes + ?
"""
_DELETE = "DELETE FROM blobs WHERE algorithm = ? AND digest IN ({})"
_ROWS = "SELECT digest, size, used, pinned FROM blobs WHERE algorithm = ? AND digest IN ({})"

# The counter of blobs that went whose objects may not be forgotten: while there are none, nobody has to look for any
# among all objects. An index that did not count them from the first has no such counter.
STALE = "stale"
_LEAVE_STALE = f"UPDATE counters SET value = value + ? WHERE name = '{STALE}'"  # noqa: S608

_MOST_NAMES = 500  # in one statement: SQLite before 3.32 takes 999 values (sqlite.org/limits.html)


class Held(NamedTuple):
    """What the index says of a blob."""

    size: int  # bytes
    used: float  # seconds since 1970
    pinned: int


class Sums:
    """What a batch adds to the sums."""

    def __init__(self) -> None:
        self.refs = self.ref_bytes = self.blobs = self.blob_bytes = 0

    def add(self, connection: sqlite3.Connection) -> None:
        """Has the index know. Raises `sqlite3.Error`."""
        more = self.refs, self.ref_bytes, self.blobs, self.blob_bytes
        if any(more):
            connection.execute(_ADD, more)


def drop_blobs(connection: sqlite3.Connection, names: Sequence[BlobName]) -> int:
    """Deletes the rows of blobs, of which some may not be there, within a transaction. Returns how many there were."""
    sizes = [row.size for row in rows_of(names, lambda *given: connection.execute(*given).fetchall()).values()]
    drop_known_blobs(connection, names, sizes)
    return len(sizes)


def rows_of(names: Sequence[BlobName], select: Callable[[str, Row], list[tuple[Any, ...]]]) -> dict[BlobName, Held]:
    """What the index says of those blobs that it knows: a statement for hundreds, as each costs what ten rows do."""
    found = {}
    for algorithm, digests in _by_algorithm(names):
        statement = _ROWS.format(", ".join("?" * len(digests)))
        found.update({(algorithm, name): Held(*row) for name, *row in select(statement, (algorithm, *digests))})
    return found


def drop_known_blobs(connection: sqlite3.Connection, names: Sequence[BlobName], sizes: Sequence[int]) -> None:
    """Deletes the rows of blobs, of which those that are there have these sizes."""
    for algorithm, digests in _by_algorithm(names):
        marks = ", ".join("?" * len(digests))
        connection.execute(_DELETE.format(marks), (algorithm, *digests))
    if sizes:
        connection.execute(_ADD, (0, 0, -len(sizes), -sum(sizes)))
        connection.execute(_LEAVE_STALE, (len(sizes),))


def _by_algorithm(names: Sequence[BlobName]) -> Iterator[tuple[str, list[bytes]]]:
    """As many names as one statement takes, of one algorithm."""
    by_algorithm: dict[str, list[bytes]] = {}
    for algorithm, name in names:
        by_algorithm.setdefault(algorithm, []).append(name)
    for algorithm, digests in by_algorithm.items():
        for start in range(0, len(digests), _MOST_NAMES):
            yield algorithm, digests[start : start + _MOST_NAMES]
