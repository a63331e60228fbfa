"""Epochs: what was stored between two syncs, and whether it would survive a loss of power.

Blobs that are stored belong to the highest epoch. Who syncs begins the next one first and proves those before it
afterwards, so whatever was told to the index by then was on its way to the disk before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

_TRUSTED = "SELECT 1 FROM epochs WHERE epoch = ? AND (proven OR boot = ?)"
# By the primary key, so that it reads a 256th of the table: 0.4 ms of a million rows.
_UNSYNCED = """
SELECT algorithm, digest FROM blobs WHERE algorithm IN ('blake3', 'sha256') AND digest >= ? AND digest < ?
AND epoch IN (SELECT epoch FROM epochs WHERE proven = 0 AND boot = ? AND epoch BETWEEN ? AND ?)
"""


class Closed(NamedTuple):
    """Epochs to be synced, by their numbers, of one generation of the index."""

    first: int
    last: int
    generation: str


def is_trusted(connection: sqlite3.Connection, epoch: int | None, boot: str) -> bool:
    """Whether the blobs of an epoch were synced, or stored under this boot."""
    return connection.execute(_TRUSTED, (epoch, boot)).fetchone() is not None


def close(connection: sqlite3.Connection, boot: str, generation: str) -> Closed:
    """Begins the next epoch, and gives those of this boot that are closed and not proven."""
    (open_now,) = connection.execute("INSERT INTO epochs (boot) VALUES (?) RETURNING epoch", (boot,)).fetchone()
    (first,) = connection.execute("SELECT min(epoch) FROM epochs WHERE proven = 0 AND boot = ?", (boot,)).fetchone()
    return Closed(first, open_now - 1, generation)


def unsynced(connection: sqlite3.Connection, boot: str, closed: Closed, byte: int) -> list[str]:
    """The blobs of closed epochs whose digest begins with a byte."""
    end = bytes([byte + 1]) if byte < 255 else bytes([255] * 33)
    rows = connection.execute(_UNSYNCED, (bytes([byte]), end, boot, closed.first, closed.last))
    return [f"{algorithm}:{digest.hex()}" for algorithm, digest in rows]


def prove(connection: sqlite3.Connection, boot: str, closed: Closed) -> None:
    """Takes the blobs of closed epochs as synced."""
    connection.execute(
        "UPDATE epochs SET proven = 1 WHERE boot = ? AND epoch BETWEEN ? AND ?", (boot, closed.first, closed.last)
    )
