"""What the parts of a store work with: reads by the fetcher, writes by a place, and what lies under a digest."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from asyncfetch.datastore.canonical import decode_json, encode_json
from asyncfetch.datastore.digests import measure
from asyncfetch.datastore.errors import DataDamaged, DataNotFound, DocumentDamaged, NewerLayout
from asyncfetch.datastore.layout import LAYOUT, MANIFESTS, MARKER, METADATA, MODELS, data_folder, read_data_key
from asyncfetch.datastore.threads import on_thread
from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.objects import Failure
from asyncfetch.uris import parse

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from asyncfetch.datastore.places import Place
    from asyncfetch.datastore.references import DataReference
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Entry, ObjectStat

T = TypeVar("T")

AT_ONCE = 16  # objects stored at once: each is a few requests, of which the control plane bounds the number too


class Listed(NamedTuple):
    """An object of a store, by its key, and what the listing says of it."""

    key: str
    stat: ObjectStat


class Folder(NamedTuple):
    """What lies under a digest. `used` is when its youngest object was written, `marks` of collections left aside."""

    data: dict[str, int]  # sizes, by extension
    described: bool
    used: datetime | None
    keys: list[str]  # of all but the marks
    marks: dict[str, datetime | None]  # when each was written, by its key


class Storage:
    """One store's objects. Keys are relative to its root, those of data to `data`, which ends with a slash."""

    def __init__(self, fetcher: Fetcher, place: Place, data: str, scratch: Path) -> None:
        self.fetcher, self.place, self.data, self.scratch = fetcher, place, data, scratch
        self._marked = False

    def uri(self, key: str) -> str:
        """The URI of an object."""
        return str(self.place.at(key))

    def spool(self) -> Path:
        """A path for a temporary file of this machine, which nothing has."""
        return self.scratch / secrets.token_hex(8)

    # The marker, which says what layout the store has

    async def check_marker(self) -> None:
        """Raises `NewerLayout`, and `UsageError` where the store keeps its data under another prefix."""
        told = await self.document(MARKER)
        if told is None:
            return
        if told.get("data") != self.data.rstrip("/"):
            raise UsageError(
                f"{self.uri('')} has a store whose data lies under {told.get('data')!r}, not under {self.data!r}",
                remedy="Use that prefix, or another place.",
            )
        self._marked = True

    async def is_there(self) -> bool:
        """Whether anybody has stored anything here; a store whose marker was lost is one."""
        if self._marked:
            return True
        for prefix in (self.data, MANIFESTS, MODELS):
            async with aclosing(self.list(prefix)) as listing:
                async for _ in listing:
                    return True
        return False

    async def mark(self) -> None:
        """Writes the marker, if there is none. Called before anything else is written."""
        if not self._marked:
            await self.put_document(MARKER, {"digest": "sha256", "data": self.data.rstrip("/")})
            await self.check_marker()

    # Documents: small, and read from where they lie, as they may be new

    async def read(self, key: str) -> bytes | None:
        """The bytes of a small object; None when there is none."""
        try:
            return await self.fetcher.read_bytes(self.place.at(key), cache=False)
        except ObjectNotFound:
            return None

    async def document(self, key: str) -> dict[str, Any] | None:
        """A document. Raises `DocumentDamaged`, and `NewerLayout` for one of a layout that is not known."""
        data = await self.read(key)
        return None if data is None else self.parsed(key, data)

    async def documents(self, prefix: str) -> AsyncIterator[tuple[str, dict[str, Any] | DocumentDamaged]]:
        """All documents under a prefix, by their keys, several at once; those that are damaged as the error.

        The listing says which of them the cache has. Those that are deleted meanwhile are left out. Raises
        `NewerLayout`.
        """
        sources = ((listed.stat, listed.key) async for listed in self.list(prefix) if listed.key.endswith(".json"))
        async with self.fetcher.entries(sources, on_error="yield") as stream:
            async for item in stream:
                if isinstance(item, Failure):
                    if isinstance(item.exception, ObjectNotFound):
                        continue
                    raise item.exception
                try:
                    told: dict[str, Any] | DocumentDamaged
                    told = self.parsed(item.payload, await asyncio.to_thread(item.path.read_bytes))
                except DocumentDamaged as error:
                    told = error
                except FileNotFoundError:  # a directory's own file
                    continue
                yield item.payload, told

    async def put_document(self, key: str, told: dict[str, Any]) -> bool:
        """Writes a document where there is none; False where there is."""
        return await self.place.put(key, encode_json({"layout": LAYOUT} | told), only_new=True)

    def parsed(self, key: str, data: bytes) -> dict[str, Any]:
        """What a document says."""
        uri = self.uri(key)
        told = decode_json(data, uri)
        if not isinstance(told, dict) or type(told.get("layout")) is not int:
            raise DocumentDamaged(uri, "it is no document of a store")
        if told["layout"] > LAYOUT:
            raise NewerLayout(uri, told["layout"], LAYOUT)
        return told

    async def list(self, prefix: str) -> AsyncGenerator[Listed]:
        """What lies under a prefix, which ends with a slash."""
        base = len(self.place.at("").key)
        async with self.fetcher.list(self.place.at(prefix)) as listing:
            try:
                async for stat in listing:
                    yield Listed(parse(stat.uri).key[base:], stat)
            except ObjectNotFound:  # a directory that was never made
                return

    # Data

    def data_key(self, reference: DataReference) -> str:
        """The key of stored bytes."""
        return self.data + reference.key

    async def folder(self, digest: str) -> Folder:
        """What lies under a digest, which one request tells."""
        return _folder_of([listed async for listed in self.list(self.data + data_folder(digest))], len(self.data))

    async def folders(self) -> AsyncIterator[tuple[str, Folder]]:
        """What lies under each digest, in their order. What is no part of a store is left out."""
        gathered: builtins.list[Listed] = []
        at: str | None = None
        async for listed in self.list(self.data):
            told = read_data_key(listed.key.removeprefix(self.data))
            if told is None:
                continue
            if told.digest != at:
                if at is not None:
                    yield at, _folder_of(gathered, len(self.data))
                at, gathered = told.digest, []
            gathered.append(listed)
        if at is not None:
            yield at, _folder_of(gathered, len(self.data))

    async def fetch(self, reference: DataReference) -> Entry:
        """Stored bytes on the local disk, held against their digest.

        Raises `DataNotFound`, and `DataDamaged` where also what lies in the store, and not only the cache's copy, is
        damaged.
        """
        location = self.place.at(self.data_key(reference))
        for cache in (True, False):
            try:
                entry = await self.fetcher.fetch(location, cache=cache)
            except ObjectNotFound:
                raise DataNotFound(f"{location}: there is no such data in the store") from None
            if entry.digest == f"sha256:{reference.digest}":
                return entry
            try:
                if await on_thread(_hash, entry.filename) == reference.digest:
                    return entry
            except FileNotFoundError:
                raise DataNotFound(f"{location}: it was removed while it was read") from None
            if location.scheme == "file":
                break
        raise DataDamaged(
            f"{location}: its {entry.size:,} bytes do not have the digest that it is named by",
            remedy="Delete the object, and store the data again.",
        )


def _folder_of(listed: Iterable[Listed], base: int) -> Folder:
    """What objects of one folder say; `base` is how long the prefix of the data is."""
    folder = Folder({}, False, None, [], {})
    for key, stat in listed:
        told = read_data_key(key[base:])
        if told is None:
            continue
        if told.condemns:
            folder.marks[key] = stat.last_modified
            continue
        folder.keys.append(key)
        if told.extension is not None:
            folder.data[told.extension] = stat.size
        elif told.name == METADATA:
            folder = folder._replace(described=True)
        if stat.last_modified is not None and (folder.used is None or folder.used < stat.last_modified):
            folder = folder._replace(used=stat.last_modified)
    return folder


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[object]], at_once: int = AT_ONCE) -> None:
    """Does something with each of many, several at once.

    The first that fails ends the others, and its exception is raised when they have ended.
    """
    todo = iter(items)

    async def worker() -> None:
        for item in todo:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def sound(told: dict[str, Any] | DocumentDamaged) -> dict[str, Any]:
    """A document; raises the error of one that is damaged."""
    if isinstance(told, DocumentDamaged):
        raise told
    return told


def _hash(path: str) -> str:
    return measure(path).digest
