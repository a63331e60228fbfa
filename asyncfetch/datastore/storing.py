"""How objects, files and directories are stored: encoded, named by their bytes, and sent where these are new."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncfetch.datastore import trees
from asyncfetch.datastore.canonical import plain_metadata
from asyncfetch.datastore.encoding import encode, held
from asyncfetch.datastore.errors import NotStorable
from asyncfetch.datastore.keeping import keep
from asyncfetch.datastore.references import DataReference
from asyncfetch.datastore.storage import for_each
from asyncfetch.datastore.threads import on_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asyncfetch.datastore.encoding import Encoded
    from asyncfetch.datastore.storage import Storage


async def store(
    storage: Storage,
    obj: object,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    seen: Callable[[int], object] = lambda _: None,
) -> DataReference:
    """Stores an object; see `DataStore.store_data`."""
    said = plain_metadata(metadata, "metadata")
    if isinstance(obj, os.PathLike):
        path = Path(os.fspath(obj))
        name = _own_name(path) if name is None else _checked(name)
        if await on_thread(path.is_dir):
            return await _store_directory(storage, path, name, said, seen)
    reference = await _store_one(storage, obj, _checked(name), said)
    seen(reference.size)
    return reference


async def _store_one(storage: Storage, obj: object, name: str | None, said: dict[str, Any] | None) -> DataReference:
    spool = storage.spool()
    try:
        encoded = await on_thread(encode, obj, spool)
        await storage.mark()
        return await _keep(storage, encoded, spool, name, said)
    finally:
        spool.unlink(missing_ok=True)


async def _store_directory(
    storage: Storage, path: Path, name: str | None, said: dict[str, Any] | None, seen: Callable[[int], object]
) -> DataReference:
    found = await on_thread(trees.scan, path)
    references: dict[str, DataReference] = {}

    async def one(relative: str) -> None:
        reference = await _store_one(storage, path / relative, _own_name(path / relative), None)
        references[relative] = reference
        seen(reference.size)

    await for_each(found.files, one)
    await storage.mark()
    tree = held("directory", trees.encode_tree(found, references))
    return await _keep(storage, tree, storage.spool(), name, said)


async def _keep(
    storage: Storage, encoded: Encoded, spool: Path, name: str | None, said: dict[str, Any] | None
) -> DataReference:
    reference = DataReference(encoded.digest, encoded.size, encoded.kind, encoded.extension, name, said)
    extension = await keep(storage, encoded, reference.to_json(), spool)
    return DataReference(encoded.digest, encoded.size, encoded.kind, extension, name, said)


def _own_name(path: Path) -> str | None:
    return path.name if _is_plain(path.name) else None


def _is_plain(name: str) -> bool:
    """Whether a name has neither what a document cannot hold nor what a terminal would obey."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def _checked(name: str | None) -> str | None:
    if name is not None and not (isinstance(name, str) and _is_plain(name)):
        raise NotStorable(f"The name {name!a} of data is not text, or has control characters in it")
    return name
