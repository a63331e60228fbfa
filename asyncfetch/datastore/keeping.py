"""How bytes get into a store: once, whoever brings them, and safe from a garbage collection that runs meanwhile.

The rule that makes it safe, of which the other half is in `gc`. Who finds bytes in the store that have lain there for
an hour untouched writes `touched` beside them, and then looks again; a collection writes `condemned.<id>`, with an id
of its own, beside what it is about to remove, and then looks again. S3 shows every listing all that was written before
it (AWS: "Amazon S3 data consistency model"), so that one of the two sees the other's mark, or both do. A collection
that sees bytes touched takes its mark away and lets them be. A writer that sees them condemned waits until all marks
have gone, and then stores them anew if they have gone too.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.datastore.canonical import encode_json
from asyncfetch.datastore.errors import DataNotFound
from asyncfetch.datastore.layout import LAYOUT, METADATA, TOUCHED, data_folder, data_key
from asyncfetch.datastore.threads import on_thread

if TYPE_CHECKING:
    from typing import Any

    from asyncfetch.datastore.encoding import Encoded
    from asyncfetch.datastore.references import DataReference
    from asyncfetch.datastore.storage import Folder, Storage

# Bytes as young as this are left alone by every collection that may run beside writers, and need no touch.
FRESH = timedelta(hours=1)

# A collection removes what it has condemned within this time, or not at all; a mark that stays longer is a dead one's.
SENTENCE = 60.0  # seconds
_PATIENCE = 3 * SENTENCE
_LOOK = 0.2  # seconds between two looks at what is condemned


async def keep(storage: Storage, encoded: Encoded, told: dict[str, Any], spool: Path) -> str:
    """Sees that bytes are in a store, with what is told of them beside, and gives the extension that they have there.

    Nothing is sent that is there. What is there with another size is damaged, and replaced. What was told first stays.
    `spool` is where a body can be written to that is not a file yet; who gives it removes it.
    Cancelled or failing, they are in the store whole or not at all, and calling it again goes on from there.
    """
    folder = await _relied_on(storage, encoded.digest)
    there = next((extension for extension, size in folder.data.items() if size == encoded.size), None)
    if there is None:
        await _send(storage, encoded, spool, only_new=encoded.extension not in folder.data)
    if not folder.described:
        await describe(storage, encoded.digest, told)
    return there or encoded.extension


async def describe(storage: Storage, digest: str, told: dict[str, Any]) -> None:
    """Writes what is told of data beside it, unless something is."""
    key = storage.data + data_folder(digest) + METADATA
    await storage.place.put(key, encode_json({"layout": LAYOUT} | told), only_new=True)


async def rely_on(storage: Storage, reference: DataReference) -> Folder:
    """Sees that bytes which are said to be in a store are, and stay there. Raises `DataNotFound`."""
    folder = await _relied_on(storage, reference.digest)
    if folder.data.get(reference.extension) != reference.size:
        uri = storage.uri(storage.data_key(reference))
        raise DataNotFound(f"{uri}: there is no such data in the store", remedy="Store it first.")
    return folder


async def _relied_on(storage: Storage, digest: str) -> Folder:
    """What lies under a digest, after everybody was told that it is needed."""
    folder = await storage.folder(digest)
    fresh = folder.used is not None and await storage.place.now() - folder.used < FRESH
    if not folder.marks and (fresh or not folder.data):
        return folder
    await storage.place.put(storage.data + data_folder(digest) + TOUCHED, b"", only_new=False)
    seen: dict[str, float] = {}
    while (folder := await storage.folder(digest)).marks:
        now = time.monotonic()
        dead = [mark for mark in folder.marks if now - seen.setdefault(mark, now) > _PATIENCE]
        if dead:
            await storage.place.delete(dead)
        else:
            await asyncio.sleep(_LOOK)
    return folder


async def _send(storage: Storage, encoded: Encoded, spool: Path, *, only_new: bool) -> None:
    key = storage.data + data_key(encoded.digest, encoded.extension)
    body = encoded.body
    if not isinstance(body, bytes | Path):
        await on_thread(body, spool)
        body = spool
    await asyncio.to_thread(encoded.check)
    written = await storage.place.put(key, body, only_new=only_new, digest=encoded.digest)
    try:
        await asyncio.to_thread(encoded.check)
    except OSError:
        if written:  # under a digest that may not be its own
            await storage.place.delete([key])
        raise
