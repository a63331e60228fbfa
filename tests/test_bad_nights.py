"""Whole runs against a server that misbehaves in every way at once: complete, correct, and nothing left."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from asyncfetch import Fetcher, NetworkPolicy
from asyncfetch.testing import Faults, FaultServer, Generated
from tests.leaks import census, temporary_files
from tests.soak import Soak

SIZE = 5_000


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "faulty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "faulty-secret")


def opened(server: FaultServer, cache_dir: Path, **network: object) -> Fetcher:
    return Fetcher(
        cache_dir=cache_dir,
        endpoint_url=server.endpoint_url,
        region="us-east-1",
        workers=1,
        network=NetworkPolicy(md5=True, **network),  # type: ignore[arg-type]
    )


def uris(server: FaultServer, count: int) -> list[str]:
    return [server.uri(f"{index:08d}") for index in range(count)]


async def fetch_all(server: FaultServer, cache_dir: Path, count: int) -> None:
    """Has every object checked, each once."""
    seen: Counter[int] = Counter()
    async with opened(server, cache_dir) as fetcher:
        async for entry in fetcher.entries(uris(server, count), order="completion"):
            seen[entry.index] += 1
            assert entry.path.read_bytes() in server.versions(f"{entry.index:08d}")
    assert seen == Counter(range(count)), "none lost, none twice"


FAULTY = Faults.evenly(0.05, slow_seconds=0.2, stall_seconds=0.5, drip_seconds=0.002)


async def test_with_every_twentieth_answer_wrong_all_objects_come_right(soak: Soak, cache_dir: Path) -> None:
    count = soak.faulty_objects
    with FaultServer(Generated(count, SIZE)) as server:
        await fetch_all(server, cache_dir / "warm", 500)  # whatever libraries keep for ever, they have by now
        gc.collect()
        before, memory = census(), psutil.Process().memory_info().rss
        server.faults = FAULTY
        await fetch_all(server, cache_dir / "faulty", count)
        assert census() == before
        assert not temporary_files(cache_dir / "faulty")
        assert psutil.Process().memory_info().rss - memory < 32 << 20
        wrong = sum(times for asked, times in server.asked().items() if asked.fault is not None)
        assert wrong > 0.04 * count


async def test_an_outage_in_the_middle_of_all_that(soak: Soak, cache_dir: Path) -> None:
    count = 2000
    with FaultServer(Generated(count, SIZE)) as server:
        server.faults = replace(FAULTY, outage_after=count // 2, outage_seconds=soak.outage)
        await fetch_all(server, cache_dir, count)


async def test_cancelling_at_any_moment_leaves_nothing(soak: Soak, cache_dir: Path) -> None:
    chance = random.Random(0)
    objects = {**Generated(300, SIZE), "large": bytes(range(256)) * 6000}
    faults = Faults.evenly(0.3, slow_seconds=0.1, stall_seconds=0.2, drip_seconds=0.001)
    with FaultServer(objects, faults=faults, seed=3) as server:
        targets = [*uris(server, 300), *[server.uri("large")] * 3]
        network = {"concurrency": 16, "parts_from": 1 << 18, "part_size": 1 << 17, "deadline": 5.0}
        async with opened(server, cache_dir / "warm", **network) as fetcher:
            await fetcher.prefetch(targets)
        before = census()
        async with opened(server, cache_dir, **network) as fetcher:

            async def work() -> None:
                async for entry in fetcher.entries(targets, on_error="skip", cache=chance.random() < 0.5):
                    await fetcher.read_bytes(entry.uri, 1, 100, cache=False)

            for _ in range(soak.network_cancellations):
                chance.shuffle(targets)
                task = asyncio.create_task(work())
                for _ in range(chance.randrange(300)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            server.faults = Faults()
            gc.collect()
            async with asyncio.timeout(10):
                while (stats := fetcher.stats()).lanes_busy or stats.waiting or stats.memory:
                    await asyncio.sleep(0.01)
            report = await fetcher.prefetch(targets)
            assert report.failed == 0, "and it works as before"
        assert census() == before
    assert not temporary_files(cache_dir)
