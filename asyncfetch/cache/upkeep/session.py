"""A command's way into a cache directory: beside the jobs that use it, with a connection of its own, on any thread."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from asyncfetch.cache.below import Below
from asyncfetch.cache.changes import make
from asyncfetch.cache.directory import versions
from asyncfetch.cache.opening import open_there
from asyncfetch.cache.upkeep.catalog import Catalog
from asyncfetch.errors import CacheUnusable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.changes import Change, Row
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.opening import Parts
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.partials import Partials
    from asyncfetch.cache.records import CacheStats
    from asyncfetch.settings import CachePolicy

# What SQLite keeps of the index in memory for a command, which walks over all of it. Each blob lies somewhere else:
# with the 2 MB that a job has, nearly all are read from the system once more for each object that names them.
_PAGES_KIB = 64 << 10


class Select(Protocol):
    """Selects within a transaction."""

    def __call__(self, statement: str, row: Row = ()) -> list[tuple[Any, ...]]:
        """All that a statement selects."""
        ...


class View(Protocol):
    """What a command works with that only looks at a cache."""

    @property
    def catalog(self) -> Catalog:
        """What the index knows."""
        ...

    def totals(self) -> CacheStats:
        """What lies in the cache, as far as it is known without a walk over all blobs."""
        ...


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a command works with, on one thread at a time."""

    root: str  # v1/ of the cache directory
    owner: Owner
    blobs: Blobs
    index: Index
    partials: Partials
    catalog: Catalog

    def totals(self) -> CacheStats:
        """What lies in the cache, as far as it is known without a walk over all blobs."""
        unfinished, size = self.partials.totals()
        return self.index.totals()._replace(unfinished=unfinished, unfinished_bytes=size)

    def change(self, look: Callable[[Select], Sequence[Change]]) -> int:
        """Lets `look` select what it needs while no other process can change it, and makes the changes that it returns.

        Returns the number of rows changed. Raises `CacheUnusable` where that cannot be written, and then nothing has
        changed.
        """

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("BEGIN IMMEDIATE")
            changed = make(connection, look(lambda statement, row=(): connection.execute(statement, row).fetchall()))
            connection.execute("COMMIT")
            return changed

        return self.index.change(work)

    def make(self, changes: Sequence[Change]) -> int:
        """Makes changes to the index in one transaction; the number of rows changed. Raises `CacheUnusable`."""
        return self.change(lambda select: changes)


@contextmanager
def upkeep(policy: CachePolicy, *, make: bool = True) -> Iterator[Upkeep]:
    """Opens a cache directory for a command, which blocks, and makes it if need be.

    Nothing of it lies on the cache's one thread: jobs go on, also those of this process. Raises `CacheUnusable` and
    `StorageFull` as `Cache.open` does, and `CacheUnusable` where no cache is and it may not `make` one, or it can only
    be read. Leaving removes the command's temporary files, however it is left.
    """
    found = _find(policy, make=make)
    if isinstance(found, Below):
        found.close()
        raise CacheUnusable(
            f"{policy.directory}: the cache can only be read, and this command may write it",
            remedy="Run it where the cache can be written, or on a copy.",
        )
    with _kept(found) as keeping:
        yield keeping


@contextmanager
def view(policy: CachePolicy) -> Iterator[View]:
    """Opens a cache directory as `upkeep` does, for a command that writes nothing: also one that can only be read."""
    found = _find(policy, make=False)
    if isinstance(found, Below):
        with closing(found):
            yield _Prepared(found, Catalog(found))
    else:
        with _kept(found) as keeping:
            yield keeping


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A view of a cache that can only be read. What is unfinished there, nobody can go on with: it is not counted."""

    below: Below
    catalog: Catalog

    def totals(self) -> CacheStats:
        return self.below.totals()


def _find(policy: CachePolicy, *, make: bool) -> Parts | Below:
    if not make and not versions(str(policy.directory)):
        raise CacheUnusable(f"{policy.directory}: there is no cache here", remedy="Say where it is with cache_dir.")
    return open_there(policy, None)


@contextmanager
def _kept(parts: Parts) -> Iterator[Upkeep]:
    try:
        with suppress(CacheUnusable):  # what needs the index will say so
            parts.index.ask(lambda connection: connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}"))
        root = parts.blobs.root
        top = root.rpartition("/")[0]
        yield Upkeep(top, parts.owner, parts.blobs, parts.index, parts.partials, Catalog(parts.index))
    finally:
        parts.index.close()
        parts.owner.close()
        parts.at_end()
