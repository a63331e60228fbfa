"""What a store's manifests and models refer to: what is needed, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.datastore.errors import DataStoreError, DocumentDamaged
from asyncfetch.datastore.layout import MANIFESTS, model_prefix
from asyncfetch.datastore.models import STAGES, read_model
from asyncfetch.datastore.restoring import read_tree
from asyncfetch.datastore.runs import read_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from asyncfetch.datastore.references import DataReference
    from asyncfetch.datastore.storage import Storage


class Needed(NamedTuple):
    """Data that something refers to: `by` is the key of that, or of the directory that the data is a file of."""

    by: str
    reference: DataReference


class Unclear(NamedTuple):
    """Something that should refer to data, and cannot be read."""

    by: str
    error: DataStoreError


async def needed(storage: Storage) -> AsyncIterator[Needed | Unclear]:
    """What all manifests and models refer to, the files of directories too, each directory read once.

    Models are looked for in the stage from which they are promoted before the one to which they are: one that moves
    meanwhile is met.
    """
    seen: set[str] = set()
    for prefix in (MANIFESTS, *map(model_prefix, STAGES)):
        async for key, told in storage.documents(prefix):
            try:
                if isinstance(told, DocumentDamaged):
                    raise told
                if prefix == MANIFESTS:
                    references = list(read_run(storage, key, told).data.values())
                else:
                    references = [read_model(storage, key, told).files]
            except DataStoreError as error:
                yield Unclear(key, error)
                continue
            async for item in with_files(storage, key, references, seen):
                yield item


async def with_files(
    storage: Storage, by: str, references: Iterable[DataReference], seen: set[str]
) -> AsyncIterator[Needed | Unclear]:
    """References, and behind each directory, unless it was `seen`, those of its files."""
    for reference in references:
        yield Needed(by, reference)
        if reference.kind != "directory" or reference.digest in seen:
            continue
        seen.add(reference.digest)
        key = storage.data_key(reference)
        try:
            tree = await read_tree(storage, reference)
        except DataStoreError as error:
            yield Unclear(key, error)
            continue
        for file in tree.files:
            yield Needed(key, file.reference)
