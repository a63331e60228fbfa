"""Moving or copying a store to another place: from a directory to S3, back, or from bucket to bucket.

It can be stopped anywhere and run again: what the target has is not sent. Data goes before what refers to it, so that
the target never shows a run whose data is not there. The source is only touched, if at all, when everything that is to
go has been read back from the target and hashed.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncfetch.datastore.digests import measure
from asyncfetch.datastore.encoding import Encoded
from asyncfetch.datastore.errors import DataNotFound, MigrationIncomplete, RunNotFound
from asyncfetch.datastore.keeping import describe, keep, rely_on
from asyncfetch.datastore.layout import METADATA, TOUCHED, data_folder, manifest_key, model_key
from asyncfetch.datastore.marking import Unclear, needed, with_files
from asyncfetch.datastore.models import STAGES, ModelRegistry
from asyncfetch.datastore.runs import all_runs, get_run, pointers_of, publish
from asyncfetch.datastore.storage import for_each
from asyncfetch.datastore.threads import on_thread, to_its_end
from asyncfetch.errors import UsageError
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from asyncfetch.datastore.models import ModelVersion
    from asyncfetch.datastore.references import DataReference
    from asyncfetch.datastore.runs import Run
    from asyncfetch.datastore.storage import Storage
    from asyncfetch.datastore.store import DataStore
    from asyncfetch.objects import Entry

_STREAMS = 4  # each reads ahead, and sends what it has read one after another


@dataclass(slots=True)
class Migrated:
    """What a migration did. `data` and `bytes` were sent, `present` was at the target already."""

    data: int = 0
    bytes: int = 0
    present: int = 0
    runs: int = 0
    models: int = 0
    deleted: int = 0


async def migrate(
    source: DataStore,
    target: DataStore,
    *,
    run_ids: Collection[str] | None,
    delete_source: bool,
    seen: Callable[[int], object],
) -> Migrated:
    """Copies or moves; see `DataStore.migrate`."""
    result = Migrated()
    if delete_source:
        await _check_elsewhere(source.storage, target.storage)
    runs = await _chosen(source, target, run_ids, moving=delete_source)
    models = [
        model
        for model in await ModelRegistry(source).list_models()
        if run_ids is None or (model.run_id is not None and model.run_id in run_ids)
    ]
    data = await _data_of(source, runs, models, everything=run_ids is None)
    await target.storage.mark()
    await _copy(source, target, data, result, seen)

    async def one_run(run: Run) -> None:
        if not await publish(target.storage, run) and await get_run(target.storage, run.run_id) != run:
            raise MigrationIncomplete(f"{target.uri} has another run {run.run_id!r}")
        result.runs += 1

    async def one_model(model: ModelVersion) -> None:
        await ModelRegistry(target).restore(model)
        result.models += 1

    await for_each(runs, one_run)
    await for_each(models, one_model)
    if delete_source:
        await _read_back(target.storage, data, seen)
        result.deleted = await _delete(source.storage, runs, models, data)
    return result


async def _check_elsewhere(source: Storage, target: Storage) -> None:
    """Raises `UsageError` where both are one place, by whatever names: what is written to one shows in the other."""
    probe = f"asyncfetch-migration-{secrets.token_hex(8)}"
    await target.place.put(probe, b"", only_new=False)
    try:
        same = await source.read(probe) is not None
    finally:
        await to_its_end(asyncio.ensure_future(target.place.delete([probe])))
    if same:
        raise UsageError(f"{source.uri('')} and {target.uri('')} are one store: moving it would remove it")


async def _chosen(source: DataStore, target: DataStore, run_ids: Collection[str] | None, *, moving: bool) -> list[Run]:
    if run_ids is None:
        return await all_runs(source.storage)
    runs: list[Run] = []

    async def one(run_id: str) -> None:
        try:
            runs.append(await get_run(source.storage, run_id))
        except RunNotFound:
            if not moving:
                raise
            # A move that was stopped when its manifest was gone, and its data was not: the target tells what that was.
            runs.append(await get_run(target.storage, run_id))

    await for_each(run_ids, one)
    return runs


async def _data_of(
    source: DataStore, runs: list[Run], models: list[ModelVersion], *, everything: bool
) -> dict[tuple[str, str], DataReference]:
    """The data that runs and models need, or all that there is."""
    data: dict[tuple[str, str], DataReference] = {}
    if everything:
        async for stored in source.list():
            data[stored.digest, stored.reference.extension] = stored.reference
    trees: set[str] = set()
    references = [*(reference for run in runs for reference in run.data.values()), *(model.files for model in models)]
    async for item in with_files(source.storage, source.storage.data, references, trees):
        if isinstance(item, Unclear):
            raise MigrationIncomplete(f"{source.storage.uri(item.by)}: {item.error.message}") from item.error
        data[item.reference.digest, item.reference.extension] = item.reference
    return data


async def _copy(
    source: DataStore,
    target: DataStore,
    data: dict[tuple[str, str], DataReference],
    result: Migrated,
    seen: Callable[[int], object],
) -> None:
    missing: list[DataReference] = []

    async def look(reference: DataReference) -> None:
        try:
            folder = await rely_on(target.storage, reference)
        except DataNotFound:
            missing.append(reference)
        else:
            if not folder.described:
                await describe(target.storage, reference.digest, await told_of(reference))
            result.present += 1
            seen(0)

    async def told_of(reference: DataReference) -> dict[str, Any]:
        key = source.storage.data + data_folder(reference.digest) + METADATA
        return await source.storage.document(key) or reference.to_json()

    async def send(shard: list[DataReference]) -> None:
        async for reference, entry in _read(source.storage, shard):
            measured = await on_thread(measure, entry.filename)
            if measured.digest != reference.digest:
                uri = source.storage.uri(source.storage.data_key(reference))
                raise MigrationIncomplete(f"{uri}: its bytes do not have the digest that it is named by")
            encoded = Encoded(reference.kind, reference.extension, reference.digest, measured.size, entry.path)
            await keep(target.storage, encoded, await told_of(reference), target.storage.spool())
            result.data += 1
            result.bytes += measured.size
            seen(measured.size)

    await for_each(data.values(), look)
    missing.sort(key=lambda reference: reference.digest)
    await for_each([missing[first::_STREAMS] for first in range(_STREAMS)], send)


async def _read_back(
    target: Storage, data: dict[tuple[str, str], DataReference], seen: Callable[[int], object]
) -> None:
    async for reference, entry in _read(target, list(data.values())):
        if (await on_thread(measure, entry.filename)).digest != reference.digest:
            uri = target.uri(target.data_key(reference))
            raise MigrationIncomplete(
                f"{uri}: it was read back, and its bytes do not have the digest that it is named by"
            )
        seen(0)


async def _read(storage: Storage, references: list[DataReference]) -> AsyncIterator[tuple[DataReference, Entry]]:
    """Stored bytes, past the cache: each is needed once, and it is those that lie in the store that count."""
    sources = [(storage.place.at(storage.data_key(reference)), reference) for reference in references]
    async with storage.fetcher.entries(sources, cache=False, order="completion", on_error="yield") as stream:
        async for item in stream:
            if isinstance(item, Failure):
                raise MigrationIncomplete(str(item.exception)) from item.exception
            yield item.payload, item


async def _delete(
    source: Storage, runs: list[Run], models: list[ModelVersion], data: dict[tuple[str, str], DataReference]
) -> int:
    """Removes what was moved: first what refers to data, then the data that nothing else in the source needs."""
    await source.place.delete([manifest_key(run.run_id) for run in runs])
    await source.place.delete([model_key(stage, model.name, model.version) for model in models for stage in STAGES])
    await source.place.delete([key for run in runs for key in pointers_of(run)])
    still: set[str] = set()
    async for item in needed(source):
        if isinstance(item, Unclear):
            raise MigrationIncomplete(f"{source.uri(item.by)}: {item.error.message}") from item.error
        still.add(item.reference.digest)
    gone = [reference for reference in data.values() if reference.digest not in still]
    keys = [
        source.data + data_folder(reference.digest) + name
        for reference in gone
        for name in (f"data.{reference.extension}", METADATA, TOUCHED)
    ]
    await source.place.delete(keys)
    return len(gone)
