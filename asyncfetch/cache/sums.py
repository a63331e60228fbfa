"""The index's own sums: rows that come, and blobs that go, added up once for each batch.

They change in the transaction that changes the rows, so they hold whoever is killed when. What a statement does to a
row that was there already, triggers tell them (see database).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from asyncfetch.cache.changes import BlobName

_ADD = """
UPDATE totals SET refs = refs + ?, ref_bytes = ref_bytes + ?, blobs = blobs + ?, blob_bytes = blob_bytes + ?
"""
_DELETE = "DELETE FROM blobs WHERE algorithm = ? AND digest = ?"
_DELETE_UNKNOWN = f"{_DELETE} RETURNING size"


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
    sizes = [row[0] for name in names for row in connection.execute(_DELETE_UNKNOWN, name)]
    _forget(connection, sizes)
    return len(sizes)


def drop_known_blobs(connection: sqlite3.Connection, names: Sequence[BlobName], sizes: Sequence[int]) -> None:
    """Deletes the rows of blobs that this transaction has seen, of these sizes: a sixth of the work less."""
    connection.executemany(_DELETE, names)
    _forget(connection, sizes)


def _forget(connection: sqlite3.Connection, sizes: Sequence[int]) -> None:
    if sizes:
        connection.execute(_ADD, (0, 0, -len(sizes), -sum(sizes)))
