"""Runs, models, garbage and moves, in a directory, on moto and on rclone."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asyncfetch.datastore import (
    DataNotFound,
    DataStore,
    ModelNotFound,
    ModelRegistry,
    NewerLayout,
    NotStorable,
    RunExists,
    RunNotFound,
    StoreNotFound,
)
from asyncfetch.errors import UsageError
from tests.datastore.conftest import everywhere, settings_for

NOW = timedelta(0)


@everywhere
async def test_a_run_is_found_by_all_that_it_is(store: DataStore) -> None:
    run = await store.store_run(
        "r/1 ü", "train", project="a/b", data={"x": np.arange(3)}, tags=["q", "p"], metrics={"loss": 0.5}, models=["m"]
    )
    assert await store.get_run("r/1 ü") == run
    for found in (
        await store.list_runs(),
        await store.list_runs(project="a/b"),
        await store.list_runs(type="train", tags=["p"]),
        await store.list_runs(model="m"),
        await store.list_runs(since=timedelta(days=1)),
    ):
        assert found == [run]
    assert await store.list_runs(project="a") == await store.list_runs(tags=["z"]) == []
    same = {"project": "a/b", "tags": ["p", "q"], "metrics": {"loss": 0.5}, "models": ["m"]}
    assert await store.store_run("r/1 ü", "train", data={"x": np.arange(3)}, **same) == run  # type: ignore[arg-type]
    with pytest.raises(RunExists, match="r/1"):
        await store.store_run("r/1 ü", "train", data={"x": np.arange(4)}, **same)  # type: ignore[arg-type]
    await store.delete_run("r/1 ü")
    with pytest.raises(RunNotFound):
        await store.get_run("r/1 ü")
    assert await store.list_runs() == []


async def test_nothing_is_sent_of_a_run_that_is_not_json(store: DataStore) -> None:
    with pytest.raises(NotStorable):
        await store.store_run("r", "train", data={"x": b"x"}, metrics={"loss": float("nan")})
    with pytest.raises(NotStorable):
        await store.store_data(b"x", metadata={"a": {1: 2}})
    assert [stored async for stored in store.list()] == []


async def test_a_pointer_without_its_manifest_shows_no_run(store: DataStore) -> None:
    await store.store_run("r", "train", project="p", data={"x": b"x"})
    await store.storage.place.delete(["manifests/r.json"])
    assert await store.list_runs(project="p") == await store.list_runs() == []


async def test_a_reference_to_what_is_not_there_is_refused(store: DataStore) -> None:
    reference = await store.store_data(b"x")
    await store.gc(grace=NOW, dry_run=False)
    with pytest.raises(DataNotFound):
        await store.store_run("r", "train", data={"x": reference})
    with pytest.raises(DataNotFound):
        await store.retrieve_data(reference)
    with pytest.raises(DataNotFound):
        await store.stat("0a" * 32)
    assert not await store.exists(reference)


@everywhere
async def test_models_come_by_version_stage_and_latest(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(b"weights")
    registry = ModelRegistry(store)
    await store.store_run("r", "train")
    first = await registry.register_model("net/ü", tmp_path / "net.bin", stage="development", run_id="r")
    assert first.version.endswith(f"_{first.files.digest[:6]}")
    with pytest.raises(ModelNotFound, match="'development'"):
        await registry.get_model("net/ü")
    await registry.promote("net/ü", first.version)
    path = await registry.get_model("net/ü")
    assert (path.name, path.read_bytes()) == ("net.bin", b"weights")
    assert [(model.stage, model.version) for model in await registry.list_models()] == [("registry", first.version)]
    assert [run.run_id for run in await store.list_runs(model="net/ü")] == ["r"]
    await registry.delete("net/ü", first.version)
    with pytest.raises(ModelNotFound):
        await registry.get_model("net/ü")


@everywhere
async def test_only_what_nothing_refers_to_is_collected(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"a")
    await store.store_run("r", "train", data={"x": b"x", "d": tmp_path / "d"})
    await store.store_data(b"garbage")
    assert (await store.gc(grace=NOW)).removed == 1
    assert (await store.gc(dry_run=False)).removed == 0  # young
    assert (await store.verify()).findings == []
    assert (await store.gc(grace=NOW, dry_run=False)).removed == 1
    verified = await store.verify()
    assert (verified.objects, verified.referenced, verified.findings) == (3, 3, [])
    assert (await store.dedup_report()).objects == 3


async def test_damage_and_loss_are_found(store: DataStore) -> None:
    run = await store.store_run("r", "train", data={"x": b"x" * 10, "y": b"y"})
    await store.storage.place.put(f"data/{run.data['x'].key}", b"z" * 10, only_new=False)
    await store.storage.place.delete([f"data/{run.data['y'].key}"])
    assert sorted(finding.fault for finding in (await store.verify()).findings) == ["damaged", "missing"]
    await store.store_data(b"y")
    assert [finding.fault for finding in (await store.verify(quick=True)).findings] == []


@everywhere
async def test_a_move_goes_on_and_deletes_what_it_has_read_back(store: DataStore, tmp_path: Path) -> None:
    await store.store_run("one", "train", data={"x": b"x", "both": b"b"})
    await store.store_run("two", "train", data={"y": b"y", "both": b"b"})
    async with DataStore.at(tmp_path / "copy", settings=settings_for(None, tmp_path / "other")) as copy:
        await store.migrate(copy, run_ids=["one"])
        moved = await store.migrate(copy, run_ids=["one"], delete_source=True)
        assert (moved.data, moved.present, moved.deleted) == (0, 2, 1)
        assert [run.run_id for run in await store.list_runs()] == ["two"]
        assert (await store.verify()).findings == (await copy.verify()).findings == []
        assert await copy.retrieve_data((await copy.get_run("one")).data["x"]) == b"x"


async def test_sql_sees_its_table_and_no_file(store: DataStore) -> None:
    reference = await store.store_data(pd.DataFrame({"a": [1, 2, 3]}))
    assert (await store.query(reference, "SELECT max(a) AS m FROM data")).to_pylist() == [{"m": 3}]
    for sql in ("SELECT * FROM read_csv('/etc/passwd')", "nonsense", "SET enable_external_access = true"):
        with pytest.raises(UsageError):
            await store.query(reference, sql)


@pytest.mark.parametrize("left", ["manifests", "models"])
async def test_a_store_without_its_marker_and_its_data_is_there_for_what_is_left(tmp_path: Path, left: str) -> None:
    place = tmp_path / "store"
    (tmp_path / "net.bin").write_bytes(b"weights")
    async with DataStore.at(place) as made:
        await ModelRegistry(made).register_model("net", tmp_path / "net.bin")
        await made.store_run("r", "train")
    for path in place.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    async with DataStore.at(place, must_exist=True) as found:
        assert len(await found.list_runs()) == (left == "manifests")
        assert len(await ModelRegistry(found).list_models()) == (left == "models")
    shutil.rmtree(place / left)
    with pytest.raises(StoreNotFound):
        await DataStore.at(place, must_exist=True).__aenter__()


async def test_a_store_of_a_newer_layout_is_not_opened(store: DataStore) -> None:
    await store.storage.place.put("asyncfetch-store.json", b'{"layout":2}', only_new=False)
    with pytest.raises(NewerLayout, match="Upgrade"):
        async with DataStore.at(store.uri, settings=store.storage.fetcher.settings):
            pass
