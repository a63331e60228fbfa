"""The check of a whole cache, and its repair: the disk is read, and the index compared with it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from asyncfetch.cache import files
from asyncfetch.cache.changes import Change, lost, settle, split, stored
from asyncfetch.cache.failures import explained
from asyncfetch.cache.recovery import is_cleared
from asyncfetch.cache.upkeep.pins import mark_pinned
from asyncfetch.cache.upkeep.reading import ReadBlob, ShardDone, Strange, read_blobs
from asyncfetch.cache.upkeep.removal import drop_odd
from asyncfetch.cache.upkeep.selection import uri_of
from asyncfetch.settings import cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asyncfetch.cache.upkeep.session import Select, Upkeep

Kind = Literal["damaged", "strange", "unknown", "lost", "size", "ref", "sums"]

_SETTLED = 5.0  # s: older than this, a blob without a row is not one that a job is about to tell the index of
_REST = 62  # hexadecimal digits of a digest behind those of its shard
_CLEARING = 0.05  # s between looks whether a cache is still being cleared
_PATIENCE = 60.0  # s that a check waits for those who clear: one may have been stopped
_TOGETHER = 256  # rows looked at under the index's write lock: 5 ms

_SIZE = "SELECT size FROM blobs WHERE algorithm = ? AND digest = ?"
_SET_SUMS = """
UPDATE totals SET refs = (SELECT count(*) FROM refs), ref_bytes = (SELECT coalesce(sum(size), 0) FROM refs),
blobs = (SELECT count(*) FROM blobs), blob_bytes = (SELECT coalesce(sum(size), 0) FROM blobs)
"""


class Blob(NamedTuple):
    """A blob that was read, good or not."""

    size: int  # bytes


class Trouble(NamedTuple):
    """Something that is wrong.

    `kind` is `"damaged"` (bytes that are not those of the name), `"strange"` (no blob, and lies where blobs lie),
    `"unknown"` (a blob without a row), `"lost"` (a row without a blob), `"size"` (a row with another size), `"ref"` (an
    object with another size than its blob) or `"sums"` (the index's own sums). `name` is a path or a URI.
    """

    kind: Kind
    name: str
    detail: str
    mended: bool


class Stale(NamedTuple):
    """The objects whose blobs have gone: no trouble, each is fetched anew when it is asked for."""

    objects: int
    mended: bool


def check(keeping: Upkeep, *, repair: bool = False, threads: int | None = None) -> Iterator[Blob | Trouble | Stale]:
    """Checks a cache, beside the jobs that use it, and tells each blob and each trouble as it is found:

    1. Walk over `blobs/`. What is no blob by its name, place and kind is strange. Repair: it is set aside in `bad/`.
    2. Read each blob, on `threads` threads (one a core), and compare its digest with its name. Repair: a damaged one
       is set aside, its row removed.
    3. Compare each blob with its row. Repair: a blob without a row is adopted, a row without a blob removed, a size
       corrected.
    4. Compare the refs with the blobs that they name. Repair: those of no use are forgotten, and fetched anew one day.
    5. Compare the sums that the index keeps with its rows. Repair: they are counted anew.

    What another process is just writing or removing is looked at again before it is called a trouble; one that
    clears the cache is waited for, a minute at most, as it may have been stopped. Raises
    `CacheUnusable` and `StorageFull`. Closed early, or cancelled, what was mended stays mended.
    """
    young: dict[str, ReadBlob | None] = {}
    seen: defaultdict[str, list[ReadBlob]] = defaultdict(list)  # of the shards that are being read
    with explained(keeping.blobs.root):
        for item in read_blobs(keeping.blobs.root, threads or cores()):
            if isinstance(item, Strange):
                yield _strange(keeping, item, repair)
            elif isinstance(item, ReadBlob):
                yield Blob(item.size)
                seen[item.digest[:-_REST]].append(item)
            else:
                yield from _compare(keeping, item, seen.pop(f"{item.algorithm}:{item.shard}", []), young, repair)
        if young:
            time.sleep(_SETTLED)
            yield from _settle(keeping, young, repair)
    if repair:
        mark_pinned(keeping)
    yield from _check_refs(keeping, repair)
    yield from _check_sums(keeping, repair)


def _strange(keeping: Upkeep, found: Strange, repair: bool) -> Trouble:
    return Trouble("strange", found.path, found.fault, repair and _set_aside(keeping, found.path))


def _compare(
    keeping: Upkeep, shard: ShardDone, read: Sequence[ReadBlob], young: dict[str, ReadBlob | None], repair: bool
) -> Iterator[Trouble]:
    """Tells what is wrong in one shard, and puts off what may be right in a moment."""
    rows = {row.digest: row for row in keeping.catalog.blobs(shard.algorithm, shard.shard)}
    suspects: dict[str, ReadBlob | None] = {}
    proven: list[Change] = []  # what nothing vouched for before, as after a loss of power
    settled = time.time() - _SETTLED
    for blob in read:
        row = rows.pop(blob.digest, None)
        if blob.fault:
            yield _damaged(keeping, blob, repair)
        elif row is None and blob.modified > settled:
            young[blob.digest] = blob
        elif row is None or row.size != blob.size:
            suspects[blob.digest] = blob
        elif repair and not keeping.index.trusts(row.epoch):
            proven.append(stored(blob.digest, blob.size, blob.modified))
    if proven:
        keeping.make(proven)
    suspects.update(dict.fromkeys(rows))
    yield from _settle(keeping, suspects, repair)


def _damaged(keeping: Upkeep, blob: ReadBlob, repair: bool) -> Trouble:
    path = keeping.blobs.path(blob.digest)
    mended = False
    if repair:
        with contextlib.suppress(OSError):  # it is told as not mended
            keeping.blobs.set_aside(blob.digest)
            mended = True
    if mended:

        def look(select: Select) -> list[Change]:
            # By now the same bytes may have been fetched again.
            return [] if files.plain_size_of(path) is not None else [lost(blob.digest)]

        keeping.change(look)
    return Trouble("damaged", path, blob.fault, mended)


def _settle(keeping: Upkeep, suspects: dict[str, ReadBlob | None], repair: bool) -> Iterator[Trouble]:
    """Looks again where row and blob did not agree, while no process can change a row; what was read is given."""
    names, patience = list(suspects), _Patience(_PATIENCE)
    for start in range(0, len(names), _TOGETHER):
        yield from _settle_some(keeping, suspects, names[start : start + _TOGETHER], repair, patience)


@dataclass(slots=True)
class _Patience:
    """For how long it is waited yet, in seconds."""

    left: float


def _settle_some(
    keeping: Upkeep, suspects: dict[str, ReadBlob | None], digests: Sequence[str], repair: bool, patience: _Patience
) -> list[Trouble]:
    """Rows whose blobs are gone may be those of a cache that is being cleared, which is no trouble.

    Of an index, even, that has given way to another since it was opened for this: so they are looked at twice.
    """
    troubles: list[Trouble] = []
    doubt, first = True, True

    def cleared() -> bool:
        return patience.left > 0 and is_cleared(keeping.owner)

    def look(select: Select) -> list[Change]:
        nonlocal doubt
        changes: list[Change] = []
        troubles.clear()
        for digest in digests:
            found = select(_SIZE, split(digest))
            path, read = keeping.blobs.path(digest), suspects[digest]
            size = files.plain_size_of(path)
            kind, detail = judge(found[0][0] if found else None, size)
            if kind == "lost":
                changes.append(lost(digest))
            elif kind is None or read is None or size != read.size:
                continue  # all is well by now, or it came while we looked
            else:
                changes.append(stored(digest, read.size, read.modified))
            troubles.append(Trouble(kind, path, detail, repair))
        doubt = any(one.kind == "lost" for one in troubles) and (first or cleared())
        return changes if repair and not doubt else []

    while doubt:
        keeping.change(look)
        first = False
        while doubt and cleared():
            time.sleep(_CLEARING)
            patience.left -= _CLEARING
    return troubles


def judge(row_size: int | None, size: int | None) -> tuple[Kind | None, str]:
    """What is wrong between a blob's row and its file; None stands for one that is not there."""
    if row_size == size:
        return None, ""
    if row_size is None:
        return "unknown", "is not in the index"
    if size is None:
        return "lost", "is in the index, and not on the disk"
    return "size", f"has {size} bytes; the index says {row_size}"


def _check_refs(keeping: Upkeep, repair: bool) -> Iterator[Trouble | Stale]:
    stale, left = 0, keeping.catalog.stale()
    for page in keeping.catalog.odd_refs():
        if repair:
            drop_odd(keeping, page)
        for odd in page:
            if odd.blob_size is None:
                stale += 1
            else:
                detail = f"has {odd.size} bytes by the index, its blob {odd.blob_size}"
                yield Trouble("ref", uri_of(odd.key), detail, repair)
    if repair:
        keeping.make([settle(left or 0)])
    if stale:
        yield Stale(stale, repair)


def _check_sums(keeping: Upkeep, repair: bool) -> Iterator[Trouble]:
    counted, believed = keeping.catalog.sums()
    if counted != believed:
        if repair:
            keeping.make([(_SET_SUMS, ())])
        told = ", ".join(
            f"{name} {has:,} instead of {should:,}"
            for name, has, should in zip(counted._fields, believed, counted, strict=True)
            if has != should
        )
        yield Trouble("sums", f"{keeping.root}/index", told, repair)


def _set_aside(keeping: Upkeep, path: str) -> bool:
    """Moves what is no blob to where nobody looks for one; it may be dear to somebody. False where that fails."""
    bad = f"{keeping.root}/bad"
    try:
        files.make_directory(bad)
        files.rename(path, f"{bad}/{path.rpartition('/')[2]}.{secrets.token_hex(4)}")
    except OSError:
        return False
    return True
