"""An owner's directory: where one open cache keeps unfinished and private files, and how the dead's are found.

A pid means nothing to another container on the same volume. An owner is a directory `tmp/<random>/` whose lock file it
holds by flock, which ends with the process however that ends: what can be locked belongs to nobody.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading

from asyncfetch.cache import files

_LOCK = "lock"
_ATTEMPTS = 100  # to claim a directory; one fails only if a sweeper looks at it in the instant before it is locked


class Owner:
    """One owner's claim on a directory under `root`, from its making until `close`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._numbers = itertools.count()
        self._renewing = threading.Lock()
        self._directory, self._lock = _claim(root)
        self._claimed = {self._directory}

    @property
    def directory(self) -> str:
        """Where its files lie."""
        return self._directory

    def new_path(self) -> str:
        """A path for a new file, given to nobody before. May be asked for on any thread."""
        return f"{self._directory}/{next(self._numbers)}"

    def owns(self, path: str) -> bool:
        """True for a path that `new_path` could have given."""
        directory, _, name = path.rpartition("/")
        return directory in self._claimed and name.isdecimal()

    def renew(self, lost: str) -> None:
        """Claims another directory if that of the path `lost` is gone, swept by mistake or as old."""
        with self._renewing:
            if lost.startswith(self._directory + "/") and files.stamp_of(f"{self._directory}/{_LOCK}") is None:
                lock = self._lock
                self._directory, self._lock = _claim(self._root)
                self._claimed.add(self._directory)
                files.close(lock)

    def sweep(self) -> bool:
        """Removes the directories of dead owners. True when no other owner lives."""
        alone = True
        for name in files.names(self._root):
            path = f"{self._root}/{name}"
            if path != self._directory:
                alone = _sweep_one(path) and alone
        return alone

    def close(self) -> None:
        """Removes the directory with all that is in it, then lets go of the lock."""
        _remove_all(self._directory)
        files.close(self._lock)


def _claim(root: str) -> tuple[str, int]:
    for _ in range(_ATTEMPTS):
        directory = f"{root}/{secrets.token_hex(8)}"
        files.make_directory(directory)
        # Until the lock is had, a sweeper may take this directory for a dead one's. Then another is made.
        with contextlib.suppress(FileNotFoundError):
            descriptor = files.lock(f"{directory}/{_LOCK}", create=True)
            if descriptor is not None:
                return directory, descriptor
    raise FileNotFoundError(root)


def _sweep_one(directory: str) -> bool:
    """Removes one owner's directory if that owner is dead. False when it lives."""
    try:
        # A directory without a lock was left by a sweeper that died, or is just being made: then its maker notices.
        descriptor = files.lock(f"{directory}/{_LOCK}", create=True)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        files.remove(directory)
        return True
    except OSError:
        return False
    if descriptor is None:
        return False
    try:
        _remove_all(directory)
    finally:
        files.close(descriptor)
    return True


def _remove_all(directory: str) -> None:
    """Removes an owner's directory, the lock's name last, so that it is held until all else is gone."""
    with contextlib.suppress(OSError):
        for name in files.names(directory):
            if name != _LOCK:
                files.remove(f"{directory}/{name}")
        files.remove(f"{directory}/{_LOCK}")
        files.remove_directory(directory)
