"""How far streams go ahead of a consumer that is busy: in memory as the budget allows, on disk further."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from asyncfetch import Fetcher
from tests.objects import Bucket

MIB = 1 << 20
SLOT = 192 << 10  # what the pixels of a larger picture take


class Counted:
    """So many times the same source, counted as it is read."""

    def __init__(self, source: str, count: int) -> None:
        self._source, self._count = source, count
        self.read = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> str:
        self.read += 1
        return self._source

    def __iter__(self) -> Iterator[str]:
        for index in range(self._count):
            yield self[index]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    assert cv2.imwrite(str(path), np.full((60, 80, 3), 7, np.uint8))
    return str(path)


@pytest.fixture
def larger(tmp_path: Path) -> str:
    path = tmp_path / "larger.png"
    assert cv2.imwrite(str(path), np.full((250, 250, 3), 7, np.uint8))
    return str(path)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():
            await asyncio.sleep(0.001)


async def until_all_is_done(fetcher: Fetcher) -> None:
    """Returns when workers have nothing to do, and a few turns of the loop have changed nothing of that."""
    pool = fetcher._engine().pool
    for _ in range(10):
        await until(lambda: not pool.under_way)
        await asyncio.sleep(0.001)


def at_once(step: Any) -> Any:
    """What a step gives that has nothing to wait for."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value
    step.close()
    raise AssertionError("it was not there")


@pytest.mark.parametrize("kind", ["list", "generator", "uncached"])
async def test_two_batches_are_there_when_a_consumer_comes_back(picture: str, cache_dir: Path, kind: str) -> None:
    sources: Any = [picture] * 2000 if kind != "generator" else (picture for _ in range(2000))
    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget=64 * MIB) as fetcher:
        stream = fetcher.images(sources, cache=kind != "uncached").batch(256)
        await anext(stream)
        await until_all_is_done(fetcher)
        for _ in range(2):
            assert len(at_once(anext(stream))) == 256
        await stream.aclose()


async def test_images_wait_in_half_of_the_budget_and_again_after_each_burst(larger: str, cache_dir: Path) -> None:
    most = 48 * MIB // 2 // SLOT
    async with Fetcher(cache_dir=cache_dir, workers=1, memory_budget=48 * MIB) as fetcher:
        stream = fetcher.images([larger] * 2000)
        await anext(stream)
        for _ in range(3):
            await until_all_is_done(fetcher)
            decoded = fetcher.stats().decoded
            for _ in range(most - 32):  # as many of those that are decoded may be with the stream
                at_once(anext(stream))
            assert fetcher.stats().decoded == decoded
        assert fetcher.stats().memory_peak <= 48 * MIB * 3 // 4
        await stream.aclose()


async def test_streams_share_what_is_for_images_that_wait(larger: str, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1, memory_budget=96 * MIB) as fetcher:
        streams = [fetcher.images([larger] * 2000) for _ in range(2)]
        for stream in streams:
            await stream.__aenter__()
        await until_all_is_done(fetcher)
        for stream in streams:
            for _ in range(96 * MIB // 4 // SLOT - 32):
                at_once(anext(stream))
        for stream in streams:
            await stream.aclose()


@pytest.mark.parametrize("kind", ["entries", "bytes", "images"])
async def test_known_sources_are_read_far_ahead_onto_the_disk_of_a_late_consumer(
    picture: str, cache_dir: Path, kind: str
) -> None:
    sources = Counted(picture, 5000)
    async with Fetcher(cache_dir=cache_dir, workers=1, memory_budget=64 * MIB) as fetcher:
        stream: Any = getattr(fetcher, kind)(sources)
        await anext(stream)
        await until(lambda: sources.read >= 800)
        await stream.aclose()


async def test_no_more_waits_on_disk_than_the_budget_has_bytes(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(MIB))
    sources = Counted(str(path), 2000)
    async with Fetcher(cache_dir=cache_dir, memory_budget=300 * MIB) as fetcher:
        stream = fetcher.entries(sources)
        taken = 0
        for _ in range(100):
            await anext(stream)
            taken += 1
            await asyncio.sleep(0)
            assert sources.read <= taken + 300 + 32  # which were taken together
        await until(lambda: sources.read >= taken + 256)
        await stream.aclose()


async def test_files_that_the_cache_has_no_room_for_are_not_heaped_up(empty_bucket: Bucket, cache_dir: Path) -> None:
    sources = Counted(empty_bucket.put("object", bytes(2000)), 2000)
    async with Fetcher(cache_dir=cache_dir, max_bytes=1000) as fetcher:
        stream = fetcher.entries(sources)
        for taken in range(1, 100):
            await anext(stream)
            await asyncio.sleep(0)
            assert sources.read <= taken + 256 + 32
        await stream.aclose()


async def test_sources_that_only_come_are_read_for_two_batches_beside_the_window(picture: str, cache_dir: Path) -> None:
    counted = Counted(picture, 3000)
    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget=64 * MIB) as fetcher:
        stream = fetcher.images(iter(counted)).batch(200)
        for taken in range(1, 4):
            await anext(stream)
            await until_all_is_done(fetcher)
            assert 200 * (taken + 2) < counted.read <= 200 * (taken + 2) + 256
        await stream.aclose()
