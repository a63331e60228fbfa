"""Garbage collection: removing what no manifest and no model refers to, beside writers that do not wait for it.

What is collected was written, and last touched, longer ago than the grace period, by the clock that dates it.
`keeping` tells how a writer that finds such bytes and a collection that is about to remove them learn of each other. A
writer must name in a manifest what it stored within the grace period less an hour, which is where `keeping.FRESH`
comes in.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from asyncfetch.datastore.errors import DataStoreError
from asyncfetch.datastore.keeping import FRESH, SENTENCE
from asyncfetch.datastore.layout import mark_key
from asyncfetch.datastore.marking import Unclear, needed, with_files
from asyncfetch.datastore.references import DataReference
from asyncfetch.datastore.storage import for_each
from asyncfetch.datastore.threads import to_its_end
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.datastore.storage import Storage


@dataclass(slots=True)
class Collected:
    """What a collection removed, or would have where it was dry: pieces of data, and their bytes.

    `kept` pieces are referred to, `young` ones are not and were used within the grace period, `spared` ones were used
    by a writer while they were about to be removed.
    """

    removed: int = 0
    bytes: int = 0
    kept: int = 0
    young: int = 0
    spared: int = 0


async def collect(
    storage: Storage, grace: timedelta, *, dry_run: bool, seen: Callable[[str, int], object]
) -> Collected:
    """Collects what is not needed; see `DataStore.gc`."""
    if grace < timedelta(0):
        raise UsageError(f"grace must be a time of 0 or more, not {grace}")
    now = await storage.place.now()
    before = now - grace
    live = await _live(storage, before)
    result = Collected()
    doomed: list[tuple[str, int]] = []
    dead: list[str] = []  # marks of collections that were killed
    async for digest, folder in storage.folders():
        dead += [mark for mark, written in folder.marks.items() if written is not None and written < now - FRESH]
        if digest in live:
            result.kept += bool(folder.data)
        elif folder.used is None or folder.used >= before:
            result.young += bool(folder.data)
        else:
            doomed.append((digest, sum(folder.data.values())))
    if not dry_run:
        await storage.place.delete(dead)
        await storage.place.sweep(before)
    collection = secrets.token_hex(8)

    async def one(item: tuple[str, int]) -> None:
        digest, size = item
        if not dry_run and not await to_its_end(asyncio.ensure_future(_remove(storage, digest, before, collection))):
            result.spared += 1
            return
        result.removed += 1
        result.bytes += size
        seen(digest, size)

    await for_each(doomed, one)
    return result


async def _live(storage: Storage, before: datetime) -> set[str]:
    """The digests that are needed, and those of the files of directories that may be about to be."""
    live: set[str] = set()
    trees: set[str] = set()
    young = [
        DataReference(digest, folder.data["tree"], "directory", "tree")
        async for digest, folder in storage.folders()
        if "tree" in folder.data and folder.used is not None and folder.used >= before
    ]
    async for item in with_files(storage, storage.data, young, trees):
        if not isinstance(item, Unclear):
            live.add(item.reference.digest)
    live -= {reference.digest for reference in young}
    trees.clear()
    async for item in needed(storage):
        if isinstance(item, Unclear):
            raise DataStoreError(
                f"{storage.uri(item.by)}: it cannot be told what it needs, so that nothing is removed: "
                f"{item.error.message}",
                remedy="Store what is missing again, or delete the run or model.",
            )
        live.add(item.reference.digest)
    return live


async def _remove(storage: Storage, digest: str, before: datetime, collection: str) -> bool:
    """Removes what lies under a digest, unless somebody has come to need it."""
    mark = storage.data + mark_key(digest, collection)
    since = time.monotonic()
    await storage.place.put(mark, b"", only_new=False)
    folder = await storage.folder(digest)
    needed_now = folder.used is not None and folder.used >= before
    if not needed_now:
        # In time, or not at all: a writer waits for no more than three times as long. Failing, it may be half done, or
        # still on its way, and the mark stays.
        async with asyncio.timeout(SENTENCE - (time.monotonic() - since)):
            await storage.place.delete(folder.keys)
    await storage.place.delete([mark])
    return not needed_now
