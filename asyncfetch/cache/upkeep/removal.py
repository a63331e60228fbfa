"""Removing from a cache: what is old, unused or too much (prune), what is named (rm), all or all that is old (clear).

What came of unfinished objects counts as used, and as written, when the last of it came.

Rows and files go together, in slices, each in one transaction under the index's write lock, as in an eviction. What
jobs have open they keep, and what they miss they fetch again.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from asyncfetch.cache import files
from asyncfetch.cache.changes import Change, lost, settle, split
from asyncfetch.cache.failures import explain, explained
from asyncfetch.cache.finding import UNLIMITED_SECONDS
from asyncfetch.cache.partials import Unfinished
from asyncfetch.cache.recovery import Intents
from asyncfetch.cache.sums import rows_of
from asyncfetch.cache.upkeep.catalog import BlobRow
from asyncfetch.cache.upkeep.reading import list_blobs
from asyncfetch.cache.upkeep.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from asyncfetch.cache.upkeep.catalog import Listed, OddRef
    from asyncfetch.cache.upkeep.session import Select, Upkeep

_Sized = TypeVar("_Sized", bound=BlobRow | Unfinished)

# Blobs removed under the index's write lock, for some 5 ms: what jobs keep of the index in their memory is worth
# nothing after each commit of another process, and they have to read it anew.
_TOGETHER = 512
# Of the time, that the write lock is taken at most. Whoever waits for it looks now and then whether it is free, at last
# every 0.1 s: with 0.8 a job of which half the looks were in vain besides gave up after its two seconds.
_SHARE = 0.5

# Digests of what was removed that are kept in memory, at 100 bytes each, to find the objects that name them.
_MOST_GONE = 1_000_000

_DROP_OBJECT = """
DELETE FROM refs WHERE endpoint = ? AND container = ? AND key = ? AND version = ? AND algorithm = ? AND digest = ?
"""
_DROP_ODD = f"""
{_DROP_OBJECT} AND size = ? AND NOT EXISTS (SELECT 1 FROM blobs
WHERE blobs.algorithm = refs.algorithm AND blobs.digest = refs.digest AND blobs.size = refs.size)
"""  # noqa: S608


class Gone(NamedTuple):
    """A blob that was removed, or would be."""

    size: int  # bytes


class Stuck(NamedTuple):
    """A blob, or what is unfinished, that could not be removed, and why."""

    path: str
    reason: str


def prune(
    keeping: Upkeep,
    *,
    max_bytes: int | None = None,
    unused_since: float | None = None,
    stored_before: float | None = None,
    dry_run: bool = False,
) -> Iterator[Gone | Unfinished | Stuck]:
    """Removes blobs, and what is unfinished, of which one of these holds, and tells each; times are in s since 1970.

    - no job has used it since `unused_since`;
    - it was written before `stored_before`;
    - it is among the least recently used, and all together have more than `max_bytes`.

    What is pinned stays, and what a job that runs has used. Pins do not hold what is unfinished. A `dry_run` tells the
    same and removes nothing. Raises `CacheUnusable`.
    """
    with explained(keeping.root):
        running, oldest_job = _jobs_since(keeping), keeping.owner.oldest_job()
        if not dry_run:
            keeping.index.limit()  # from now on uses are noted exactly
    removing = _Removing(keeping, spare_since=running, dry_run=dry_run)
    with explained(keeping.root), closing(removing):
        if stored_before is not None:
            yield from _remove_old(keeping, removing, stored_before)
            yield from removing.drop(_unfinished(keeping, min(stored_before, oldest_job)))
        if unused_since is not None:
            for page in keeping.catalog.unused(min(unused_since, running)):
                yield from removing.remove([row.digest for row in page])
            yield from removing.drop(_unfinished(keeping, min(unused_since, oldest_job)))
        if max_bytes is not None:
            parts = [one for one in _unfinished(keeping, oldest_job) if not removing.is_told(one.name)]
            yield from _remove_excess(keeping, removing, running, parts, max_bytes)
        if not dry_run:
            removing.forget()


def _jobs_since(keeping: Upkeep) -> float:
    """What was used at this time or later may be in use by a job that runs."""
    since = keeping.owner.oldest_job()
    exactly = since == keeping.owner.job_started or keeping.index.limited_since() <= since
    return since if exactly else since - UNLIMITED_SECONDS


def clear_old(keeping: Upkeep, stored_before: float, *, dry_run: bool = False) -> Iterator[Gone | Unfinished | Stuck]:
    """Removes what was written before a time, in seconds since 1970, pinned or used by a job or not.

    Raises `CacheUnusable`.
    """
    removing = _Removing(keeping, spare_since=None, dry_run=dry_run)
    with explained(keeping.root), closing(removing):
        yield from _remove_old(keeping, removing, stored_before)
        yield from removing.drop(_unfinished(keeping, stored_before))
        if not dry_run:
            removing.forget()


def remove(
    keeping: Upkeep, selection: Selection, *, dry_run: bool = False
) -> Iterator[Listed | Gone | Unfinished | Stuck]:
    """Forgets the objects that are meant, tells each, and removes the blobs that no other object shares.

    Pinned or used by a job or not. Needs some 100 bytes of memory for each object. Raises `CacheUnusable`.
    """
    free: set[str] = set()
    for page in keeping.catalog.refs(selection):
        if not dry_run:
            keeping.make([(_DROP_OBJECT, (*one.key, *split(one.known.ref.digest))) for one in page])
        for one in page:
            if one.known.used is not None:
                free.add(one.known.ref.digest)
                yield one
    for page in keeping.catalog.refs(Selection()) if free else ():
        free.difference_update(one.known.ref.digest for one in page if not (dry_run and selection.covers(one.key)))
    removing = _Removing(keeping, spare_since=None, dry_run=dry_run)
    with explained(keeping.root), closing(removing):
        yield from removing.remove(sorted(free))
        if not dry_run:
            removing.settle()
        meant = [one for one in _unfinished(keeping) if one.begun is not None and selection.covers(one.begun.key)]
        yield from removing.drop(meant)


def drop_odd(keeping: Upkeep, odd: Sequence[OddRef]) -> int:
    """Forgets objects that still have no blob of their size, and returns how many."""
    return keeping.make([(_DROP_ODD, (*one.key, *split(one.digest), one.size)) for one in odd])


class _Removing:
    """Removes blobs in slices, or says what it would remove."""

    def __init__(self, keeping: Upkeep, *, spare_since: float | None, dry_run: bool) -> None:
        """`spare_since`: what was used at this time or later stays, and what is pinned; None spares nothing."""
        self._keeping, self._spare_since, self._dry_run = keeping, spare_since, dry_run
        self._intents = Intents(keeping.owner)
        self.foretold: dict[str, int] = {}  # sizes by digests, or names, of what a dry run has told, and not removed
        self._stuck: set[str] = set()  # digests, or names, of what could not be removed
        self._gone: set[bytes] = set()  # digests of what was removed
        self._known_gone = 0  # of these, those that the index knew
        self._stale = keeping.catalog.stale()  # before that

    @property
    def told(self) -> list[str]:
        """The digests that were told of, of blobs that are still there."""
        return [name for name in (*self.foretold, *self._stuck) if ":" in name]

    def is_told(self, name: str) -> bool:
        """Whether a digest, or a name of something unfinished, was told of and is still there."""
        return name in self.foretold or name in self._stuck

    def remove(self, digests: Sequence[str]) -> Iterator[Gone | Stuck]:
        for start in range(0, len(digests), _TOGETHER):
            told: list[Gone | Stuck] = []
            look = partial(self._slice, digests[start : start + _TOGETHER], told)
            began = time.monotonic()
            self._keeping.change(look)
            self._intents.fulfil()
            took = time.monotonic() - began
            yield from told
            if not self._dry_run:
                time.sleep(took * (1 / _SHARE - 1))

    def drop(self, unfinished: Iterable[Unfinished]) -> Iterator[Unfinished | Stuck]:
        for one in unfinished:
            if self._dry_run:
                if one.name not in self.foretold:
                    self.foretold[one.name] = one.size
                    yield one
                continue
            try:
                gone = self._keeping.partials.remove(one)
            except OSError as error:
                path = self._keeping.partials.path(one.name)
                self._stuck.add(one.name)
                yield Stuck(path, str(explain(error, path)))
            else:
                if gone:
                    yield one

    def forget(self) -> None:
        """Forgets the objects of what was removed; where others had left some behind, those of all that has gone."""
        all_gone = self._stale != 0 or len(self._gone) > _MOST_GONE
        stale = self._keeping.catalog.stale() if all_gone else self._known_gone
        for page in self._keeping.catalog.odd_refs(None if all_gone else self._gone):
            drop_odd(self._keeping, page)
        self._keeping.make([settle(stale or 0)])

    def settle(self) -> None:
        """Says that the objects of what was removed had been forgotten before."""
        if self._stale is not None:
            self._keeping.make([settle(self._known_gone)])

    def close(self) -> None:
        self._intents.close()

    def _slice(self, digests: Sequence[str], told: list[Gone | Stuck], select: Select) -> list[Change]:
        victims: list[tuple[str, int | None]] = []
        names = [split(digest) for digest in digests]
        found = rows_of(names, select)
        for digest, name in zip(digests, names, strict=True):
            size, used, pinned = found.get(name, (None, 0.0, 0))
            if digest not in self.foretold and (self._spare_since is None or (not pinned and used < self._spare_since)):
                victims.append((digest, size))
        if self._dry_run:
            sizes = {digest: self._size_of(digest, size) for digest, size in victims}
            self.foretold.update(sizes)
            told.extend(map(Gone, sizes.values()))
            return []
        self._intents.declare(digest for digest, _ in victims)
        changes: list[Change] = []
        for digest, size in victims:
            path = self._keeping.blobs.path(digest)
            freed = self._size_of(digest, size)
            try:
                files.remove(path)
            except OSError as error:
                self._stuck.add(digest)
                told.append(Stuck(path, str(explain(error, path))))
            else:
                told.append(Gone(freed))
                changes.append(lost(digest))
                if len(self._gone) <= _MOST_GONE:
                    self._gone.add(split(digest)[1])
                self._known_gone += size is not None
        return changes

    def _size_of(self, digest: str, size: int | None) -> int:
        return (files.size_of(self._keeping.blobs.path(digest)) or 0) if size is None else size


def _remove_old(keeping: Upkeep, removing: _Removing, stored_before: float) -> Iterator[Gone | Stuck]:
    for shard in list_blobs(keeping.blobs.root):
        yield from removing.remove([one.digest for one in shard if one.modified < stored_before])


def _unfinished(keeping: Upkeep, before: float = math.inf) -> list[Unfinished]:
    """What is unfinished, and was written to before a time, the oldest first."""
    found = (one for one in keeping.partials.unfinished() if one.modified < before)
    return sorted(found, key=lambda one: one.modified)


def _remove_excess(
    keeping: Upkeep, removing: _Removing, before: float, parts: Sequence[Unfinished], max_bytes: int
) -> Iterator[Gone | Unfinished | Stuck]:
    """Removes blobs last used before a time, and `parts`, until `max_bytes` or less are left, the longest unused.

    Blobs go in the order of their digests, in which a slice has far fewer pages of the index to write.
    """

    def excess() -> int:
        found = keeping.totals()
        return found.blob_bytes + found.unfinished_bytes - max_bytes - sum(removing.foretold.values())

    gone = True
    while gone and (size := excess()) > 0:  # once more where something was stuck, or jobs added something meanwhile
        gone = False
        for step in _remove_unused(keeping, removing, before, parts, size):
            gone = gone or not isinstance(step, Stuck)
            yield step


def _remove_unused(
    keeping: Upkeep, removing: _Removing, before: float, parts: Sequence[Unfinished], size: int
) -> Iterator[Gone | Unfinished | Stuck]:
    """Removes the longest unused of so many bytes."""
    parts = [one for one in parts if not removing.is_told(one.name)]
    uses = [(one.modified, one.size) for one in parts]
    last, at_last = keeping.catalog.longest_unused(before, size, others=uses, but=removing.told)

    def goes(used: float, size: int) -> bool:
        nonlocal at_last
        if used == last and at_last > 0:
            at_last -= size
            return True
        return used < last

    yield from removing.drop([one for one in parts if goes(one.modified, one.size)])
    for page in keeping.catalog.unused(min(before, math.nextafter(last, math.inf))):
        rows = [row for row in page if not removing.is_told(row.digest)]
        yield from removing.remove([row.digest for row in rows if goes(row.used, row.size)])
