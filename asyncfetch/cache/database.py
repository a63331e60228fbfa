"""The database of one generation of the index: how it is made, opened and found to be whole."""

from __future__ import annotations

import contextlib
import sqlite3
from urllib.parse import quote

from asyncfetch.cache import files
from asyncfetch.settings import MIB

SCHEMA = 6  # PRAGMA user_version
BUSY_SECONDS = 2.0  # a batch holds the write lock for milliseconds: whoever waits longer meets a process that is stuck
# An index up to this size (270,000 objects) is checked whole at open, for 2.7 ms of CPU a MiB, 0.2 s at most. That of a
# million objects would take 0.7 s of each process and each command.
_CHECK_BYTES = 64 * MIB

# What a row costs, in batches of 64 and 200,000 rows: refs alone 2.5 us; blobs and the sums 10 more, most of
# them for keys that come in no order. A look-up with its blob's row takes 4.1 us, without 2.4.
_CREATE = """
CREATE TABLE refs (
    endpoint TEXT NOT NULL, container TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, algorithm TEXT NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT, last_modified REAL, validated REAL NOT NULL,
    PRIMARY KEY (endpoint, container, key, version, algorithm)
) WITHOUT ROWID;

-- `used`: when a job last asked for it; `epoch`: see epochs; `pinned`: 1 where a pin covers one of its names; `header`:
-- what that of its image says (see headers), if it is one and was decoded. In a table of its own it would cost each
-- look-up as much again as the blob's row does.
CREATE TABLE blobs (
    algorithm TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, used REAL NOT NULL, epoch INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0, header INTEGER,
    PRIMARY KEY (algorithm, digest)
) WITHOUT ROWID;

-- Rows that come, and blobs that go, are counted by who inserts and deletes them (see sums): in triggers that was a
-- quarter of an insert, and 3 us of the 19 that the row of a blob takes to go. What is rare is counted by triggers.
CREATE TABLE totals (refs INTEGER, ref_bytes INTEGER, blobs INTEGER, blob_bytes INTEGER);
INSERT INTO totals VALUES (0, 0, 0, 0);
CREATE TRIGGER ref_removed AFTER DELETE ON refs
BEGIN UPDATE totals SET refs = refs - 1, ref_bytes = ref_bytes - old.size; END;
CREATE TRIGGER ref_resized AFTER UPDATE OF size ON refs WHEN new.size <> old.size
BEGIN UPDATE totals SET ref_bytes = ref_bytes + new.size - old.size; END;
CREATE TRIGGER blob_resized AFTER UPDATE OF size ON blobs WHEN new.size <> old.size
BEGIN UPDATE totals SET blob_bytes = blob_bytes + new.size - old.size; END;

-- Blobs stored since the last sync belong to the highest epoch, of the boot that it began under. Who syncs begins the
-- next one first, and marks the one before as proven afterwards: one row for all its blobs. 0 is proven; -1 is no
-- epoch: bytes that were found lying there.
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, boot TEXT NOT NULL, proven INTEGER NOT NULL DEFAULT 0);

CREATE TABLE pins (
    endpoint TEXT NOT NULL, container TEXT NOT NULL, prefix TEXT NOT NULL, PRIMARY KEY (endpoint, container, prefix)
) WITHOUT ROWID;
-- A batch tells of its blobs before it tells of their names. While there are no pins this takes 0.2 us a ref.
CREATE TRIGGER ref_added_under_pin AFTER INSERT ON refs WHEN EXISTS (SELECT 1 FROM pins)
BEGIN UPDATE blobs SET pinned = 1 WHERE algorithm = new.algorithm AND digest = new.digest AND pinned = 0 AND EXISTS (
    SELECT 1 FROM pins WHERE endpoint = new.endpoint AND container = new.container
    AND substr(new.key, 1, length(prefix)) = prefix
); END;
CREATE TRIGGER ref_changed_under_pin AFTER UPDATE OF digest ON refs WHEN EXISTS (SELECT 1 FROM pins)
BEGIN UPDATE blobs SET pinned = 1 WHERE algorithm = new.algorithm AND digest = new.digest AND pinned = 0 AND EXISTS (
    SELECT 1 FROM pins WHERE endpoint = new.endpoint AND container = new.container
    AND substr(new.key, 1, length(prefix)) = prefix
); END;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('stale', 0); -- see sums
CREATE TABLE claims (
    endpoint TEXT NOT NULL, container TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, algorithm TEXT NOT NULL,
    owner TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (endpoint, container, key, version, algorithm)
) WITHOUT ROWID;
CREATE TABLE strikes (
    algorithm TEXT NOT NULL, digest BLOB NOT NULL, count INTEGER NOT NULL, why TEXT NOT NULL, last REAL NOT NULL,
    PRIMARY KEY (algorithm, digest)
) WITHOUT ROWID;
"""

# Columns, so that a database whose tables are not these is noticed when it is opened and not amid a batch.
_TABLES = {
    "refs": "endpoint, container, key, version, algorithm, digest, size, etag, last_modified, validated",
    "blobs": "algorithm, digest, size, used, epoch, pinned, header",
    "totals": "refs, ref_bytes, blobs, blob_bytes",
    "epochs": "epoch, boot, proven",
    "pins": "endpoint, container, prefix",
    "counters": "name, value",
    "claims": "endpoint, container, key, version, algorithm, owner, since",
    "strikes": "algorithm, digest, count, why, last",
}

TOTALS = "SELECT refs, ref_bytes, blobs, blob_bytes FROM totals"
_LAST_BOOT = "SELECT boot FROM epochs ORDER BY epoch DESC LIMIT 1"

# Result codes (sqlite.org/rescode.html) that say: this database will not get better.
BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_MISMATCH,
}


class OtherSchema(ValueError):
    """Raised when a database was made by another version of asyncfetch."""


def connect(path: str, *, create: bool = False) -> sqlite3.Connection:
    """Opens a database, whole and of this schema. Raises `sqlite3.Error` or `ValueError` when it is not."""
    if create:
        files.close(files.create(path))  # by the umask: SQLite itself would keep it from a group that shares the cache
    connection = _open(path, "mode=rw")
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
            connection.executescript(f"BEGIN IMMEDIATE; {_CREATE} PRAGMA user_version = {SCHEMA}; COMMIT")
            connection.execute("PRAGMA synchronous = NORMAL")
        else:
            _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def copy(source: sqlite3.Connection, path: str, scratch: str) -> sqlite3.Connection:
    """Opens a new database with all that `source` held at one moment, though others may have that locked for writing.

    It is made as `scratch`, which goes with this process should that be killed over it, and whole when it is at `path`.
    Raises `sqlite3.Error` or `ValueError`. Where `source` cannot even be read for a lock, the new one is empty.
    """
    try:
        # Held from here on: a backup (sqlite.org/backup.html) waits without end for one who keeps it from reading.
        source.execute("BEGIN")
        source.execute(TOTALS).fetchone()
    except sqlite3.OperationalError as error:
        leave(source)
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return connect(path, create=True)
    try:
        files.close(files.create(scratch))
        with contextlib.closing(_open(scratch, "mode=rw")) as target:
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target)
        files.rename(scratch, path)
        return connect(path)
    except BaseException:
        files.remove(scratch)
        files.remove(path)
        raise
    finally:
        leave(source)


def lock(path: str) -> sqlite3.Connection:
    """Keeps others from writing until it is closed. Raises `sqlite3.Error`."""
    connection = _open(path, "mode=rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except BaseException:
        connection.close()
        raise
    return connection


def unfolded(connection: sqlite3.Connection) -> int:
    """Folds as much of the log into the database as its readers allow, and gives the bytes that are left of it."""
    _, pages, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - folded) * size)


def connect_read_only(path: str, *, log: bool) -> sqlite3.Connection:
    """Opens a database without a write of any kind. Raises as `connect`.

    With a `log` that may not be folded in yet it is read as its writers do, if its files let us. Else it is taken for
    immutable (sqlite.org/uri.html), which needs no locks, and no log is read.
    """
    if log:
        with contextlib.suppress(sqlite3.OperationalError):
            return _checked(_open(path, "mode=ro"), path)
    return _checked(_open(path, "mode=ro&immutable=1"), path)


def begin_epoch(connection: sqlite3.Connection, boot: str) -> None:
    """Sees to it that blobs stored from now on belong to an epoch of this boot.

    Where that cannot be written now, they belong to an older boot's, and are trusted less than they could be.
    """
    if connection.execute(_LAST_BOOT).fetchone() != (boot,):
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("INSERT INTO epochs (boot) VALUES (?)", (boot,))


def leave(connection: sqlite3.Connection) -> None:
    """Ends a transaction that was not committed; SQLite itself ends it at some failures."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _open(path: str, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(path)}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # opened where the cache is, then used by its thread alone
    )


def _checked(connection: sqlite3.Connection, path: str) -> sqlite3.Connection:
    try:
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: str) -> None:
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema != SCHEMA:
        raise OtherSchema(f"schema {schema}, this version of asyncfetch uses {SCHEMA}")
    for table, columns in _TABLES.items():
        connection.execute(f"SELECT {columns} FROM {table} LIMIT 1").fetchone()  # noqa: S608
    if (files.size_of(path) or 0) <= _CHECK_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise ValueError(verdict)
