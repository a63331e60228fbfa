"""The store without an event loop."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from asyncfetch.blocking import DataStore, Fetcher, ModelRegistry
from asyncfetch.datastore import DataNotFound, NotStorable, StoreNotFound
from asyncfetch.errors import FetcherClosed, UsageError


def test_data_runs_and_models(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "net").write_bytes(b"w")
    with Fetcher(cache_dir=cache_dir) as fetcher, DataStore.at(tmp_path / "s", fetcher=fetcher) as store:
        reference = store.store_data(np.arange(3), name="a")
        np.testing.assert_array_equal(store.retrieve_data(reference), np.arange(3))
        run = store.store_run("r", "train", data={"x": reference}, tags=["t"])
        assert store.get_run("r") == run == store.list_runs(tags=["t"])[0]
        assert (store.exists(reference), store.stat(reference).size) == (True, reference.size)
        registry = ModelRegistry(store)
        model = registry.register_model("m", tmp_path / "net", stage="development", run_id="r")
        assert registry.promote("m", "latest").stage == "registry"
        assert registry.get_model("m").read_bytes() == b"w"
        assert [one.version for one in registry.list_models()] == [registry.find("m").version] == [model.version]
        assert [stored.digest for stored in store.list()] == sorted([reference.digest, model.files.digest])
        assert (store.verify().findings, store.gc().removed, store.dedup_report().objects) == ([], 0, 2)
        with DataStore.at(tmp_path / "t", fetcher=fetcher) as other:
            assert store.migrate(other).data == 2
            assert other.uri != store.uri
        registry.delete("m", model.version)
        store.delete_run("r")
        assert store.gc(grace=timedelta(0), dry_run=False).removed == 2
        with pytest.raises(DataNotFound):
            store.retrieve_data(reference)
        with pytest.raises(NotStorable):
            store.store_data({"a": (1,)})
    with pytest.raises(FetcherClosed):
        store.list_runs()
    store.close()
    with pytest.raises(UsageError), store:
        pass


def test_a_listing_that_is_left_early_frees_its_part(tmp_path: Path) -> None:
    with DataStore.at(tmp_path / "s") as store:
        for number in range(3):
            store.store_data(bytes([number]))
        listing = store.list()
        next(listing)
        listing.close()  # type: ignore[attr-defined]  # a generator
        assert len(list(store.list())) == 3


def test_a_store_with_a_fetcher_of_its_own_works_inside_a_running_loop(tmp_path: Path) -> None:
    async def main() -> bytes:
        with DataStore.at(tmp_path / "s") as store:
            data: bytes = store.retrieve_data(store.store_data(b"x"))
            return data

    assert asyncio.run(main()) == b"x"


def test_what_is_no_place_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        DataStore.at("https://example.com/")
    with pytest.raises(UsageError):
        DataStore("bucket", prefix="a//b")
    with pytest.raises(FetcherClosed):
        DataStore.at(tmp_path / "s").list_runs()


def test_one_that_must_exist_is_made_by_others(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound), DataStore.at(tmp_path / "store", must_exist=True):
        pass
    with DataStore.at(tmp_path / "store") as store:
        reference = store.store_data({"epoch": 3})
    with DataStore.at(tmp_path / "store", must_exist=True) as store:
        assert store.retrieve_data(reference) == {"epoch": 3}
