"""A cache for as long as a `with` lasts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncfetch.blocking.fetcher import Fetcher
from asyncfetch.cache.scratch import make_scratch
from asyncfetch.errors import UsageError
from asyncfetch.settings import CachePolicy

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from asyncfetch.cache.scratch import Scratch


class CacheManager:
    """A cache directory and a fetcher on it, as a context manager.

    A persistent one lies at `cache_dir`, else where every cache does. One that is not is a new directory below
    `cache_dir`, or below the system's temporary directory, and goes with all that is in it when the context is left; of
    a process that was killed, when the next is made there. `fetcher` is handed to `local_path` and the others.
    """

    def __init__(self, cache_dir: str | os.PathLike[str] | None = None, persistent: bool = True) -> None:
        self._cache_dir = cache_dir
        self._persistent = persistent
        self._scratch: Scratch | None = None
        self._fetcher: Fetcher | None = None
        self._pid = 0

    @property
    def dir(self) -> Path:
        """The cache's directory. Raises `UsageError` outside of `with`."""
        return self.fetcher.settings.cache.directory

    @property
    def fetcher(self) -> Fetcher:
        """The fetcher on this cache. Raises `UsageError` outside of `with`."""
        if self._fetcher is None:
            raise UsageError("This cache is not open", remedy="Use it inside `with`.")
        return self._fetcher

    def __enter__(self) -> Self:
        """Opens it. Raises `CacheUnusable` or `StorageFull`; then nothing is left."""
        if self._fetcher is not None:
            raise UsageError("This cache is open already", remedy="Make another one.")
        self._pid = os.getpid()
        if not self._persistent:
            self._scratch = make_scratch(self._cache_dir)
        chosen = self._cache_dir if self._scratch is None else self._scratch.path
        # Said in full, so that it stays the same whatever becomes of the environment.
        fetcher = Fetcher(cache_dir=CachePolicy(cache_dir=chosen).directory)
        try:
            self._fetcher = fetcher.open()
        finally:
            if self._fetcher is None:
                self._leave(fetcher)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fetcher, self._fetcher = self.fetcher, None
        self._leave(fetcher)

    def _leave(self, fetcher: Fetcher) -> None:
        scratch, self._scratch = self._scratch, None
        try:
            fetcher.close()
        finally:
            if scratch is not None and os.getpid() == self._pid:  # a forked child leaves it to its parent
                scratch.close()
