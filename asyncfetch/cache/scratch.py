"""A directory that goes with its owner: `<parent>/asyncfetch-<random>/`, for its user alone.

It may lie among strangers' files, in /tmp. Its lock file says by flock whether its owner lives, as in `owner`; what a
killed one left is removed by the next who makes one in the same place.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.failures import explain

if TYPE_CHECKING:
    import os

_LOCK = "lock"
_NAME = re.compile(r"asyncfetch-[0-9a-f]{16}\Z")
_ATTEMPTS = 100  # as an owner's: one fails only if a sweeper looks at it in the instant before it is locked


class Scratch:
    """One such directory, from its making until `close`."""

    def __init__(self, parent: str) -> None:
        """Makes it, and removes those of this user's whose owners are dead. Raises `OSError`."""
        _sweep(parent)
        self.path, self._lock = _claim(parent)

    def close(self) -> None:
        """Removes it with all that is in it."""
        files.remove_tree(self.path)
        files.close(self._lock)


def make_scratch(parent: str | os.PathLike[str] | None) -> Scratch:
    """Makes one below `parent`, which is made if need be, or below the system's temporary directory.

    Raises `CacheUnusable` or `StorageFull`.
    """
    import tempfile  # here and not above: what `import asyncfetch` takes is counted in milliseconds

    place = Path(parent or tempfile.gettempdir()).expanduser().absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Scratch(str(place))
    except OSError as error:
        raise explain(error, str(place)) from error


def _claim(parent: str) -> tuple[str, int]:
    for _ in range(_ATTEMPTS):
        path = f"{parent}/asyncfetch-{secrets.token_hex(8)}"
        files.make_directory(path, mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # a sweeper took it for a dead one's
            descriptor = files.lock(f"{path}/{_LOCK}", create=True)
            if descriptor is not None:
                return path, descriptor
    raise FileNotFoundError(parent)


def _sweep(parent: str) -> None:
    for name in files.names(parent):
        path = f"{parent}/{name}"
        if _NAME.match(name) and files.is_own_directory(path):
            with contextlib.suppress(OSError):
                descriptor = files.lock(f"{path}/{_LOCK}", create=True)
                if descriptor is not None:
                    files.remove_tree(path)
                    files.close(descriptor)
