"""Names with slashes, dots, blanks and letters of other scripts, for everything that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncfetch.datastore import DataStore, InvalidName, ModelRegistry
from tests.datastore.conftest import everywhere

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["a/b", "../up", "ünï/日本", "with blank", "100%25", "-rf", "a:b*?"]


@everywhere
async def test_everything_can_have_an_odd_name(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    models = ModelRegistry(store)
    for name in NAMES:
        run = await store.store_run(name, name, project=name, data={name: b"x"}, tags={name: name}, models=[name])
        assert await store.get_run(name) == run
        assert await store.list_runs(project=name) == [run]
        assert await store.list_runs(type=name) == [run]
        assert await store.retrieve_data(run.data[name]) == b"x"
        model = await models.register_model(name, tmp_path / "weights", run_id=name)
        assert (await models.get_model(name)).read_bytes() == b"w"
        assert (model.name, model.run_id) == (name, name)
    assert {run.run_id for run in await store.list_runs()} == set(NAMES)
    assert {model.name for model in await models.list_models()} == set(NAMES)
    assert (await store.verify()).findings == []
    assert (await store.gc()).removed == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("cache", "store")) == ["weights"]


@pytest.mark.parametrize("name", ["", "\ud800", "n" * 2000])
async def test_names_that_nothing_can_have(store: DataStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    for call in (
        store.store_run(name, "train"),
        store.store_run("r", name),
        store.store_run("r", "train", data={name: b"x"}),
        ModelRegistry(store).register_model(name, tmp_path / "weights"),
    ):
        with pytest.raises(InvalidName):
            await call
    assert await store.list_runs() == []
