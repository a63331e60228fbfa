"""Documents that say what they should not, lie where they should not, or are of a layout to come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncfetch.datastore import (
    DataDamaged,
    DataNotFound,
    DataReference,
    DataStore,
    DataStoreError,
    DocumentDamaged,
    ModelRegistry,
    NewerLayout,
)
from asyncfetch.datastore.lifecycle import lifecycle_rules
from asyncfetch.errors import UsageError
from tests.datastore.conftest import everywhere

DIGEST = "0a" * 32


async def put(store: DataStore, key: str, told: object) -> None:
    data = told if isinstance(told, bytes) else json.dumps(told).encode()
    await store.storage.place.put(key, data, only_new=False)


async def rewrite(store: DataStore, key: str, **changed: Any) -> None:
    told = await store.storage.document(key)
    assert told is not None
    await put(store, key, told | changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"run_id": 3},
        {"run_id": "other"},
        {"created": "2026-01-01T00:00:00"},
        {"created": "yesterday"},
        {"models": "m"},
        {"tags": [3]},
        {"data": {"x": {"digest": "sha256:0a"}}},
        {"data": {"x": {"digest": f"sha256:{DIGEST}", "size": 1, "kind": "bytes", "extension": "../../x"}}},
        {"data": []},
        {"metrics": None},
        {"layout": "1"},
    ],
)
async def test_a_manifest_that_says_nonsense_is_named(store: DataStore, changed: dict[str, Any]) -> None:
    await store.store_run("r", "train", data={"x": b"x"})
    await rewrite(store, "manifests/r.json", **changed)
    for asking in (store.get_run("r"), store.list_runs(), store.list_runs(type="train")):
        with pytest.raises(DocumentDamaged, match=r"manifests/r\.json"):
            await asking
    assert [finding.fault for finding in (await store.verify()).findings] == ["document"]
    with pytest.raises(DataStoreError, match="nothing is removed"):
        await store.gc()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"layout":1', b"[" * 100_000])
async def test_a_manifest_that_is_no_json_is_named(store: DataStore, data: bytes) -> None:
    await store.store_run("r", "train")
    await put(store, "manifests/r.json", data)
    with pytest.raises(DocumentDamaged, match=r"manifests/r\.json"):
        await store.get_run("r")


@pytest.mark.parametrize("changed", [{"name": "other"}, {"version": 3}, {"stage": "nowhere"}, {"files": None}])
async def test_a_record_that_says_nonsense_is_named(store: DataStore, tmp_path: Any, changed: dict[str, Any]) -> None:
    (tmp_path / "net").write_bytes(b"x")
    registry = ModelRegistry(store)
    model = await registry.register_model("m", tmp_path / "net")
    await rewrite(store, f"models/registry/m/{model.version}.json", **changed)
    with pytest.raises(DocumentDamaged, match="models/registry/m/"):
        await registry.get_model("m")
    with pytest.raises(DocumentDamaged, match="models/registry/m/"):
        await registry.list_models()


async def test_metadata_that_is_no_json_or_of_other_data_is_named(store: DataStore) -> None:
    one, other = await store.store_data(b"one"), await store.store_data(b"other")
    key = f"data/{one.digest[:2]}/{one.digest}/metadata.json"
    for told in (b"{", {"layout": 1}, {"layout": 1, **other.to_json()}):
        await put(store, key, told)
        with pytest.raises(DocumentDamaged, match=one.digest):
            await store.stat(one.digest)
        assert await store.retrieve_data(one) == b"one"
    await store.storage.place.delete([key])
    assert (await store.stat(one.digest)).reference == one
    await store.store_data(b"one", name="again")
    assert (await store.stat(one.digest)).reference.name == "again"


@pytest.mark.parametrize("key", ["manifests/r.json", "models/registry/m/v1.json"])
async def test_a_document_of_a_newer_layout_stops_what_would_have_to_know_it(store: DataStore, key: str) -> None:
    await store.store_data(b"x")
    await put(store, key, {"layout": 2})
    for asking in (store.list_runs() if "r.json" in key else ModelRegistry(store).list_models(), store.gc()):
        with pytest.raises(NewerLayout, match="Upgrade"):
            await asking


@everywhere
async def test_a_manifest_whose_data_is_gone_says_what_is_missing(store: DataStore) -> None:
    run = await store.store_run("r", "train", data={"x": b"x", "y": b"y"})
    await store.storage.place.delete([f"data/{run.data['x'].key}"])
    assert await store.get_run("r") == run
    with pytest.raises(DataNotFound, match=run.data["x"].digest):
        await store.retrieve_data(run.data["x"])
    assert await store.retrieve_data(run.data["y"]) == b"y"


async def test_bytes_that_are_not_those_of_their_digest_are_never_given(store: DataStore) -> None:
    reference = await store.store_data(b"right")
    await put(store, f"data/{reference.key}", b"wrong")
    with pytest.raises(DataDamaged, match="store the data again"):
        await store.retrieve_data(reference)
    await put(store, f"data/{reference.key}", b"short")
    await put(store, f"data/{reference.key}", b"not as long")
    await store.store_data(b"right")  # another size shows without reading
    assert await store.retrieve_data(reference) == b"right"


async def test_a_reference_that_leads_elsewhere_is_no_reference() -> None:
    told = DataReference(DIGEST, 1, "bytes", "bin").to_json()
    changes: list[dict[str, Any]] = [{"extension": "../x"}, {"size": -1}, {"kind": "x"}, {"name": 3}, {"metadata": []}]
    for changed in changes:
        with pytest.raises(DocumentDamaged):
            DataReference.from_json(told | changed)


async def test_a_store_under_another_prefix_is_not_opened(store: DataStore) -> None:
    await store.store_data(b"x")
    with pytest.raises(UsageError, match="'data'"):
        async with DataStore.at(store.uri, prefix="other", settings=store.storage.fetcher.settings):
            pass


def test_lifecycle_rules_are_such_as_s3_takes() -> None:
    """Held against the service's own model, in botocore."""
    import botocore.session
    from botocore.validate import ParamValidator

    rules = lifecycle_rules("team/", "data/", tier_after_days=30, keep_versions_days=7)
    shape = botocore.session.get_session().get_service_model("s3").shape_for("BucketLifecycleConfiguration")
    assert ParamValidator().validate(rules, shape).has_errors() is False
    assert ParamValidator().validate({"Rules": [{"Status": 3}]}, shape).has_errors()
    assert len({rule["ID"] for rule in rules["Rules"]}) == 3
    assert json.loads(json.dumps(rules)) == rules
