"""Streams of whole bodies: every byte, in order, within the budget, and whatever is wrong with single files named."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from asyncfetch import Body, Failure, Fetcher
from asyncfetch.cache import mounts
from asyncfetch.engine import bodies
from asyncfetch.errors import ObjectNotFound

if TYPE_CHECKING:
    from tests.objects import Bucket

MIB = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[str, int]]:
    """Files of 0 to 9,900 bytes that tell their number."""
    found = []
    for number in range(100):
        path = tmp_path / f"{number:03}.bin"
        path.write_bytes(bytes([number]) * (number * 100))
        found.append((str(path), number))
    return found


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_bodies_are_all_bytes_with_label_and_entry_beside_them(
    files: list[tuple[str, int]], cache_dir: Path, order: Literal["input", "completion"]
) -> None:
    seen = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        async for body in fetcher.bytes(files, order=order).shuffle(3).shard(0, 2):
            assert body.data == bytes([body.payload]) * (body.payload * 100)
            assert body.index == body.payload
            assert (body.uri, body.entry.size) == (files[body.index][0], len(body.data))
            seen.append(body.index)
    assert len(set(seen)) == 50
    if order == "input":
        async with Fetcher(cache_dir=cache_dir) as fetcher:
            assert seen == [entry.index async for entry in fetcher.entries(files).shuffle(3).shard(0, 2)]


async def test_batches_state_and_resume_are_those_of_other_streams(
    files: list[tuple[str, int]], cache_dir: Path
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        batches = fetcher.bytes(files).shuffle(5).batch(8)
        first = await anext(batches)
        state = json.loads(json.dumps(batches.state()))
        await batches.aclose()
        assert [len(body.data) for body in first.items] == [label * 100 for label in first.payloads]
        rest = [body.index async for body in fetcher.bytes(files).shuffle(5).resume(state)]
    assert sorted(first.indices + rest) == list(range(100))


async def test_bodies_of_a_bucket_are_downloaded_once_and_what_is_missing_is_named(
    cache_dir: Path, empty_bucket: Bucket
) -> None:
    bodies = [bytes([number]) * (number * 30_000) for number in range(20)]
    uris = [empty_bucket.put(f"{number:02}", body) for number, body in enumerate(bodies)]
    uris.insert(7, empty_bucket.uri("missing"))
    for warm in False, True:
        async with Fetcher(cache_dir=cache_dir, revalidate="never") as fetcher:
            items = [item async for item in fetcher.bytes(uris, on_error="yield")]
        missing = items.pop(7)
        assert isinstance(missing, Failure)
        assert isinstance(missing.exception, ObjectNotFound)
        found = [item for item in items if isinstance(item, Body)]
        assert [item.data for item in found] == bodies
        assert [item.entry.from_cache for item in found] == [warm] * 20
    assert empty_bucket.bodies() == 20


async def test_memory_stays_within_the_budget_and_comes_back_with_the_last_view(
    tmp_path: Path, cache_dir: Path
) -> None:
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(bytes([number]) * MIB)
    async with Fetcher(cache_dir=cache_dir, memory_budget=8 * MIB) as fetcher:
        views: list[Any] = []
        async for body in fetcher.bytes(paths):
            views.append(np.frombuffer(body.data, np.uint8)[5:])
            assert views[-1][0] == body.index
            if len(views) == 4:
                views.clear()
            del body
        assert fetcher.stats().memory_peak <= 8 * MIB
        assert fetcher.stats().memory == 0
        async for body in fetcher.bytes(paths[:1]):
            views.append(memoryview(body.data))
        del body
        assert fetcher.stats().memory == MIB
        views.clear()
        assert fetcher.stats().memory == 0


async def test_a_consumer_that_keeps_all_and_a_body_larger_than_the_budget_are_no_deadlock(
    tmp_path: Path, cache_dir: Path
) -> None:
    paths = []
    for number, size in enumerate([MIB, 9 * MIB, MIB, 20 * MIB, MIB, MIB]):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(bytes(size))
    async with Fetcher(cache_dir=cache_dir, memory_budget=4 * MIB) as fetcher:
        kept = [body async for body in fetcher.bytes(paths)]
        assert [len(body.data) for body in kept] == [path.stat().st_size for path in paths]
        assert len((await anext(fetcher.bytes(paths))).data) == MIB
        kept.clear()
        assert fetcher.stats().memory == 0


async def test_files_that_are_missing_or_change_between_look_and_reading_are_named_or_read_as_they_are(
    tmp_path: Path, cache_dir: Path, files: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        engine = fetcher._engine()
        submit = engine.bodies.submit

        def change(*jobs: Any) -> None:
            for job in jobs:
                if job.path == files[50][0]:
                    (tmp_path / "050.bin").write_bytes(b"grown" * 10_000)
                elif job.path == files[51][0]:
                    (tmp_path / "051.bin").write_bytes(b"short")
                elif job.path == files[52][0]:
                    (tmp_path / "052.bin").unlink()
            submit(*jobs)

        monkeypatch.setattr(engine.bodies, "submit", change)
        sources = [files[50], files[51], files[52], (str(tmp_path / "none"), 0), files[53]]
        grown, short, gone, missing, last = [item async for item in fetcher.bytes(sources, on_error="yield")]
        assert isinstance(grown, Body)
        assert grown.data == b"grown" * 10_000
        assert isinstance(short, Body)
        assert short.data == b"short"
        assert isinstance(gone, Failure)
        assert isinstance(gone.exception, ObjectNotFound)
        assert isinstance(missing, Failure)
        assert (missing.index, missing.payload) == (3, 0)
        assert isinstance(last, Body)
        assert engine.credits.held == len(grown.data) + len(short.data) + len(last.data)
        with pytest.raises(ObjectNotFound):
            await anext(fetcher.bytes([tmp_path / "none"]))


@pytest.mark.parametrize("how", ["break", "drop", "cancel", "close"])
async def test_leaving_bodies_leaves_nothing_charged(files: list[tuple[str, int]], cache_dir: Path, how: str) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        engine = fetcher._engine()
        stream = fetcher.bytes(files * 5)
        for _ in range(10):
            await anext(stream)
        if how == "cancel":
            step = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait([step])
            del step  # which may have the item
        if how == "drop":
            del stream
            gc.collect()
        elif how != "close":
            await stream.aclose()
        if how != "close":
            while engine.credits.held:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_what_is_in_memory_is_not_read_before_it_is_wanted(
    cache_dir: Path, empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, order: Literal["input", "completion"]
) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "tmpfs", "tmpfs")])
    uris = [empty_bucket.put(f"{number:02}", b"%d" % number * 1000) for number in range(40)]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.prefetch(uris)
        read: list[str] = []
        file = bodies._read_file

        def watched(path: str, *rest: Any) -> Any:
            read.append(path)
            return file(path, *rest)

        monkeypatch.setattr(bodies, "_read_file", watched)
        stream = fetcher.bytes(uris, order=order)
        for count in range(1, 41):
            body = await anext(stream)
            assert body.data == b"%d" % body.index * 1000
            assert count <= len(read) <= count + 1
        await stream.aclose()


async def test_a_blob_that_went_before_its_turn_is_fetched_once_more(
    cache_dir: Path, empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "tmpfs", "tmpfs")])
    uris = [empty_bucket.put(f"{number:02}", b"%d" % number * 1000) for number in range(20)]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        entries = [entry async for entry in fetcher.entries(uris)]
        stream = fetcher.bytes(uris)
        first = await anext(stream)
        Path(entries[7].filename).unlink()
        found = [first.data] + [body.data async for body in stream]
    assert found == [b"%d" % number * 1000 for number in range(20)]


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_files_that_the_loop_may_not_read_are_read_ahead_many_in_a_hop(
    files: list[tuple[str, int]],
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: Literal["input", "completion"],
) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "tmpfs", "tmpfs")])
    hops, read = list[int](), bodies._read_files

    def watched(given: Any) -> Any:
        hops.append(len(given))
        return read(given)

    monkeypatch.setattr(bodies, "_read_files", watched)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        assert len([body async for body in fetcher.bytes(files, order=order)]) == 100
    assert sum(hops) == 100
    assert len(hops) <= 20


async def test_what_is_there_is_not_kept_back_by_what_is_left_out(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "there").write_bytes(b"there")
    asked, answer = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, Fetcher(cache_dir=cache_dir) as fetcher:
        slow = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/slow"
        sources = [slow, str(tmp_path / "there"), str(tmp_path / "missing")]
        stream = fetcher.bytes(sources, order="completion", on_error="skip")
        assert (await anext(stream)).data == b"there"
        await asked.wait()
        answer.set()
        assert [body.data async for body in stream] == [b"slow"]
