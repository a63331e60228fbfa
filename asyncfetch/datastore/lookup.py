"""What a store says of the data that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.datastore.digests import read_digest
from asyncfetch.datastore.encoding import kind_of
from asyncfetch.datastore.errors import DataNotFound, DocumentDamaged
from asyncfetch.datastore.layout import METADATA, data_folder
from asyncfetch.datastore.references import DataReference, StoredData

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.datastore.storage import Folder, Storage


async def exists(storage: Storage, data: DataReference | str) -> bool:
    """Whether the store has data; see `DataStore.exists`."""
    if isinstance(data, DataReference):
        return (await storage.folder(data.digest)).data.get(data.extension) == data.size
    return bool((await storage.folder(read_digest(data))).data)


async def find(storage: Storage, data: DataReference | str) -> DataReference:
    """The reference that is given, or that the store has of a digest. Raises `InvalidDigest` and `DataNotFound`."""
    return data if isinstance(data, DataReference) else (await stat(storage, data)).reference


async def stat(storage: Storage, data: DataReference | str) -> StoredData:
    """What the store says of data; see `DataStore.stat`."""
    digest = data.digest if isinstance(data, DataReference) else read_digest(data)
    folder = await storage.folder(digest)
    if not folder.data:
        raise DataNotFound(f"{storage.uri(storage.data + data_folder(digest))}: there is no such data in the store")
    return await _told(storage, digest, folder, described=True)


async def all_data(storage: Storage, *, described: bool) -> AsyncIterator[StoredData]:
    """All data of a store; see `DataStore.list`."""
    async for digest, folder in storage.folders():
        if folder.data:
            yield await _told(storage, digest, folder, described=described)


async def _told(storage: Storage, digest: str, folder: Folder, *, described: bool) -> StoredData:
    reference: DataReference | None = None
    if described and folder.described:
        key = storage.data + data_folder(digest) + METADATA
        told = await storage.document(key)
        if told is not None:
            reference = DataReference.from_json(told, uri=storage.uri(key))
            if reference.digest != digest:
                raise DocumentDamaged(storage.uri(key), f"it is about other data, {reference.digest}")
    if reference is None or folder.data.get(reference.extension) != reference.size:
        extension, size = next(iter(folder.data.items()))
        reference = DataReference(digest, size, kind_of(extension), extension)
    return StoredData(reference, storage.uri(storage.data_key(reference)), folder.used)
