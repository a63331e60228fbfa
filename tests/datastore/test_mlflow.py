"""Models of MLflow: a directory as it lays one out, and what needs its own package, which the tests do not have.

(https://mlflow.org/docs/latest/ml/model/, "Storage Format")
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from asyncfetch.datastore import DataStore, ModelRegistry, NotStorable
from asyncfetch.errors import ExtraMissing

MLMODEL = """\
artifact_path: model
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.pkl
    python_version: 3.11.7
  sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle}
model_uuid: 0a0a0a0a
"""


async def test_a_model_of_mlflow_comes_back_as_it_was_laid_out_and_is_never_unpickled(
    store: DataStore, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    (model / "metadata").mkdir(parents=True)
    files = {
        "MLmodel": MLMODEL.encode(),
        "model.pkl": b"cos\nsystem\n(S'exit 1'\ntR.",  # whoever loads it runs a command
        "conda.yaml": b"name: mlflow-env\n",
        "python_env.yaml": b"python: 3.11.7\n",
        "requirements.txt": b"scikit-learn\n",
        "metadata/MLmodel": MLMODEL.encode(),
    }
    for name, data in files.items():
        (model / name).write_bytes(data)
    registry = ModelRegistry(store)
    await registry.register_model("net", model)
    path = await registry.get_model("net")
    assert {str(found.relative_to(path)): found.read_bytes() for found in path.rglob("*") if found.is_file()} == files


@pytest.mark.parametrize(
    "given", ["runs:/0a0a/model", SimpleNamespace(info=SimpleNamespace(artifact_uri="file:///mlruns/0/0a0a/artifacts"))]
)
async def test_a_run_of_mlflow_says_what_reads_it(
    store: DataStore, given: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ExtraMissing, match="mlflow-skinny"):
        await ModelRegistry(store).register_model("net", given)
    assert [stored async for stored in store.list()] == []


async def test_what_is_no_path_is_no_model(store: DataStore) -> None:
    with pytest.raises(NotStorable, match="not dict"):
        await ModelRegistry(store).register_model("net", {"weights": 1})
