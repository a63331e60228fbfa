"""Generations of the index: which database is in force, and how another takes its place.

`index/CURRENT` names the generation in force, `index-<generation>.sqlite`, and is swapped by rename. A database that is
in use is never renamed or removed under its users.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING

from asyncfetch.cache import database, files

if TYPE_CHECKING:
    from collections.abc import Callable

BEGINNING_NS = 10 * 10**9  # no process takes so long from making a database to naming it in CURRENT
_BEGINNINGS = 5  # each fails only if another process opens the cache in just that instant
_GENERATION = re.compile(rb"[0-9a-f]{16}\Z")


def current(directory: str) -> str:
    """The file that names the generation in force."""
    return f"{directory}/CURRENT"


def in_force(directory: str) -> bytes | None:
    """What that file names, None when there is none. Raises `OSError`."""
    return files.read(current(directory), 64)


def database_of(directory: str, named: bytes) -> str:
    """The database that `CURRENT` of an index names. Raises `ValueError` when that is not one of ours."""
    if not _GENERATION.match(named):
        raise ValueError(f"{named!r} names no generation")
    return f"{directory}/index-{named.decode()}.sqlite"


def lying(directory: str) -> list[str]:
    """The names of the files of all generations; none where the directory cannot be looked at."""
    with contextlib.suppress(OSError):
        return [name for name in files.names(directory) if name.startswith("index-")]
    return []


def begin(directory: str, source: sqlite3.Connection | None, scratch: str) -> tuple[bytes, str, sqlite3.Connection]:
    """Makes a database that nobody knows of yet, with what can be read in `source`; a copy is made as `scratch`."""
    attempts = 0
    while True:
        attempts += 1
        generation = secrets.token_hex(8).encode()
        path = database_of(directory, generation)
        try:
            if source is None:
                return generation, path, database.connect(path, create=True)
            return generation, path, database.copy(source, path, scratch)
        except sqlite3.OperationalError:
            # Removed at once by one who was alone when it opened the cache, a moment ago?
            if source is not None or attempts == _BEGINNINGS or files.stamp_of(path) is not None:
                raise


def swap(directory: str, named: bytes | None, generation: bytes, scratch: str) -> bool:
    """Lets `CURRENT` name a generation. False when it no longer names what it did.

    `scratch` is a path for a temporary file on the same file system.
    """
    try:
        descriptor = files.create(scratch)
        try:
            files.write(descriptor, memoryview(generation))
        finally:
            files.close(descriptor)
        if in_force(directory) != named:
            return False
        if named is None:
            # Processes that start together agree on the first: a link fails where a rename would replace.
            try:
                files.link(scratch, current(directory))
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                files.rename(scratch, current(directory))
        else:
            files.rename(scratch, current(directory))
    finally:
        with contextlib.suppress(OSError):
            files.remove(scratch)
    return True


def announced(directory: str) -> str:
    """The directory of copies that are about to take the place of what they were made of, there while there are any."""
    return f"{directory}/NEXT"


def succeed(directory: str, named: bytes, generation: bytes, is_whole: Callable[[], bool]) -> bool:
    """Lets `CURRENT` name a copy of the generation that it named; False where that has changed since, or may have.

    It is announced first, and seen then whether it still is the whole of what was copied. Who commits a change after
    that takes the announcement away (`forestall`), or finds that it has come into force, whichever is first. Of several
    that are announced each has its own file, so that none comes into force by that of another.
    """
    place = announced(directory)
    name = f"{place}/{generation.decode()}"
    try:
        files.make_directory(place)
        descriptor = files.create(name)
        try:
            files.write(descriptor, memoryview(generation))
        finally:
            files.close(descriptor)
        if not is_whole() or in_force(directory) != named:
            return False
        files.rename(name, current(directory))
    except FileExistsError:  # a file of that name, as older versions made
        _withdraw(place)
        return False
    except FileNotFoundError:
        return False
    finally:
        with contextlib.suppress(OSError):
            files.remove(name)
            files.remove_directory(place)
    return True


def forestall(directory: str) -> None:
    """After a change: keeps copies that lack it from coming into force. 1 us where there are none."""
    place = announced(directory)
    if files.exists(place):
        _withdraw(place)


def _withdraw(place: str) -> None:
    """Takes away all that is announced, also by those who were killed over it."""
    with contextlib.suppress(OSError):
        for name in files.names(place):
            files.remove(f"{place}/{name}")
        try:
            files.remove_directory(place)
        except NotADirectoryError:  # of an older version
            files.remove(place)


def throw_away(connection: sqlite3.Connection, path: str) -> None:
    """Ends a database that nobody else knows of."""
    connection.close()
    with contextlib.suppress(OSError):
        files.remove(path)


def has_old_files(directory: str) -> bool:
    """True for an index that was in use, not only being begun by another process at this moment."""
    stamps = [files.stamp_of(f"{directory}/{name}") for name in files.names(directory)]
    return any(stamp and stamp.modified_ns < time.time_ns() - BEGINNING_NS for stamp in stamps)
