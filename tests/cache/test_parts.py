"""Bodies in parts: in whatever order bytes come, the body is what came, and nothing stays of one that was given up."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.cache import PART_MEMORY, PartedBody, PartSink, Published, files
from asyncfetch.cache.sinks import PIECE
from asyncfetch.errors import CacheUnusable, FetcherClosed, StorageFull
from tests.soak import examples

from .helpers import HASHES, blobs, key, leftovers, look_up, opened, owners, taken

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.settings import Digest

NOISE = random.Random(13).randbytes(8 * PIECE + 777)


async def pour(sink: PartSink, *, step: int = 1 << 30) -> None:
    """Puts what belongs there into a part."""
    while sink.at < sink.stop:
        if (pause := sink.drain()) is not None:
            await pause
        put(sink, step)


def put(sink: PartSink, step: int = 1 << 30) -> None:
    room = sink.get_buffer(sink.stop - sink.at)
    count = min(len(room), step)
    room[:count] = NOISE[sink.at : sink.at + count]
    sink.advance(count)


@settings(max_examples=examples(30), deadline=None)
@given(
    cuts=st.lists(st.integers(1, len(NOISE) - 1), max_size=6, unique=True),
    seed=st.integers(0, 1 << 32),
    steps=st.lists(st.integers(20_000, 400_000), min_size=1, max_size=10),
    digest=st.sampled_from(["blake3", "sha256"]),
)
def test_parts_in_any_order_and_any_split_give_the_same_body(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], seed: int, steps: list[int], digest: Digest
) -> None:
    async def run() -> None:
        async with opened(tmp_path_factory.getbasetemp() / "any-order", digest) as cache:
            parted = cache.parted(len(NOISE))
            edges = [0, *sorted(cuts), len(NOISE)]
            sinks = [parted.part(start, stop) for start, stop in itertools.pairwise(edges)]
            left, turn, order = sinks[:], 0, random.Random(seed)
            while left:
                sink = order.choice(left)
                if (pause := sink.drain()) is not None:
                    await pause
                put(sink, steps[turn % len(steps)])
                turn += 1
                if order.random() < 0.1:
                    await sink.flush()  # as after an attempt that broke
                if sink.at == sink.stop:
                    left.remove(sink)
            for sink in sinks:
                await sink.flush()
            body = await parted.finish()
            assert (body.size, body.digest) == (len(NOISE), f"{digest}:{HASHES[digest](NOISE)}")
            assert Path(body.path).read_bytes() == NOISE
            body.release()
            parted.abort()
            assert cache.statistics().buffer_bytes == 0

    asyncio.run(run())


async def test_a_body_in_parts_is_published_as_any_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        last, first = parted.part(PIECE, len(NOISE)), parted.part(0, PIECE)
        for sink in (last, first):
            await pour(sink)
            await sink.flush()
        body = await parted.finish()
        published: Published = await taken(lambda done: cache.publish(body, key("large"), done))
        assert Path(published.path).read_bytes() == NOISE
        (found,) = await look_up(cache, key("large"))
        assert found is not None
        assert found.ref.digest == published.digest
        assert not leftovers(tmp_path)


async def test_a_part_grows_when_its_end_is_moved_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        sink = parted.part(0, 10)
        await pour(sink)
        with pytest.raises(ValueError, match="whole"):
            sink.get_buffer(1)
        sink.stop = len(NOISE)
        await pour(sink)
        await sink.flush()
        assert (await parted.finish()).digest == "blake3:" + HASHES["blake3"](NOISE)


async def test_room_ends_with_the_part_and_more_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        sink = parted.part(5, 5 + PIECE + 100)
        assert len(sink.get_buffer(-1)) == PIECE
        assert len(sink.get_buffer(7)) == 7
        for count in (-1, PIECE + 1):
            with pytest.raises(ValueError, match="not written"):
                sink.advance(count)
        sink.advance(PIECE)
        assert len(sink.get_buffer(-1)) == 100
        for start, stop in ((-1, 5), (5, 5), (6, 5), (0, len(NOISE) + 1)):
            with pytest.raises(ValueError, match="no part"):
                parted.part(start, stop)
        sink.close()


async def test_a_body_with_a_gap_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        sink = parted.part(1, len(NOISE))
        await pour(sink)
        await sink.flush()
        with pytest.raises(ValueError, match=f"{len(NOISE) - 1} of {len(NOISE)} bytes"):
            await parted.finish()
        parted.abort()


class Gate:
    """Holds every write up until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        write_at = files.write_at

        def held_up(descriptor: int, data: memoryview, offset: int) -> None:
            self.entered.set()
            self.gate.wait()
            write_at(descriptor, data, offset)

        monkeypatch.setattr(files, "write_at", held_up)


async def until_paused(sink: PartSink) -> asyncio.Future[None]:
    while (pause := sink.drain()) is None:
        put(sink)
    return pause


async def test_parts_that_outrun_the_disk_have_to_wait_each_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Gate(monkeypatch)
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        pauses = [await until_paused(parted.part(start, start + 4 * PIECE)) for start in (0, 4 * PIECE)]
        assert cache.statistics().buffer_bytes <= 2 * PART_MEMORY
        assert not any(pause.done() for pause in pauses)
        disk.gate.set()
        await asyncio.gather(*pauses)
        parted.abort()


async def test_given_up_in_the_middle_of_a_write_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Gate(monkeypatch)
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        sink = parted.part(0, len(NOISE))
        await until_paused(sink)
        await asyncio.to_thread(disk.entered.wait)
        assert len(leftovers(tmp_path)) == 1
        flushing = asyncio.create_task(sink.flush())
        await asyncio.sleep(0)
        parted.abort()
        parted.abort()
        disk.gate.set()
        with pytest.raises(FetcherClosed):
            await flushing
        with pytest.raises(FetcherClosed):
            await parted.finish()
        await _gone(tmp_path)
        assert cache.statistics().buffer_bytes == 0
    assert not owners(tmp_path)
    assert not blobs(tmp_path)


async def test_given_up_between_writes_nothing_is_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        sink = parted.part(PIECE, len(NOISE))
        put(sink)
        put(sink, 10)
        await sink.flush()
        assert len(leftovers(tmp_path)) == 1
        parted.abort()
        await _gone(tmp_path)
        assert cache.statistics().buffer_bytes == 0


async def test_finish_cancelled_while_the_disk_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Gate(monkeypatch)
    async with opened(tmp_path) as cache:
        parted = cache.parted(PIECE)
        put(parted.part(0, PIECE))
        finishing = asyncio.create_task(parted.finish())
        await asyncio.to_thread(disk.entered.wait)
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
        parted.abort()
        disk.gate.set()
        await _gone(tmp_path)
        while cache.statistics().buffer_bytes:
            await asyncio.sleep(0)


async def test_a_cache_that_closes_ends_bodies_in_parts(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        parted = cache.parted(len(NOISE))
        sink = parted.part(0, len(NOISE))
        put(sink)
        await sink.flush()
        await cache.aclose()
        with pytest.raises(FetcherClosed):
            sink.drain()
        with pytest.raises(FetcherClosed):
            cache.parted(1)
    assert not owners(tmp_path)


async def test_a_directory_that_was_swept_is_made_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        for owner in owners(tmp_path):
            for file in owner.iterdir():
                file.unlink()
            owner.rmdir()
        parted = cache.parted(PIECE)
        sink = parted.part(0, PIECE)
        await pour(sink)
        await sink.flush()
        assert (await parted.finish()).size == PIECE


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, StorageFull), (errno.EIO, CacheUnusable)])
@pytest.mark.parametrize("function", ["create", "write_at", "read_at", "close"])
async def test_failure_of_any_call_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, expected: type[OSError]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async def fill(parted: PartedBody) -> None:
        late, early = parted.part(0, PIECE), parted.part(PIECE, len(NOISE))
        for sink in (early, late):
            await pour(sink)
            await sink.flush()
        await parted.finish()

    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, function, refuse)
            parted = cache.parted(len(NOISE))
            with pytest.raises(expected) as caught:
                await fill(parted)
            assert (caught.value.errno, caught.value.filename is not None) == (number, True)
            assert str(tmp_path) in str(caught.value)
            parted.abort()
            await _gone(tmp_path)
        while cache.statistics().buffer_bytes:
            await asyncio.sleep(0)


async def test_a_file_that_was_cut_short_is_never_taken_for_the_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(read_at: Callable[[int, memoryview, int], None]) -> Callable[[int, memoryview, int], None]:
        def read(descriptor: int, room: memoryview, offset: int) -> None:
            os.ftruncate(descriptor, offset)
            read_at(descriptor, room, offset)

        return read

    monkeypatch.setattr(files, "read_at", cut(files.read_at))
    async with opened(tmp_path) as cache:
        parted = cache.parted(2 * PIECE)
        late, early = parted.part(0, PIECE), parted.part(PIECE, 2 * PIECE)
        put(early)
        await early.flush()
        put(late)
        with pytest.raises(CacheUnusable):
            await parted.finish()
        parted.abort()


async def _gone(directory: Path) -> None:
    while leftovers(directory):
        await asyncio.sleep(0)
