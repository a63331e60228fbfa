"""The index: which blob each known object is, in SQLite, disposable.

A database that is lost, damaged or of another schema is left alone, and a new generation is begun beside it; every
process looks at `CURRENT` before each batch and follows. Losing the index loses no blob, only the knowledge of which
object it is.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import time
from typing import TYPE_CHECKING, Any, TypeVar

from asyncfetch.cache import database, epochs, files, generations
from asyncfetch.cache.changes import limited, make, split
from asyncfetch.cache.failures import WouldWait, explain
from asyncfetch.cache.known import rows
from asyncfetch.cache.records import CacheStats
from asyncfetch.errors import CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.records import Known, RefKey
    from asyncfetch.settings import Digest

_log = logging.getLogger(__name__)

_STUCK_SECONDS = 0.05  # the wait once that has happened, so that a stuck process slows nobody down to a batch in 2 s
RETRY_SECONDS = 5.0  # between attempts to begin an index where there can be none, as on a full disk

_EPOCH_OF = "SELECT epoch FROM blobs WHERE algorithm = ? AND digest = ?"
_LIMITED = "SELECT value FROM counters WHERE name = 'limited'"

_GENERATIONS = 3  # that a change is made in: the one that is damaged or replaced just now, and two that follow

_T = TypeVar("_T")
_Stamps = tuple[files.Stamp | None, int | None]


class Index:
    """The index of one cache directory, for one thread at a time.

    Once open it raises no failure of its own: what it cannot read is unknown, what it cannot write is not remembered,
    and a warning in the log says so once.
    """

    def __init__(self, directory: str, algorithm: Digest, scratch: Callable[[], str], *, boot: str) -> None:
        """Opens the generation in force, or begins one.

        `scratch` gives paths for temporary files on the same file system; `boot` tells this boot of the machine from
        others, for the epochs. Raises `OSError`, `sqlite3.Error` or
        `ValueError` when no index can be had at all.
        """
        self.directory = directory
        self.algorithm = algorithm
        self._scratch = scratch
        self._boot = boot
        self._connection: sqlite3.Connection | None = None
        self._stamps: _Stamps | None = None  # of what is open; None when that was not in force any more
        self._path = ""
        self._trusted: dict[int | None, bool] = {0: True}  # epochs of this generation that were asked for
        self._retry_at = self._contended_until = 0.0
        self._warned: set[str] = set()
        self._stuck = False  # the write lock could not be had last time
        self._timeout = database.BUSY_SECONDS  # of what is open
        self.patient = True  # it may wait for others; else it raises `WouldWait`, and nothing was done
        self._limited_since: float | None = None  # not looked at since `follow`
        self._attach()

    def follow(self) -> None:
        """Opens another generation if `CURRENT` names one by now. Two `stat` calls when it does not."""
        if self._limited_since == math.inf:
            self._limited_since = None
        if self._connection is None and time.monotonic() < self._retry_at:
            return
        if self._connection is None or self._stamps != self._look():
            if not self.patient:
                raise WouldWait
            self._reattach()

    def find(self, keys: Sequence[RefKey]) -> list[Known | None]:
        """What is known of each object, and of its blob. Raises `ValueError` for a key that is not valid Unicode."""
        connection = self._connection
        if connection is None:
            return [None] * len(keys)
        try:
            if len(keys) == 1:
                return rows(connection, keys, self.algorithm)
            # One read transaction: without it every statement takes and drops the lock, a third of its time.
            connection.execute("BEGIN")
            try:
                return rows(connection, keys, self.algorithm)
            finally:
                database.leave(connection)
        # A damaged record can also come as values of other types than were written.
        except (sqlite3.Error, AttributeError, TypeError) as error:
            self._failed(error, "read")
            return [None] * len(keys)

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """What `work` reads, all of one moment; None where there is no answer."""
        connection = self._connection
        if connection is None:
            return None
        if connection.in_transaction:  # amid `apply`, which judges what fails
            return work(connection)
        try:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                database.leave(connection)
        except sqlite3.Error as error:
            self._failed(error, "read")
            return None

    def first_rows(self, statement: str, rows: Sequence[tuple[str, ...]]) -> list[tuple[Any, ...] | None]:
        """The first row that a statement gives for each of these parameters; None where there is none, or no answer."""
        if not rows:
            return []
        found = self.read(lambda connection: [connection.execute(statement, row).fetchone() for row in rows])
        return [None] * len(rows) if found is None else found

    def apply(self, changes: Sequence[Change], also: Sequence[Callable[[sqlite3.Connection], object]] = ()) -> bool:
        """Makes changes in their order and then calls `also`, all in one transaction, under the write lock.

        False when they could not be remembered. Where another generation has taken this one's place meanwhile, all of
        it is done in that one too.
        """
        for _ in range(_GENERATIONS):
            connection = self._connection
            if connection is None:
                return False
            try:
                self._set_timeout(connection)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    make(connection, changes)
                    for work in also:
                        work(connection)
                    connection.execute("COMMIT")
                finally:
                    database.leave(connection)
            except sqlite3.Error as error:
                if not self._failed(error, "write"):
                    return False
            except ValueError as error:
                self._warn("write", error)
                return False
            else:
                self._stuck = False
                if self._stamps == self._look() or not self._reattach():
                    return True
        return False

    def limited_since(self) -> float:
        """Since when somebody evicts from this cache, in s since 1970, so that it matters when a blob was used.

        Infinite while nobody does, as of the last `follow`.
        """
        if self._limited_since is None:
            (row,) = self.first_rows(_LIMITED, [()])
            self._limited_since = math.inf if row is None else float(row[0])
        return self._limited_since

    def limit(self) -> None:
        """Lets all users know that somebody evicts."""
        if self.limited_since() == math.inf and self.apply([limited(time.time())]):
            self._limited_since = None
            self.limited_since()

    def trusts(self, epoch: int | None) -> bool:
        """Whether the blobs of an epoch were synced, or stored under this boot. Those without a row (None) were not."""
        trusted = self._trusted.get(epoch)
        if trusted is None:
            try:
                trusted = self._connection is not None and epochs.is_trusted(self._connection, epoch, self._boot)
            except sqlite3.Error as error:
                self._failed(error, "read")
                return False
            self._trusted[epoch] = trusted
        return trusted

    def epoch_of(self, digest: str) -> int | None:
        """The epoch of a blob, None when it has no row."""
        try:
            if self._connection is not None:
                row = self._connection.execute(_EPOCH_OF, split(digest)).fetchone()
                return row[0] if row else None
        except sqlite3.Error as error:
            self._failed(error, "read")
        return None

    def close_epoch(self) -> epochs.Closed:
        """Begins another epoch, and returns those to be synced. Raises `sqlite3.Error`."""
        return epochs.close(self._in_force(), self._boot, self._path)

    def unsynced(self, closed: epochs.Closed, byte: int) -> list[str]:
        """What `epochs.unsynced` says, if the epochs are still of this index. Raises `sqlite3.Error`."""
        return epochs.unsynced(self._in_force(), self._boot, closed, byte) if closed.generation == self._path else []

    def prove(self, closed: epochs.Closed) -> None:
        """Takes epochs as synced, if they are still of this index. Raises `sqlite3.Error`."""
        if closed.generation == self._path:
            epochs.prove(self._in_force(), self._boot, closed)

    def totals(self) -> CacheStats:
        """The number of refs and of blobs that it knows, and the sums of their sizes."""
        try:
            if self._connection is not None:
                row = self._connection.execute(database.TOTALS).fetchone()
                return CacheStats(*row)
        except (sqlite3.Error, TypeError) as error:
            self._failed(error, "read")
        return CacheStats(0, 0, 0, 0)

    def ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Lets `work` use the database in force; a transaction that it leaves open is rolled back.

        For commands: where that fails it raises `CacheUnusable`, and says nothing in the log.
        """
        try:
            self.follow()
        except OSError as error:
            raise explain(error, self.directory) from error
        connection = self._connection
        if connection is None:
            raise CacheUnusable(f"{self.directory}: the index could not be opened", remedy="The log says why.")
        try:
            try:
                return work(connection)
            finally:
                database.leave(connection)
        except sqlite3.Error as error:
            told = f"{self._path}: the index could not be used ({error})"
            if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in database.BROKEN and self._leave_damaged(error):
                remedy = "A new one was begun: run asyncfetch cache verify --repair."
            else:
                remedy = "Try again when no other process holds it."
            raise CacheUnusable(told, remedy=remedy) from error

    def restart(self) -> None:
        """Begins a new, empty generation."""
        try:
            self._replace(generations.in_force(self.directory))
        except (OSError, sqlite3.Error, ValueError) as error:
            self._warn("restart", error)

    def remove_others(self, lying: Sequence[str]) -> None:
        """Removes the files of other generations, of those that `generations.lying` gave.

        For one who has seen after that that nobody else was using this directory: whoever came since may have begun
        a generation, which is not among them.
        """
        own = self._path.rpartition("/")[2]
        with contextlib.suppress(OSError):
            for name in lying:
                if not name.startswith(own):
                    files.remove(f"{self.directory}/{name}")

    def close(self) -> None:
        """Closes the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _in_force(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("there is no index")
        return self._connection

    def _look(self) -> _Stamps:
        """What is in force now: the file `CURRENT`, and the database by its inode alone, as it changes all the time."""
        found = files.stamp_of(self._path)
        return files.stamp_of(generations.current(self.directory)), found and found.inode

    def _attach(self) -> None:
        """Opens the generation that `CURRENT` names, or begins one where that cannot be used."""
        files.make_directory(self.directory)
        named = generations.in_force(self.directory)
        if named is not None:
            try:
                self._use(named)
            except (OSError, sqlite3.Error, ValueError) as error:
                if isinstance(error, database.OtherSchema):
                    self._contend(error)
                if self._replace(named):
                    self._warn_begun(error)
            return
        lost = bool(self._path) or generations.has_old_files(self.directory)
        if self._replace(None) and lost:
            self._warn_begun("CURRENT is missing")

    def _contend(self, error: database.OtherSchema) -> None:
        """Lets another version that uses this cache at the same time have the index for a while.

        Each would begin a generation for every batch of the other's, and neither would find anything again.
        """
        now = time.monotonic()
        if now < self._contended_until:
            raise error
        self._contended_until = now + RETRY_SECONDS

    def _reattach(self) -> bool:
        self.close()
        try:
            self._attach()
        except (OSError, sqlite3.Error, ValueError) as error:
            self._put_off(error)
            return False
        return True

    def _leave_damaged(self, reason: Exception) -> bool:
        """Goes on with another generation: the one that somebody else has begun by now, or a new one."""
        self.close()
        try:
            named = generations.in_force(self.directory)
            if named is not None and generations.database_of(self.directory, named) != self._path:
                return self._reattach()
            began = self._replace(named)
        except (OSError, sqlite3.Error, ValueError) as error:
            self._put_off(error)
            return False
        if began:
            self._warn_begun(reason)
        return True

    def _put_off(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._warn("open", error)

    def _use(self, named: bytes) -> None:
        self._take(named, database.connect(generations.database_of(self.directory, named)))

    def _take(self, named: bytes, connection: sqlite3.Connection) -> None:
        self.close()
        try:
            database.begin_epoch(connection, self._boot)
        except BaseException:
            connection.close()
            raise
        self._path, self._connection, self._limited_since = (
            generations.database_of(self.directory, named),
            connection,
            None,
        )
        self._timeout = database.BUSY_SECONDS
        self._trusted = {0: True}
        self._stamps = None
        with contextlib.suppress(OSError):  # what cannot be looked at now is no reason to begin another: follow() looks
            # In this order: a swap by another process meanwhile is seen here, or by the next follow().
            stamps = self._look()
            if generations.in_force(self.directory) == named:
                self._stamps = stamps

    def _replace(self, named: bytes | None) -> bool:
        """Begins a generation in the place of the one that `CURRENT` named. False where another process was first."""
        generation, path, connection = generations.begin(self.directory)
        try:
            first = generations.swap(self.directory, named, generation, self._scratch())
        except BaseException:
            generations.throw_away(connection, path)
            raise
        if first:
            self._take(generation, connection)
        else:
            generations.throw_away(connection, path)
            self._use(generations.in_force(self.directory) or b"")
        return first

    def _failed(self, error: Exception, doing: str) -> bool:
        """Judges a failure. True when the database was beyond repair and another is in its place."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            # The module's own: what came was not even text (damage), or what was given could not be bound (our fault).
            damaged = not isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError)
        else:
            damaged = code & 0xFF in database.BROKEN
        if damaged:
            return self._leave_damaged(error)
        if code is not None and code & 0xFF == sqlite3.SQLITE_BUSY:
            if not self.patient:
                raise WouldWait from error
            self._stuck = True
        self._warn(doing, error)
        return False

    def _set_timeout(self, connection: sqlite3.Connection) -> None:
        """Says how long the write lock is waited for: not at all, or not for long where that was in vain last time."""
        timeout = 0.0 if not self.patient else _STUCK_SECONDS if self._stuck else database.BUSY_SECONDS
        if timeout != self._timeout:
            connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
            self._timeout = timeout

    def _warn_begun(self, reason: Exception | str) -> None:
        _log.warning("%s: the index could not be used (%s); a new one was begun", self.directory, reason)

    def _warn(self, doing: str, error: Exception) -> None:
        """Says once for each kind what goes on without the index."""
        if doing not in self._warned:
            self._warned.add(doing)
            _log.warning(
                "%s: could not %s the index (%s); objects it does not know are fetched anew", self._path, doing, error
            )
