"""Moving a store, or some runs of it, to another place, also when it is stopped on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.datastore import (
    DataStore,
    MigrationIncomplete,
    ModelRegistry,
    RunNotFound,
)
from asyncfetch.errors import UsageError
from tests.datastore.conftest import on_disk_and_rclone


@pytest.fixture
async def copy(store: DataStore, tmp_path: Path) -> AsyncIterator[DataStore]:
    """Another store, in a directory."""
    async with DataStore.at(tmp_path / "copy", fetcher=store.storage.fetcher) as copy:
        yield copy


class Stopping:
    """A place that ends what is done after so many writes or deletions."""

    def __init__(self, place: Any, when: int) -> None:
        self._place, self.left = place, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("stopped")

    async def put(self, *args: Any, **options: Any) -> bool:
        self._count()
        written: bool = await self._place.put(*args, **options)
        return written

    async def delete(self, keys: Any) -> None:
        self._count()
        await self._place.delete(keys)


async def filled(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "weights").write_bytes(b"w")
    await store.store_run("one", "train", data={"x": b"x", "both": b"b"}, project="p")
    await ModelRegistry(store).register_model("m", tmp_path / "net", run_id="one", description="d")
    await store.store_run("two", "train", data={"y": b"y", "both": b"b"})
    await store.store_data(b"of no run", name="a name", metadata={"a": 1})


async def everything(store: DataStore) -> tuple[Any, ...]:
    return (
        await store.list_runs(),
        await ModelRegistry(store).list_models(),
        [(stored.reference, stored.reference.name) async for stored in store.list(described=True)],
    )


@on_disk_and_rclone
async def test_a_copy_is_equal(store: DataStore, copy: DataStore, tmp_path: Path) -> None:
    await filled(store, tmp_path)
    moved = await store.migrate(copy)
    assert (moved.data, moved.present, moved.runs, moved.models, moved.deleted) == (6, 0, 2, 1, 0)
    assert await everything(copy) == await everything(store)
    assert [run.run_id for run in await copy.list_runs(model="m")] == ["one"]
    again = await store.migrate(copy)
    assert (again.data, again.bytes, again.present) == (0, 0, 6)


async def test_a_move_that_is_stopped_anywhere_goes_on_and_leaves_nothing(
    store: DataStore, copy: DataStore, tmp_path: Path
) -> None:
    await filled(store, tmp_path)
    whole = await everything(store)
    source, target = store.storage.place, copy.storage.place
    stops = 0
    for when in range(100):
        # Writes fail first at the target, then deletions at the source.
        store.storage.place = Stopping(source, when % 10)
        copy.storage.place = Stopping(target, 3 + when)
        try:
            moved = await store.migrate(copy, delete_source=True)
        except (ConnectionError, MigrationIncomplete):
            stops += 1
            continue
        break
    assert stops > 5
    assert moved is not None
    store.storage.place, copy.storage.place = source, target
    assert await everything(copy) == whole
    assert await everything(store) == ([], [], [])
    assert (await copy.verify()).findings == []


async def test_a_run_whose_move_was_stopped_after_its_manifest_goes_on(store: DataStore, copy: DataStore) -> None:
    run = await store.store_run("one", "train", data={"x": b"x"})
    await store.migrate(copy, run_ids=["one"])
    await store.storage.place.delete(["manifests/one.json"])
    with pytest.raises(RunNotFound):
        await store.migrate(copy, run_ids=["one"])
    assert (await store.migrate(copy, run_ids=["one"], delete_source=True)).deleted == 1
    assert not await store.exists(run.data["x"])
    assert await copy.get_run("one") == run
    with pytest.raises(RunNotFound):
        await store.migrate(copy, run_ids=["other"], delete_source=True)


async def test_what_was_said_of_data_follows_also_where_only_its_bytes_had_come(
    store: DataStore, copy: DataStore
) -> None:
    reference = await store.store_data(b"x", name="said", metadata={"a": 1})
    await store.migrate(copy)
    await copy.storage.place.delete([f"data/{reference.digest[:2]}/{reference.digest}/metadata.json"])
    await store.migrate(copy)
    stored = await copy.stat(reference.digest)
    assert (stored.reference.name, stored.reference.metadata) == ("said", {"a": 1})


@on_disk_and_rclone
async def test_a_store_is_not_moved_into_itself(store: DataStore, tmp_path: Path) -> None:
    await store.store_run("one", "train", data={"x": b"x"})
    root = store.uri
    if not root.startswith("s3:"):  # by another name
        (tmp_path / "link").symlink_to(tmp_path / "store")
        root = str(tmp_path / "link")
    async with DataStore.at(root, fetcher=store.storage.fetcher) as same:
        with pytest.raises(UsageError, match="one store"):
            await store.migrate(same, delete_source=True)
    assert (await store.verify()).findings == []
    assert len(await store.list_runs()) == 1


async def test_nothing_is_deleted_that_did_not_arrive(store: DataStore, copy: DataStore) -> None:
    run = await store.store_run("one", "train", data={"x": b"right"})
    await store.migrate(copy)
    await copy.storage.place.put(f"data/{run.data['x'].key}", b"wrong", only_new=False)
    with pytest.raises(MigrationIncomplete, match="read back"):
        await store.migrate(copy, delete_source=True)
    assert await store.retrieve_data(run.data["x"]) == b"right"
    await store.storage.place.put(f"data/{run.data['x'].key}", b"wrong", only_new=False)
    async with DataStore.at(copy.uri + "-2", fetcher=store.storage.fetcher) as other:
        with pytest.raises(MigrationIncomplete, match="digest"):
            await store.migrate(other, delete_source=True)
        assert await other.list_runs() == []
    assert len(await store.list_runs()) == 1


async def test_another_run_of_the_same_id_at_the_target_ends_a_move(store: DataStore, copy: DataStore) -> None:
    await store.store_run("one", "train", metrics={"loss": 1})
    await copy.store_run("one", "train", metrics={"loss": 2})
    with pytest.raises(MigrationIncomplete, match="another run 'one'"):
        await store.migrate(copy, delete_source=True)
    assert (await store.get_run("one")).metrics == {"loss": 1}
