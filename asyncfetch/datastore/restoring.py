"""Files and directories of a store, laid out where they are wanted: whole, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from asyncfetch.datastore.canonical import decode_json
from asyncfetch.datastore.digests import PIECE
from asyncfetch.datastore.encoding import decode
from asyncfetch.datastore.storage import for_each
from asyncfetch.datastore.threads import may_go_on, on_thread
from asyncfetch.datastore.trees import decode_tree, lay_out
from asyncfetch.errors import UsageError
from asyncfetch.whole import whole

_LONGEST = 255  # bytes of a name, on the usual file systems

if TYPE_CHECKING:
    from asyncfetch.datastore.references import DataReference
    from asyncfetch.datastore.storage import Storage
    from asyncfetch.datastore.trees import Tree, TreeFile


async def retrieve(storage: Storage, reference: DataReference, into: str | os.PathLike[str] | None) -> Any:
    """The object that was stored, or where its files are; see `DataStore.retrieve_data`."""
    place = None if into is None else Path(into)
    if reference.kind == "directory":
        return await _restore_directory(storage, await read_tree(storage, reference), place)
    entry = await storage.fetch(reference)
    if place is not None:
        return await _restore_file(entry.path, place, reference)
    if reference.kind == "file":
        return await on_thread(_link_file, entry.path, storage.spool(), reference)
    return await on_thread(decode, reference.kind, entry.path, storage.uri(storage.data_key(reference)))


async def read_tree(storage: Storage, reference: DataReference) -> Tree:
    """What a stored directory holds. Raises `DataNotFound`, `DataDamaged` and `DocumentDamaged`."""
    entry = await storage.fetch(reference)
    uri = storage.uri(storage.data_key(reference))
    return decode_tree(decode_json(await on_thread(entry.path.read_bytes), uri), uri)


async def _restore_file(source: Path, target: Path, reference: DataReference) -> Path:
    """Copies a file, into a directory under its name or to a path, and gives that. What is there is not replaced."""
    if await on_thread(target.is_dir):
        target /= _name(reference)
    await on_thread(_copy_whole, source, target)
    return target


def _link_file(source: Path, folder: Path, reference: DataReference) -> Path:
    """A link to a file, under its name, in a directory of its own. Blocks."""
    link = folder / _name(reference)
    link.parent.mkdir()
    link.symlink_to(source)
    return link


async def _restore_directory(storage: Storage, tree: Tree, into: Path | None) -> Path:
    """Lays out a directory: as copies at `into`, which must not be there or be empty, else as links in the scratch."""
    place = into or storage.spool()
    building = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}.part") if into is not None else place
    if into is not None:
        await on_thread(_check_free, place)
    try:
        await on_thread(lay_out, tree, building)

        async def one(file: TreeFile) -> None:
            entry = await storage.fetch(file.reference)
            target = building / file.path
            if into is None and not file.executable:
                await on_thread(target.symlink_to, entry.path)
            else:
                await on_thread(_copy, entry.path, target, 0o777 if file.executable else 0o666)

        await for_each(tree.files, one)
        if into is not None:
            await on_thread(_put_in_place, building, place)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await on_thread(shutil.rmtree, building, ignore_errors=True)
        raise
    return place


def _name(reference: DataReference) -> str:
    """The name of a file, if it was stored with one that can be one."""
    name = (reference.name or "").rpartition("/")[2]
    if name in ("", ".", "..") or len(name.encode()) > _LONGEST:
        return f"{reference.digest[:12]}.{reference.extension}"
    return name


def _check_free(place: Path) -> None:
    if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise UsageError(f"{place} is there already", remedy="Name a directory that is empty, or not there.")
    place.parent.mkdir(parents=True, exist_ok=True)


def _put_in_place(building: Path, place: Path) -> None:
    building.rename(place)  # over an empty directory, but no other


def _copy_whole(source: Path, target: Path) -> None:
    if target.exists():
        raise UsageError(f"{target} is there already", remedy="Name a file that is not.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as part:
        _copy(source, part, 0o666)


def _copy(source: Path, target: Path, mode: int) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)  # less what the umask takes
    with source.open("rb") as reading, os.fdopen(descriptor, "wb") as writing:
        while piece := reading.read(PIECE):
            may_go_on()
            writing.write(piece)
