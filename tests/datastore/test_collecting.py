"""Garbage collections beside writers, beside each other, and after some that were killed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asyncfetch import Access, Fetcher
from asyncfetch.datastore import DataReference, DataStore, ModelRegistry, keeping
from asyncfetch.datastore.places import BucketPlace
from asyncfetch.testing import ScriptedServer, answer
from tests.datastore.conftest import on_disk_and_rclone

NOW = timedelta(0)
WEEK = timedelta(days=7)


class Watched:
    """A place that calls a test before what it does."""

    def __init__(self, place: Any, before: Callable[[str, Any], Awaitable[None]]) -> None:
        self._place, self._before = place, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    async def put(self, key: str, *args: Any, **options: Any) -> bool:
        await self._before("put", key)
        written: bool = await self._place.put(key, *args, **options)
        return written

    async def delete(self, keys: Sequence[str]) -> None:
        await self._before("delete", keys)
        await self._place.delete(keys)


def root(store: DataStore) -> Path:
    return Path(store.uri.removeprefix("file://"))


def folder(store: DataStore, reference: DataReference) -> Path:
    return root(store) / "data" / reference.digest[:2] / reference.digest


def age(path: Path, how_long: timedelta = timedelta(days=30)) -> None:
    """Makes files as old as if they had been written then."""
    then = time.time() - how_long.total_seconds()
    for file in [path, *path.rglob("*")]:
        os.utime(file, (then, then))


async def another(store: DataStore, opened: AsyncExitStack) -> DataStore:
    """The same store, as another process has it."""
    return await opened.enter_async_context(DataStore.at(store.uri, settings=store.storage.fetcher.settings))


async def test_what_a_writer_finds_while_it_is_condemned_is_spared(store: DataStore, opened: AsyncExitStack) -> None:
    reference = await store.store_data(b"old")
    age(folder(store, reference))
    other = await another(store, opened)
    writing: list[asyncio.Task[Any]] = []

    async def before(what: str, key: Any) -> None:
        if (
            what == "put" and "condemned" in key
        ):  # it is condemned as soon as this returns; the writer has looked before
            touched = asyncio.Event()

            async def told(what: str, key: Any) -> None:
                if key.endswith("/touched"):
                    touched.set()

            other.storage.place = Watched(other.storage.place, told)
            writing.append(asyncio.create_task(other.store_run("r", "train", data={"x": b"old"})))
            await touched.wait()
            while not (folder(store, reference) / "touched").exists():
                await asyncio.sleep(0)

    store.storage.place = Watched(store.storage.place, before)
    collected = await store.gc(dry_run=False)
    assert (collected.removed, collected.spared) == (0, 1)
    await asyncio.gather(*writing)
    assert (await store.verify()).findings == []
    assert sorted(path.name for path in folder(store, reference).iterdir()) == ["data.bin", "metadata.json", "touched"]


async def test_a_writer_waits_for_what_is_being_removed_and_stores_it_anew(
    store: DataStore, opened: AsyncExitStack
) -> None:
    reference = await store.store_data(b"old")
    age(folder(store, reference))
    other = await another(store, opened)
    writing: list[asyncio.Task[Any]] = []

    async def before(what: str, keys: Any) -> None:
        if what == "delete" and any(key.endswith("data.bin") for key in keys):  # it has looked, and will remove
            writing.append(asyncio.create_task(other.store_run("r", "train", data={"x": b"old"})))
            while not (folder(store, reference) / "touched").exists():
                await asyncio.sleep(0)

    store.storage.place = Watched(store.storage.place, before)
    assert (await store.gc(dry_run=False)).removed == 1
    await asyncio.gather(*writing)
    assert (await store.verify()).findings == []
    assert await store.retrieve_data(reference) == b"old"


async def test_a_collection_does_not_take_away_the_mark_of_another(store: DataStore, opened: AsyncExitStack) -> None:
    """Else a writer would store anew what the slower one is still about to remove."""
    reference = await store.store_data(b"old")
    age(folder(store, reference))
    slow, writer = await another(store, opened), await another(store, opened)
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def before(what: str, keys: Any) -> None:
        if what == "delete" and any(key.endswith("data.bin") for key in keys):
            looked.set()
            await go_on.wait()

    slow.storage.place = Watched(slow.storage.place, before)
    collecting = asyncio.create_task(slow.gc(dry_run=False))
    await looked.wait()
    assert (await store.gc(dry_run=False)).removed == 1  # the other is done, its mark gone
    waiting = asyncio.Event()

    async def touching(what: str, key: Any) -> None:
        waiting.set()

    writer.storage.place = Watched(writer.storage.place, touching)
    writing = asyncio.create_task(writer.store_run("r", "train", data={"x": b"old"}))
    await waiting.wait()
    go_on.set()
    await collecting
    await writing
    assert (await store.verify()).findings == []
    assert await store.retrieve_data(reference) == b"old"


async def test_marks_of_collections_that_were_killed_hold_nobody_up(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = await store.store_data(b"x")
    marks = [folder(store, reference) / f"condemned.{number:016x}" for number in range(2)]
    marks[0].touch()
    monkeypatch.setattr(keeping, "_PATIENCE", 0.0)
    await store.store_data(b"x")
    assert not marks[0].exists()
    marks[1].touch()
    alone = root(store) / "data" / "0a" / ("0a" * 32) / f"condemned.{0:016x}"
    alone.parent.mkdir(parents=True)
    alone.touch()
    await store.gc(dry_run=False)
    assert marks[1].exists()  # it could be that of one that is at work
    age(root(store))
    await store.gc()
    assert alone.exists()
    await store.gc(dry_run=False)
    assert not marks[1].exists()
    assert not alone.parent.exists()


async def test_files_of_a_directory_that_is_about_to_be_named_are_kept(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"a")
    reference = await store.store_data(tmp_path / "d")
    file = await store.store_data(b"a")
    age(folder(store, file))
    assert (await store.gc(dry_run=False)).removed == 0
    await store.store_run("r", "train", data={"d": reference})
    age(root(store))
    assert (await store.gc(dry_run=False)).kept == 2
    await store.delete_run("r")
    assert (await store.gc(dry_run=False)).removed == 2


async def test_a_model_that_is_promoted_meanwhile_is_kept(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"x")
    registry = ModelRegistry(store)
    model = await registry.register_model("m", tmp_path / "net", stage="development")
    age(root(store))
    assert (await store.gc(dry_run=False)).kept == 1
    await registry.promote("m", model.version)
    assert (await store.gc(dry_run=False)).kept == 1
    await registry.delete("m", model.version)
    assert (await store.gc(dry_run=False)).removed == 1


async def test_a_dry_collection_writes_nothing(store: DataStore) -> None:
    await store.store_data(b"x")
    before = {path: path.stat().st_mtime_ns for path in root(store).rglob("*")}
    assert (await store.gc(grace=NOW)).removed == 1
    assert {path: path.stat().st_mtime_ns for path in root(store).rglob("*")} == before


@on_disk_and_rclone
async def test_collections_and_writers_together_lose_nothing_that_is_named(store: DataStore) -> None:
    """Writers store runs of the same few data, whose runs others delete, while it is collected again and again."""
    done = asyncio.Event()
    grace = timedelta(hours=2)

    async def collect() -> None:
        while not done.is_set():
            await store.gc(grace=grace, dry_run=False)

    async def write(number: int) -> None:
        for turn in range(3):
            data = {"x": bytes([turn]), "y": bytes([number])}
            await store.store_run(f"{number}-{turn}", "train", data=data)
            if turn:
                await store.delete_run(f"{number}-{turn - 1}")

    collecting = asyncio.create_task(collect())
    await asyncio.gather(*map(write, range(3)))
    done.set()
    await collecting
    verified = await store.verify()
    assert (verified.findings, verified.referenced) == ([], 6)


async def test_two_who_make_and_remove_the_same_folder_do_not_fail(store: DataStore) -> None:
    place = store.storage.place

    async def write(number: int) -> None:
        for turn in range(30):
            await place.put("data/f/x", b"x", only_new=bool((turn + number) % 2))

    async def remove() -> None:
        for _ in range(30):
            await place.delete(["data/f/x"])

    await asyncio.gather(write(0), write(1), remove(), remove())


class Elsewhen:
    """A place whose clock is not this machine's."""

    def __init__(self, place: Any, ahead: timedelta) -> None:
        self._place, self._ahead = place, ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    async def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


async def test_how_old_something_is_its_servers_clock_says(store: DataStore) -> None:
    reference = await store.store_data(b"unneeded")
    place = store.storage.place
    assert (await store.gc(dry_run=False)).removed == 0
    # A writer whose clock stands still would find it fresh, and not touch what is about to be collected.
    store.storage.place = Elsewhen(place, timedelta(hours=2))
    assert await store.store_data(b"unneeded") == reference
    assert (folder(store, reference) / "touched").exists()
    store.storage.place = Elsewhen(place, WEEK + timedelta(hours=1))
    assert (await store.gc(dry_run=False)).removed == 1


async def test_a_buckets_clock_is_that_of_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: AsyncExitStack
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S" * 40)
    date = "Date: Fri, 24 May 2013 00:00:00 GMT"
    async with ScriptedServer(lambda request: answer(headers=[date])) as server:
        access = Access(endpoint_url=server.url, region="us-east-1")
        fetcher = await opened.enter_async_context(Fetcher(access=access, cache_dir=tmp_path / "cache"))
        place = BucketPlace(fetcher, "bucket", "root/", None)
        try:
            for _ in range(3):
                assert timedelta(0) <= await place.now() - datetime(2013, 5, 24, tzinfo=UTC) < timedelta(minutes=1)
            assert [request.method for request in server.requests] == ["HEAD"]
        finally:
            await place.aclose()


async def test_what_has_come_to_harm_is_mended_by_storing_it_again(store: DataStore) -> None:
    reference = await store.store_data(b"precious")
    await store.store_run("r", "train", data={"x": reference})
    data = folder(store, reference) / "data.bin"
    data.write_bytes(b"harmful!")
    (found,) = (await store.verify()).findings
    assert (found.fault, found.uri) == ("damaged", data.as_uri())
    data.unlink()
    assert {found.fault for found in (await store.verify()).findings} == {"missing"}
    assert await store.store_data(b"precious") == reference
    assert (await store.verify()).findings == []
    # One that was cut short is known by its size.
    data.write_bytes(b"prec")
    assert await store.store_data(b"precious") == reference
    assert await store.retrieve_data(reference) == b"precious"
