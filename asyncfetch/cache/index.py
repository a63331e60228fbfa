"""The index: which blob each known object is, in SQLite, disposable.

Which database that is, and what takes its place where it cannot be used, is for `follower`. Losing the index loses no
blob, only the knowledge of which object it is.
"""

from __future__ import annotations

import math
import sqlite3
import time
from typing import TYPE_CHECKING, Any, TypeVar

from asyncfetch.cache import database, epochs
from asyncfetch.cache.changes import limited, make, split
from asyncfetch.cache.failures import explain
from asyncfetch.cache.follower import Follower, is_broken
from asyncfetch.cache.known import rows
from asyncfetch.cache.records import CacheStats
from asyncfetch.errors import CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.records import Known, RefKey
    from asyncfetch.settings import Digest

_EPOCH_OF = "SELECT epoch FROM blobs WHERE algorithm = ? AND digest = ?"
_LIMITED = "SELECT value FROM counters WHERE name = 'limited'"

_GENERATIONS = 3  # that a change is made in: the one that is damaged or replaced just now, and two that follow

_T = TypeVar("_T")


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
        self._boot = boot
        self._trusted: dict[int | None, bool] = {}  # epochs of this generation that were asked for
        self._limited_since: float | None = None  # not looked at since `follow`
        self._follower = Follower(directory, scratch, boot=boot, opened=self._opened)

    @property
    def patient(self) -> bool:
        """Whether it may wait for others; else it raises `WouldWait`, and nothing was done."""
        return self._follower.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._follower.patient = patient

    def follow(self) -> None:
        """Opens another generation if `CURRENT` names one by now. Two `stat` calls when it does not."""
        if self._limited_since == math.inf:
            self._limited_since = None
        self._follower.follow()

    def find(self, keys: Sequence[RefKey]) -> list[Known | None]:
        """What is known of each object, and of its blob. Raises `ValueError` for a key that is not valid Unicode."""
        connection = self._follower.connection
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
            self._follower.failed(error, "read")
            return [None] * len(keys)

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """What `work` reads, all of one moment; None where there is no answer."""
        connection = self._follower.connection
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
            self._follower.failed(error, "read")
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
            connection = self._follower.connection
            if connection is None:
                return False
            try:
                self._follower.begin(connection)
                try:
                    make(connection, changes)
                    for work in also:
                        work(connection)
                    connection.execute("COMMIT")
                finally:
                    database.leave(connection)
            except sqlite3.Error as error:
                if not self._follower.failed(error, "write"):
                    return False
            except ValueError as error:
                self._follower.warn("write", error)
                return False
            else:
                if not self._follower.go_on():
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
                connection = self._follower.connection
                trusted = connection is not None and epochs.is_trusted(connection, epoch, self._boot)
            except sqlite3.Error as error:
                self._follower.failed(error, "read")
                return False
            self._trusted[epoch] = trusted
        return trusted

    def epoch_of(self, digest: str) -> int | None:
        """The epoch of a blob, None when it has no row."""
        try:
            if (connection := self._follower.connection) is not None:
                row = connection.execute(_EPOCH_OF, split(digest)).fetchone()
                return row[0] if row else None
        except sqlite3.Error as error:
            self._follower.failed(error, "read")
        return None

    def close_epoch(self) -> epochs.Closed:
        """Begins another epoch, and returns those to be synced. Raises `sqlite3.Error`."""
        return epochs.close(self._follower.in_force(), self._boot, self._follower.path)

    def unsynced(self, closed: epochs.Closed, byte: int) -> list[str]:
        """What `epochs.unsynced` says, if the epochs are still of this index. Raises `sqlite3.Error`."""
        return (
            epochs.unsynced(self._follower.in_force(), self._boot, closed, byte)
            if closed.generation == self._follower.path
            else []
        )

    def prove(self, closed: epochs.Closed) -> None:
        """Takes epochs as synced, if they are still of this index. Raises `sqlite3.Error`."""
        if closed.generation == self._follower.path:
            epochs.prove(self._follower.in_force(), self._boot, closed)

    def totals(self) -> CacheStats:
        """The number of refs and of blobs that it knows, and the sums of their sizes."""
        try:
            if (connection := self._follower.connection) is not None:
                row = connection.execute(database.TOTALS).fetchone()
                return CacheStats(*row)
        except (sqlite3.Error, TypeError) as error:
            self._follower.failed(error, "read")
        return CacheStats(0, 0, 0, 0)

    def ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Lets `work` use the database in force; a transaction that it leaves open is rolled back.

        For commands: where that fails it raises `CacheUnusable`, and says nothing in the log.
        """
        try:
            self.follow()
        except OSError as error:
            raise explain(error, self.directory) from error
        connection = self._follower.connection
        if connection is None:
            raise CacheUnusable(f"{self.directory}: the index could not be opened", remedy="The log says why.")
        try:
            try:
                return work(connection)
            finally:
                database.leave(connection)
        except sqlite3.Error as error:
            told = f"{self._follower.path}: the index could not be used ({error})"
            if is_broken(error) and self._follower.leave_damaged(error):
                remedy = "A new one was begun: run asyncfetch cache verify --repair."
            else:
                remedy = "Try again when no other process holds it."
            raise CacheUnusable(told, remedy=remedy) from error

    def change(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """As `ask`, for `work` that commits: done again where another generation has taken this one's place by then."""
        for _ in range(_GENERATIONS):
            result = self.ask(work)
            if not self._follower.go_on():
                break
        return result

    def restart(self) -> None:
        """Begins a new, empty generation."""
        self._follower.restart()

    def remove_others(self, lying: Sequence[str]) -> None:
        """Removes the files of other generations: `Follower.remove_others`."""
        self._follower.remove_others(lying)

    def close(self) -> None:
        """Closes the database."""
        self._follower.close()

    def _opened(self) -> None:
        """Forgets what was known of another generation."""
        self._trusted = {0: True}
        self._limited_since = None
