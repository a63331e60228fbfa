"""A cache that is only read: prepared by somebody else, on a medium that cannot be written, or not to be touched.

Its index is opened without a write of any kind. One that was closed for this by `seal`, or that nobody has open, is
opened as immutable, without locks; while a writer has it open, its log is read too, as far as its files let us.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

from asyncfetch.cache import database, files
from asyncfetch.cache.blobs import path_of
from asyncfetch.cache.boot import boot_id
from asyncfetch.cache.changes import split
from asyncfetch.cache.directory import layout_of, refuse_network
from asyncfetch.cache.failures import explain
from asyncfetch.cache.follower import RETRY_SECONDS, is_broken
from asyncfetch.cache.generations import database_of
from asyncfetch.cache.known import rows
from asyncfetch.cache.records import CacheStats
from asyncfetch.errors import CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from asyncfetch.cache.records import Known, RefKey
    from asyncfetch.settings import Digest

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_CLOSED = "CLOSED"  # beside CURRENT, and of the same content where that index was closed to be read
_DENIED = (errno.EACCES, errno.EPERM)
_SYNCED = "SELECT algorithm, digest FROM blobs JOIN epochs USING (epoch) WHERE proven = 0 AND boot = ?"


_PROVEN = """
SELECT 1 FROM blobs LEFT JOIN epochs USING (epoch)
WHERE algorithm = ? AND digest = ? AND (blobs.epoch = 0 OR proven OR boot = ?)
"""


class Below:
    """The cache in a directory, for one thread at a time. What it cannot read it does not have."""

    def __init__(self, directory: Path, algorithm: Digest) -> None:
        """Opens it. Raises `CacheUnusable` where there is none, or it is in use on a network file system."""
        layout = layout_of(str(directory))
        self._index, self._algorithm, self._blobs = layout.index, algorithm, layout.blobs
        self._boot = boot_id()
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[object, ...] | None = None
        self._tried_at = math.inf  # when what was seen could not be opened, and may be one day
        if not is_closed(directory):
            refuse_network(str(directory))
        try:
            self.follow()
        except OSError as error:
            raise explain(error, layout.index) from error
        if self._connection is None:
            raise CacheUnusable(
                f"{directory}: there is no cache that could be read", remedy="Point cache_dir at one, or write it."
            )

    def follow(self) -> None:
        """Opens what is there now if that is not what was, or could not be opened a while ago."""
        named = files.read(f"{self._index}/CURRENT", 64)
        log = False
        with contextlib.suppress(ValueError):  # what names no generation is told below, once
            log = named is not None and bool(files.size_of(f"{database_of(self._index, named)}-wal"))
        seen = named, log
        if (again := seen == self._seen) and time.monotonic() - self._tried_at < RETRY_SECONDS:
            return
        self.close()
        self._seen, self._tried_at = seen, math.inf
        if named is not None:
            try:
                self._connection = database.connect_read_only(database_of(self._index, named), log=log)
            except (sqlite3.Error, ValueError) as error:
                if not is_broken(error):  # as where there are no file descriptors left
                    self._tried_at = time.monotonic()
                if not again:
                    _log.warning("%s: the index cannot be read (%s); what it knows is fetched anew", self._index, error)

    def find(self, keys: Sequence[RefKey]) -> list[Known | None]:
        """What is known of each object."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error, AttributeError, TypeError):
                self._connection.execute("BEGIN")  # one for all: without it each takes and drops the lock
                try:
                    return rows(self._connection, keys, self._algorithm)
                finally:
                    database.leave(self._connection)
        return [None] * len(keys)

    def ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Lets `work` read the index. For commands: where that fails it raises `CacheUnusable`."""
        try:
            if self._connection is None:
                raise sqlite3.OperationalError("it is not open")
            try:
                return work(self._connection)
            finally:
                database.leave(self._connection)
        except sqlite3.Error as error:
            raise CacheUnusable(f"{self._index}: the index cannot be read ({error})") from error

    def path(self, digest: str, size: int) -> str | None:
        """The path of a blob that lies here with its right size and can be read."""
        path = path_of(self._blobs, digest)
        return path if files.readable_size(path) == size else None

    def epoch_of(self, digest: str) -> int | None:
        """The epoch of a blob as far as the cache above is concerned: 0 where it is proven, None where it is not."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.execute(_PROVEN, (*split(digest), self._boot)).fetchone() is not None:
                    return 0
        return None

    def totals(self) -> CacheStats:
        """The number of refs and of blobs that it knows, and the sums of their sizes."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error, TypeError):
                return CacheStats(*self._connection.execute(database.TOTALS).fetchone())
        return CacheStats(0, 0, 0, 0)

    def close(self) -> None:
        """Closes the index."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def is_meant(directory: Path, error: CacheUnusable) -> bool:
    """Whether a cache that cannot be written is one that is not to be written: by its medium, or by `seal`."""
    return error.errno == errno.EROFS or (error.errno in _DENIED and is_closed(directory))


def is_closed(directory: Path) -> bool:
    """Whether the index in force was closed by `seal`."""
    index = layout_of(str(directory)).index
    with contextlib.suppress(OSError):
        closed = files.read(f"{index}/{_CLOSED}", 64)
        return closed is not None and closed == files.read(f"{index}/CURRENT", 64)
    return False


def seal(directory: Path) -> None:
    """Closes a cache for being read from a medium that cannot be written; nobody may have it open. Blocks.

    What was written under this boot is synced and proven, the log is folded into the index, and the index is marked.
    It can be written again afterwards, which takes the mark away. Raises `CacheUnusable` where there is no index or
    somebody is using it, `StorageFull`; then it is as it was.
    """
    layout = layout_of(str(directory))
    try:
        named = files.read(f"{layout.index}/CURRENT", 64)
        if named is None:
            raise CacheUnusable(f"{directory}: there is no cache that could be closed")
        _fold(database_of(layout.index, named), layout.blobs)
        mark = f"{layout.index}/{_CLOSED}"
        files.remove(mark)
        descriptor = files.create(mark)
        try:
            files.write(descriptor, memoryview(named))
        finally:
            files.close(descriptor)
    except OSError as error:
        raise error if isinstance(error, CacheUnusable) else explain(error, layout.index) from error
    except (sqlite3.Error, ValueError) as error:
        raise CacheUnusable(
            f"{directory}: the index cannot be closed ({error})", remedy="Close every fetcher that uses it first."
        ) from error


def reopen(index: str) -> None:
    """Takes the mark of `seal` away: from now on the index is written."""
    files.remove(f"{index}/{_CLOSED}")


def _fold(path: str, blobs: str) -> None:
    with contextlib.closing(database.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        if mode != "delete":
            raise sqlite3.OperationalError("it is in use")
        # Nobody adds to an epoch while its blobs are synced.
        connection.execute("BEGIN EXCLUSIVE")
        try:
            boot = boot_id()
            for algorithm, digest in connection.execute(_SYNCED, (boot,)):
                files.sync(path_of(blobs, f"{algorithm}:{digest.hex()}"))
            connection.execute("UPDATE epochs SET proven = 1 WHERE boot = ?", (boot,))
            connection.execute("COMMIT")
        finally:
            database.leave(connection)
