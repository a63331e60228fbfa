"""Which database of the index a process has open, and what takes its place where that cannot be used.

A database that is lost, damaged, of another schema, or kept locked or read by a process that is stuck is left alone,
and a new generation is begun beside it; every process looks at `CURRENT` before each batch and follows.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from asyncfetch.cache import database, files, generations
from asyncfetch.cache.failures import WouldWait
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

_STUCK_SECONDS = 0.05  # the wait once that has happened, so that a stuck process slows nobody down to a batch in 2 s
GIVEN_UP_SECONDS = 30.0  # in which nobody else changed a locked index either, before another takes its place
LOG_BYTES = 256 * MIB  # that could not be folded in for a reader who does not go on; an object leaves some 5 KB there
LOG_LOOKS = 256  # batches for each look at the length of the log, 2 us
_LOG_RETRY = 64  # times as many after a copy that found no room, made while all wait
RETRY_SECONDS = 5.0  # between attempts to begin an index where there can be none, as on a full disk

_Stamps = tuple[files.Stamp | None, int | None]


class Follower:
    """The database in force, open for one thread at a time.

    Once open it raises no failure of its own but `WouldWait`: what stands against the index is judged by `failed`, and
    a warning in the log says once what goes on without it.
    """

    def __init__(self, directory: str, scratch: Callable[[], str], *, boot: str, opened: Callable[[], None]) -> None:
        """Opens the generation in force, or begins one; `opened` is called for each that is open from then on.

        `scratch` gives paths for temporary files on the same file system. Raises `OSError`, `sqlite3.Error` or
        `ValueError` when no index can be had at all.
        """
        self.directory = directory
        self.connection: sqlite3.Connection | None = None
        self.path = ""
        self.patient = True  # it may wait for others; else it raises `WouldWait`, and nothing was done
        self._scratch, self._boot, self._opened = scratch, boot, opened
        self._stamps: _Stamps | None = None  # of what is open; None when that was not in force any more
        self._retry_at = self._contended_until = 0.0
        self._warned: set[str] = set()
        self._stuck_since: float | None = None  # the lock could not be had last time, nor since
        self._stuck_at: int | None = None  # the number of others' changes at that time
        self._timeout = database.BUSY_SECONDS  # of what is open
        self._until_look = LOG_LOOKS  # batches; behind 0, the log is found to be long
        self._attach()

    def follow(self) -> None:
        """Opens another generation if `CURRENT` names one by now. Two `stat` calls when it does not."""
        if self.connection is None and time.monotonic() < self._retry_at:
            return
        if self.connection is None or self._stamps != self._look():
            if not self.patient:
                raise WouldWait
            self._reattach()
        elif self._log_is_long():
            if not self.patient:
                raise WouldWait
            self._until_look = LOG_LOOKS
            self._leave_log()

    def go_on(self) -> bool:
        """After a change: whether another generation has taken this one's place meanwhile, and is open now.

        One that has not yet, and was copied before the change, will not.
        """
        generations.forestall(self.directory)
        return self._stamps != self._look() and self._reattach()

    def in_force(self) -> sqlite3.Connection:
        """The database. Raises `sqlite3.OperationalError` where there is none."""
        if self.connection is None:
            raise sqlite3.OperationalError("there is no index")
        return self.connection

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begins a change, under the write lock: not waited for at all, or not for long where that was in vain."""
        timeout = database.BUSY_SECONDS
        if not self.patient:
            timeout = 0.0
        elif self._stuck_since is not None and time.monotonic() - self._stuck_since < GIVEN_UP_SECONDS:
            timeout = _STUCK_SECONDS
        if timeout != self._timeout:
            connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
            self._timeout = timeout
        connection.execute("BEGIN IMMEDIATE")
        self._stuck_since = None

    def failed(self, error: Exception, doing: str) -> bool:
        """Judges a failure. True when the database was beyond repair, or use, and another is in its place."""
        if is_broken(error):
            return self.leave_damaged(error)
        if _code(error) == sqlite3.SQLITE_BUSY:
            if not self.patient:
                raise WouldWait from error
            if self._is_given_up():
                return self._leave_locked(error)
        self.warn(doing, error)
        return False

    def leave_damaged(self, reason: Exception) -> bool:
        """Goes on with another generation: the one that somebody else has begun by now, or a new one."""
        self.close()
        return self._leave(reason, None)

    def restart(self) -> None:
        """Begins a new, empty generation."""
        try:
            while not self._replace(generations.in_force(self.directory)):
                pass  # whoever was first may have begun with a copy of what is to be forgotten
        except (OSError, sqlite3.Error, ValueError) as error:
            self.warn("restart", error)

    def remove_others(self, lying: Sequence[str]) -> None:
        """Removes the files of other generations, of those that `generations.lying` gave.

        For one who has seen after that that nobody else was using this directory: whoever came since may have begun
        a generation, which is not among them.
        """
        own = self.path.rpartition("/")[2]
        with contextlib.suppress(OSError):
            for name in lying:
                if not name.startswith(own):
                    files.remove(f"{self.directory}/{name}")

    def warn(self, doing: str, error: Exception) -> None:
        """Says once for each kind what goes on without the index."""
        if doing not in self._warned:
            self._warned.add(doing)
            _log.warning(
                "%s: could not %s the index (%s); objects it does not know are fetched anew", self.path, doing, error
            )

    def close(self) -> None:
        """Closes the database."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _look(self) -> _Stamps:
        """What is in force now: the file `CURRENT`, and the database by its inode alone, as it changes all the time."""
        found = files.stamp_of(self.path)
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
        lost = bool(self.path) or generations.has_old_files(self.directory)
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

    def _is_given_up(self) -> bool:
        """Hears that the lock could not be had; whether whoever has it is taken to be stuck for good.

        The last attempt before that was a long one: all may have stood still for a time, and go on together.
        """
        now, changes = time.monotonic(), _changes_of_others(self.in_force())
        if self._stuck_since is None or changes != self._stuck_at:
            self._stuck_since, self._stuck_at = now, changes
            return False
        return now - self._stuck_since >= GIVEN_UP_SECONDS and self._timeout == database.BUSY_SECONDS

    def _leave_locked(self, reason: Exception) -> bool:
        """Goes on with a copy of what is locked, or with nothing where it cannot even be read.

        Whoever has the lock and wakes up makes its change in the old one, sees that, and makes it in the copy too.
        """
        source, self.connection = self.connection, None
        try:
            return self._leave(reason, source)
        finally:
            self._stuck_since = None
            if self.connection is None:
                self.connection = source  # no room for a copy: what is known there can still be read
            elif source is not None:
                source.close()

    def _log_is_long(self) -> bool:
        self._until_look -= 1
        if self._until_look == 0 and (files.size_of(f"{self.path}-wal") or 0) <= LOG_BYTES:
            self._until_look = LOG_LOOKS
        return self._until_look <= 0

    def _leave_log(self) -> None:
        """Goes on with a copy where one who has stopped amid a read lets the log grow without end.

        Under the write lock, without which the changes of others would overtake the copy each time.
        """
        connection = self.in_force()
        try:
            if database.unfolded(connection) > LOG_BYTES:
                with contextlib.closing(database.lock(self.path)):
                    self._stuck_at = _changes_of_others(connection)
                    reason = TimeoutError("a process that does not go on reads it, and its log grows")
                    if not self._leave_locked(reason):
                        self._until_look = _LOG_RETRY * LOG_LOOKS
        except (OSError, sqlite3.Error) as error:
            self.warn("shorten the log of", error)

    def _leave(self, reason: Exception, source: sqlite3.Connection | None) -> bool:
        try:
            named = generations.in_force(self.directory)
            if named is not None and generations.database_of(self.directory, named) != self.path:
                return self._reattach()
            began = self._replace(named, source)
        except (OSError, sqlite3.Error, ValueError) as error:
            self._put_off(error)
            return False
        if began:
            self._warn_begun(reason)
        return True

    def _put_off(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self.warn("open", error)

    def _use(self, named: bytes) -> None:
        self._take(named, database.connect(generations.database_of(self.directory, named)))

    def _take(self, named: bytes, connection: sqlite3.Connection) -> None:
        self.close()
        try:
            database.begin_epoch(connection, self._boot)
        except BaseException:
            connection.close()
            raise
        self.path, self.connection = generations.database_of(self.directory, named), connection
        self._timeout, self._stuck_since = database.BUSY_SECONDS, None
        self._opened()
        self._stamps = None
        with contextlib.suppress(OSError):  # what cannot be looked at now is no reason to begin another: follow() looks
            # In this order: a swap by another process meanwhile is seen here, or by the next follow().
            stamps = self._look()
            if generations.in_force(self.directory) == named:
                self._stamps = stamps

    def _replace(self, named: bytes | None, source: sqlite3.Connection | None = None) -> bool:
        """Begins a generation in the place of the one that `CURRENT` named, empty or a copy of `source`.

        False where another process was first, or the lock of `source` is free again.
        """
        generation, path, connection = generations.begin(self.directory, source, self._scratch())
        try:
            if source is None or named is None:
                first = generations.swap(self.directory, named, generation, self._scratch())
            else:
                # Who woke up while it was copied has made a change that the copy lacks.
                first = generations.succeed(
                    self.directory, named, generation, lambda: _changes_of_others(source) == self._stuck_at
                )
        except BaseException:
            generations.throw_away(connection, path)
            raise
        if first:
            self._take(generation, connection)
        else:
            generations.throw_away(connection, path)
            self._use(generations.in_force(self.directory) or b"")
        return first

    def _warn_begun(self, reason: Exception | str) -> None:
        _log.warning("%s: the index could not be used (%s); a new one was begun", self.directory, reason)


def is_broken(error: Exception) -> bool:
    """Whether a failure says that a database will not get better."""
    code = _code(error)
    if code is None:
        # The module's own: what came was not even text (damage), or what was given could not be bound (our fault).
        return not isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError)
    return code in database.BROKEN


def _changes_of_others(connection: sqlite3.Connection) -> int | None:
    """A number that changes whenever another process has changed a database; None where even that is locked."""
    try:
        (number,) = connection.execute("PRAGMA data_version").fetchone()
    except sqlite3.Error:
        return None
    return int(number)


def _code(error: Exception) -> int | None:
    """The primary result code (sqlite.org/rescode.html) of a failure of SQLite's, None of the module's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
