"""The database of one generation of the index: how it is made, opened and found to be whole."""

from __future__ import annotations

import sqlite3
from urllib.parse import quote

from asyncfetch.cache import files
from asyncfetch.settings import MIB

SCHEMA = 1  # PRAGMA user_version
BUSY_SECONDS = 2.0  # a batch holds the write lock for milliseconds: whoever waits longer meets a process that is stuck
_CHECK_BYTES = 256 * MIB  # an index up to this size (1.5 million refs) is checked whole at open: 0.9 ms/MiB measured

_CREATE = """
CREATE TABLE refs (
    endpoint TEXT NOT NULL, container TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, algorithm TEXT NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT, last_modified REAL, validated REAL NOT NULL,
    PRIMARY KEY (endpoint, container, key, version, algorithm)
) WITHOUT ROWID
"""

# Result codes (sqlite.org/rescode.html) that say: this database will not get better.
BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_MISMATCH,
}


def connect(path: str, *, create: bool = False) -> sqlite3.Connection:
    """Opens a database, whole and of this schema. Raises `sqlite3.Error` or `ValueError` when it is not."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={'rwc' if create else 'rw'}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # opened where the cache is, then used by its thread alone
    )
    try:
        # NORMAL: a power loss may take the last batches, never the database (sqlite.org/wal.html). Not while it is made
        # anew, which takes several fsyncs, 20 ms on a disk, for what could as well be made again.
        connection.execute(f"PRAGMA synchronous = {'OFF' if create else 'NORMAL'}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.NotSupportedError(
                f"the file system cannot hold an index: SQLite offers journal mode {mode!r}, not WAL"
            )
        if create:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
            connection.execute("PRAGMA synchronous = NORMAL")
        else:
            _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def leave(connection: sqlite3.Connection) -> None:
    """Ends a transaction that was not committed; SQLite itself ends it at some failures."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _check(connection: sqlite3.Connection, path: str) -> None:
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema != SCHEMA:
        raise ValueError(f"schema {schema}, this version of asyncfetch uses {SCHEMA}")
    connection.execute("SELECT * FROM refs LIMIT 1").fetchone()
    if (files.size_of(path) or 0) <= _CHECK_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise ValueError(verdict)
