"""Writers beside each other, without permission half way, cancelled, in parts, and in another region."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncfetch import Access, Settings
from asyncfetch.datastore import DataStore, ModelRegistry, RunExists, SourceChanged
from asyncfetch.errors import AccessDenied, UsageError
from asyncfetch.testing import EmbeddedS3, RawRequest, ScriptedServer, answer
from tests.datastore.conftest import everywhere, on_moto
from tests.servers import s3_client


def temporary(store: DataStore) -> list[str]:
    """The names of its temporary files."""
    return [path.name for path in store.storage.scratch.iterdir() if path.name != "lock"]


@on_moto
async def test_what_two_store_at_once_is_written_once(
    store: DataStore, moto: EmbeddedS3, opened: AsyncExitStack
) -> None:
    bucket = store.uri.split("/")[2]
    s3_client(moto).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    other = await opened.enter_async_context(DataStore.at(store.uri, settings=store.storage.fetcher.settings))
    arrays = [np.full(10, number) for number in range(5)]
    ours, theirs = await asyncio.gather(*(asyncio.gather(*map(writer.store_data, arrays)) for writer in (store, other)))
    assert ours == theirs
    found = s3_client(moto).list_object_versions(Bucket=bucket)["Versions"]
    assert len([one for one in found if one["Key"].endswith("/data.npy")]) == 5
    assert len({one["Key"] for one in found}) == len(found)


@on_moto
async def test_of_two_runs_with_one_id_at_once_one_stays(store: DataStore) -> None:
    results = await asyncio.gather(
        *(store.store_run("r", "train", metrics={"n": number}) for number in range(3)), return_exceptions=True
    )
    [run] = [result for result in results if not isinstance(result, BaseException)]
    assert [type(result) for result in results if isinstance(result, BaseException)] == [RunExists] * 2
    assert await store.list_runs() == [run]


class Denying:
    """A little of S3 that lets nobody write below some prefix."""

    def __init__(self, denied: str) -> None:
        self.denied = denied
        self.objects: dict[str, bytes] = {}

    def __call__(self, request: RawRequest) -> bytes:
        path, _, query = request.target.partition("?")
        key = path.removeprefix("/bucket/")
        if "list-type=2" in query:
            return answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        if request.method == "PUT":
            if key.startswith(self.denied):
                return answer(b"<Error><Code>AccessDenied</Code></Error>", status="403 Forbidden")
            self.objects[key] = request.body
            return answer(headers=['ETag: "e"'])
        if key in self.objects and request.method == "GET":
            return answer(self.objects[key], headers=['ETag: "e"'])
        return answer(b"<Error><Code>NoSuchKey</Code></Error>", status="404 Not Found")


@pytest.mark.parametrize("denied", ["data/", "runs/by_type/", "manifests/"])
async def test_without_permission_half_way_there_is_no_run(
    denied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S" * 40)
    serving = Denying(denied)
    async with ScriptedServer(serving) as server:
        settings = Settings(access=Access(endpoint_url=server.url, region="us-east-1"))
        async with DataStore("bucket", settings=settings) as store:
            with pytest.raises(AccessDenied, match=rf"s3:PutObject.*bucket/{denied}"):
                await store.store_run("r", "train", data={"x": b"x", "y": b"y"})
    assert not any(key.startswith("manifests/") for key in serving.objects)


@on_moto
async def test_a_large_file_goes_in_parts_and_comes_back(store: DataStore, moto: EmbeddedS3, tmp_path: Path) -> None:
    body = os.urandom((9 << 20) + 1)
    (tmp_path / "large.bin").write_bytes(body)
    moto.reset_counts()
    reference = await store.store_data(tmp_path / "large.bin")
    assert reference.digest == hashlib.sha256(body).hexdigest()
    assert (await store.retrieve_data(reference)).read_bytes() == body
    bucket, _, root = store.uri.removeprefix("s3://").partition("/")
    key = f"{root}data/{reference.key}"
    head = s3_client(moto).head_object(Bucket=bucket, Key=key)
    assert head["ETag"].strip('"').endswith("-2")
    assert (await store.store_data(tmp_path / "large.bin")) == reference


async def test_a_bucket_in_another_region_is_found(
    moto: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.credentials.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.credentials.secret_access_key)
    bucket = f"store-{uuid.uuid4().hex[:12]}"
    s3_client(moto).create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    settings = Settings(access=Access(endpoint_url=moto.endpoint_url, region="us-west-2"))
    async with DataStore(bucket, settings=settings) as store:
        assert await store.retrieve_data(await store.store_data(b"x")) == b"x"


async def test_a_file_that_is_written_meanwhile_is_not_stored(store: DataStore, tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(9 << 20))
    place = store.storage.place

    class Meanwhile:
        def __getattr__(self, name: str) -> Any:
            return getattr(place, name)

        async def put(self, key: str, body: Any, **options: Any) -> bool:
            if key.endswith(".bin"):
                with path.open("ab") as file:
                    file.write(b"more")
            return await place.put(key, body, **options)

    store.storage.place = Meanwhile()
    with pytest.raises(SourceChanged):
        await store.store_data(path)
    store.storage.place = place
    assert [stored async for stored in store.list()] == []
    assert temporary(store) == []


@everywhere
async def test_a_cancelled_writer_leaves_whole_data_and_no_run(store: DataStore) -> None:
    data = {"x": b"x", "large": np.zeros(1 << 20), "json": {"a": 1}}
    turns = 0
    while True:
        task = asyncio.create_task(store.store_run("r", "train", data=data))
        for _ in range(turns):
            if task.done():
                break
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert temporary(store) == []
        turns = turns * 3 + 1
        if turns > 500:
            break
    assert (await store.verify()).findings == []
    run = await store.store_run("r", "train", data=data)
    assert await store.list_runs() == [run]
    assert await store.retrieve_data(run.data["json"]) == {"a": 1}
    assert (await store.verify()).findings == []


KEY_ARN = "arn:aws:kms:us-east-1:123456789012:key/mine"


@on_moto
async def test_everything_is_encrypted_as_it_is_said(
    place: tuple[str, Settings], moto: EmbeddedS3, tmp_path: Path
) -> None:
    uri, settings = place
    (tmp_path / "large.bin").write_bytes(bytes(9 << 20))
    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY_ARN, "StorageClass": "STANDARD_IA"}
    async with DataStore.at(uri, extra_args=extra, settings=settings) as store:
        data = {"small": b"x", "large": tmp_path / "large.bin"}
        await store.store_run("r", "train", project="p", data=data)
        await ModelRegistry(store).register_model("m", tmp_path / "large.bin")
        assert (await store.verify()).findings == []
    bucket, _, root = uri.removeprefix("s3://").partition("/")
    client = s3_client(moto)
    keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket, Prefix=root)["Contents"]]
    kinds = {key.removeprefix(f"{root}/").partition("/")[0] for key in keys}
    assert kinds >= {"data", "manifests", "runs", "models"}
    for key in keys:
        head = client.head_object(Bucket=bucket, Key=key)
        said = head.get("ServerSideEncryption"), head.get("SSEKMSKeyId"), head.get("StorageClass")
        assert said == ("aws:kms", KEY_ARN, "STANDARD_IA"), key


@pytest.mark.parametrize("extra", [{"Body": b"x"}, {"ContentType": "a/b"}, {"Metadata": {}}, {"NoSuch": "x"}])
async def test_arguments_that_a_store_cannot_pass_on_are_refused(
    extra: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S" * 40)
    async with ScriptedServer(Denying("nothing")) as server:
        settings = Settings(access=Access(endpoint_url=server.url, region="us-east-1"))
        async with DataStore("bucket", extra_args=extra, settings=settings) as store:
            with pytest.raises(UsageError, match=next(iter(extra))):
                await store.store_data(b"x")
