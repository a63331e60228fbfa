"""An owner's directory: where one open cache keeps unfinished and private files, and how the dead's are found.

A pid means nothing to another container on the same volume. An owner is a directory `tmp/<random>/` whose lock file it
holds by flock, which ends with the process however that ends: what can be locked belongs to nobody. In that file it
says when its job started, for those who would evict what that job uses.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import secrets
import threading
import time
from typing import TYPE_CHECKING

from asyncfetch.cache import files

if TYPE_CHECKING:
    from collections.abc import Callable

_LOCK = "lock"
_INTENT = "intent"  # and, taken over from the dead, `intent-<their names>`
_SETTLING_NS = 100 * 10**6  # between two changes of a directory that are told apart; file times are exact to 10 ms
_MOST_INTENTS = 1 << 20  # bytes read of one; a batch names 64 blobs in 4.5 KB, an eviction 192, a prune 512
_ATTEMPTS = 100  # to claim a directory; one fails only if a sweeper looks at it in the instant before it is locked


class Owner:
    """One owner's claim on a directory under `root`, from its making until `close`."""

    def __init__(self, root: str, *, job_started: float | None = None) -> None:
        """`job_started`, in seconds since 1970, is told to the others; None is now."""
        self.job_started = time.time() if job_started is None else job_started
        self._root = root
        self._numbers = itertools.count()
        self._renewing = threading.Lock()
        self._directory, self._lock = _claim(root, self.job_started)
        self._claimed = {self._directory}
        self._seen: files.Stamp | None = None
        self._company = False

    def now(self) -> float:
        """The time of what its job does, never before that job's start, though the clock was set back since."""
        return max(time.time(), self.job_started)

    @property
    def directory(self) -> str:
        """Where its files lie."""
        return self._directory

    @property
    def intents(self) -> str:
        """The path of the file for what it is about to do to blobs."""
        return f"{self._directory}/{_INTENT}"

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
                self._directory, self._lock = _claim(self._root, self.job_started)
                self._claimed.add(self._directory)
                files.close(lock)

    def sweep(self, rescue: Callable[[str], object] = lambda directory: None) -> bool:
        """Removes the directories of dead owners, and takes over their intents. True when no other owner lives.

        Each is given to `rescue` first.
        """
        alone = True
        for path in self._others():
            alone = self._sweep_one(path, rescue) and alone
        return alone

    def visit_dead(self, visit: Callable[[str], bool]) -> bool:
        """Lets `visit` look at the directory of each dead owner, which nobody else sweeps meanwhile.

        True when it has said so of any.
        """
        found = False
        for path in self._others():
            with contextlib.suppress(OSError):
                descriptor = files.lock(f"{path}/{_LOCK}")
                if descriptor is not None:
                    try:
                        found = visit(path) or found
                    finally:
                        files.close(descriptor)
        return found

    def others_intend(self, first: bytes) -> bool:
        """Whether what another owner that lives is about to do begins so."""
        with contextlib.suppress(OSError):
            for path in self._others():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    if (files.read(f"{path}/{_INTENT}", _MOST_INTENTS) or b"").startswith(first) and _lives(path):
                        return True
        return False

    def inherited(self) -> list[bytes]:
        """The intents of the dead that were taken over and are not settled."""
        with contextlib.suppress(OSError):
            return [files.read(path, _MOST_INTENTS) or b"" for path in self._inheritance()]
        return []

    def settle(self) -> None:
        """Forgets what was inherited."""
        with contextlib.suppress(OSError):
            for path in self._inheritance():
                files.remove(path)

    def is_dead(self, name: str) -> bool:
        """Whether an owner, called as its directory is, does not live any more."""
        try:
            return not _lives(f"{self._root}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def in_company(self) -> bool:
        """Whether others live. One look at the directory of all, while none comes or goes."""
        seen = files.stamp_of(self._root)
        if seen is None or seen != self._seen:
            self._company = any(not self.is_dead(path.rpartition("/")[2]) for path in self._others())
            # One that is being made has no lock yet, and tells when it has; and two changes can have the same time.
            settled = seen is not None and time.time_ns() - seen.modified_ns > _SETTLING_NS
            self._seen = seen if settled else None
        return self._company

    def oldest_job(self) -> float:
        """When the oldest job of all living owners started; before all time where one does not say."""
        oldest = self.job_started
        for path in self._others():
            # A directory without a lock is being made, by one who has not looked anything up yet.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if _lives(path):
                    oldest = min(oldest, _started(path))
        return oldest

    def close(self) -> None:
        """Removes the directory with all that is in it, then lets go of the lock."""
        _remove_all(self._directory)
        with contextlib.suppress(OSError):  # nothing was written to it that anybody needs
            files.close(self._lock)

    def _others(self) -> list[str]:
        paths = [f"{self._root}/{name}" for name in files.names(self._root)]
        return [path for path in paths if path != self._directory]

    def _inheritance(self) -> list[str]:
        return [f"{self._directory}/{name}" for name in files.names(self._directory) if name.startswith(f"{_INTENT}-")]

    def _sweep_one(self, directory: str, rescue: Callable[[str], object]) -> bool:
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
            self._inherit(directory)
            with contextlib.suppress(OSError):
                rescue(directory)
            _remove_all(directory)
        finally:
            files.close(descriptor)
        return True

    def _inherit(self, directory: str) -> None:
        """Takes a dead owner's intents over by rename, so that they have an owner whoever dies next."""
        with contextlib.suppress(OSError):
            for name in files.names(directory):
                if name.startswith(_INTENT) and files.size_of(f"{directory}/{name}"):
                    files.rename(f"{directory}/{name}", f"{self._directory}/{_INTENT}-{secrets.token_hex(8)}")


def _claim(root: str, job_started: float) -> tuple[str, int]:
    for _ in range(_ATTEMPTS):
        directory = f"{root}/{secrets.token_hex(8)}"
        files.make_directory(directory)
        # Until the lock is had, a sweeper may take this directory for a dead one's. Then another is made.
        with contextlib.suppress(FileNotFoundError):
            descriptor = files.lock(f"{directory}/{_LOCK}", create=True)
            if descriptor is not None:
                with contextlib.suppress(OSError):  # on a full disk; the others then evict nothing while it lives
                    files.write(descriptor, memoryview(f"{job_started!r}\n".encode()))
                with contextlib.suppress(OSError):  # whoever has looked since this directory came looks once more
                    files.touch(root)
                return directory, descriptor
    raise FileNotFoundError(root)


def _lives(directory: str) -> bool:
    descriptor = files.lock(f"{directory}/{_LOCK}")
    if descriptor is None:
        return True
    files.close(descriptor)
    return False


def _started(directory: str) -> float:
    try:
        return float(files.read(f"{directory}/{_LOCK}", 64) or b"")
    except ValueError:  # it is just about to say so
        return -math.inf


def _remove_all(directory: str) -> None:
    """Removes an owner's directory, the lock's name last, so that it is held until all else is gone.

    Intents that are not fulfilled stay, and the directory with them, for the next who sweeps.
    """
    with contextlib.suppress(OSError):
        for name in files.names(directory):
            path = f"{directory}/{name}"
            if name == _LOCK or (name.startswith(_INTENT) and files.size_of(path)):
                continue
            try:
                files.remove(path)
            except OSError:  # a directory, of a body in parts
                files.remove_tree(path)
        files.remove(f"{directory}/{_LOCK}")
        files.remove_directory(directory)
