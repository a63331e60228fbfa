"""How much storing equal data once saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.datastore.layout import read_data_key
from asyncfetch.datastore.marking import Unclear, needed

if TYPE_CHECKING:
    from asyncfetch.datastore.storage import Storage


class DedupReport(NamedTuple):
    """What lies in a store, and what its runs and models refer to."""

    objects: int  # pieces of data
    bytes: int  # that they take
    references: int  # from manifests, models and directories, each directory counted once
    referenced_bytes: int  # that storing each of them by itself would take

    @property
    def saved_bytes(self) -> int:
        """What is not stored a second time; less than 0 where more lies there than is referred to."""
        return self.referenced_bytes - self.bytes

    @property
    def ratio(self) -> float:
        """Bytes referred to for each that is stored."""
        return self.referenced_bytes / self.bytes if self.bytes else 1.0


async def dedup_report(storage: Storage) -> DedupReport:
    """Counts; see `DataStore.dedup_report`."""
    objects = size = references = referenced = 0
    async for key, stat in storage.list(storage.data):
        told = read_data_key(key.removeprefix(storage.data))
        if told is not None and told.extension is not None:
            objects += 1
            size += stat.size
    async for item in needed(storage):
        if not isinstance(item, Unclear):
            references += 1
            referenced += item.reference.size
    return DedupReport(objects, size, references, referenced)
