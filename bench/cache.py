"""What a cache of a million entries costs: `python -m bench.cache [DIRECTORY]`.

The index is filled through the cache's own changes; blobs lie on the disk for those that are looked up and evicted.
Memory is the growth of the process from before the opening to after all look-ups.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from asyncfetch import Access, Fetcher
from asyncfetch.cache import Cache, Found, Ref, RefKey
from asyncfetch.cache.changes import remember, stored
from asyncfetch.cache.index import Index
from asyncfetch.settings import CachePolicy
from asyncfetch.testing import RawRequest, ScriptedServer, answer

ENTRIES = 1_000_000
VICTIMS = 100_000
SIZE = 100  # of each blob; what is measured does not depend on it
BATCH = 64  # look-ups at once
ROUNDS = 5  # of hits alone and hits beside evictions, in turn: a machine that slows down slows down both
EPOCHS, OBJECTS = 6, 1_000


def key(number: int) -> RefKey:
    return RefKey("https://storage.example.com", "training-images", f"photos/class-{number % 997:04d}/{number:09d}.jpg")


def digest(number: int) -> str:
    return "sha256:" + hashlib.sha256(b"%d" % number).hexdigest()


def fill(directory: Path) -> None:
    """Makes the cache: the oldest blobs are the victims, and the youngest are there too."""
    (directory / "scratch").mkdir()
    index = Index(str(directory / "v1" / "index"), "sha256", lambda: str(directory / "scratch" / "file"), boot="bench")
    for start in range(0, ENTRIES, 10_000):
        numbers = range(start, start + 10_000)
        refs = [remember(key(n), Ref(SIZE, f'"{n:032x}"', digest(n), 1.0, 1.0)) for n in numbers]
        blobs = sorted(stored(digest(n), SIZE, 1e9 + n) for n in numbers)
        assert index.apply([*refs, *blobs])
    index.close()
    for number in [*range(VICTIMS), *range(ENTRIES - VICTIMS, ENTRIES)]:
        name = digest(number)[7:]
        path = directory / "v1" / "blobs" / "sha256" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * SIZE)


async def look_up(cache: Cache, numbers: range) -> float:
    """CPU-seconds for each object of a pass over them; all must be hits."""
    loop = asyncio.get_running_loop()
    began = time.process_time()
    for start in range(numbers.start, numbers.stop, BATCH):
        future: asyncio.Future[list[Any]] = loop.create_future()
        cache.look_up([key(n) for n in range(start, min(start + BATCH, numbers.stop))], future.set_result)  # type: ignore[arg-type]
        assert all(isinstance(one, Found) for one in await future)
    return (time.process_time() - began) / len(numbers)


async def rate(cache: Cache, numbers: range, seconds: float = 0.0, evicted: int = 0) -> float:
    """Objects looked up in a second, one batch after another, for so long or until so many are evicted."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or cache.statistics().evicted < evicted:
        await look_up(cache, range(numbers.start, numbers.start + BATCH))
        count += BATCH
    return count / (time.perf_counter() - began)


async def million(directory: Path) -> dict[str, float]:
    policy = CachePolicy(cache_dir=directory, digest="sha256")
    loop = asyncio.get_running_loop()
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    cache = Cache.open(policy, loop=loop)
    figures = {"open_seconds": time.perf_counter() - began}
    young = range(ENTRIES - VICTIMS, ENTRIES)
    figures["first_look_up_us"] = await look_up(cache, young) * 1e6  # which notes that the blob is used again
    figures["look_up_us"] = await look_up(cache, young) * 1e6
    began = time.perf_counter()
    sums = cache._index.totals()
    figures["totals_seconds"] = time.perf_counter() - began
    figures["memory_mb"] = (process.memory_info().rss - before) / 1e6
    await cache.aclose()
    assert (sums.objects, sums.blobs) == (ENTRIES, ENTRIES)
    return figures | await evict(directory)


async def evict(directory: Path) -> dict[str, float]:
    """Jobs that find the limit lowered below what is there, and that look their own objects up meanwhile."""
    loop = asyncio.get_running_loop()
    young = range(ENTRIES - BATCH, ENTRIES)
    held, seconds, slower = ENTRIES * SIZE, 0.0, []
    for _ in range(ROUNDS):
        cache = Cache.open(CachePolicy(cache_dir=directory, digest="sha256"), loop=loop)
        alone = await rate(cache, young, 2.0)
        await cache.aclose()
        held -= VICTIMS // ROUNDS * SIZE
        cache = Cache.open(CachePolicy(cache_dir=directory, digest="sha256", max_bytes=held), loop=loop)
        began = time.perf_counter()
        beside = await rate(cache, young, evicted=VICTIMS // ROUNDS)
        seconds += time.perf_counter() - began
        held -= (cache.statistics().evicted - VICTIMS // ROUNDS) * SIZE
        await cache.aclose()
        slower.append(1 - beside / alone)
    return {"evict_seconds": seconds, "hits_slower_by": statistics.median(slower)}


async def half(directory: Path) -> dict[str, float]:
    """The hit rate of reshuffled epochs with room for half."""

    def give(request: RawRequest) -> bytes:
        return answer(request.target.encode().ljust(2000, b"."), headers=['ETag: "e"'])

    uris = [f"s3://bucket/{number:06d}" for number in range(OBJECTS)]
    order = random.Random(5)
    async with ScriptedServer(give) as server:
        access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
        async with Fetcher(cache_dir=directory, access=access, max_bytes=OBJECTS // 2 * 2000) as fetcher:
            await fetcher.prefetch(uris)
            hits = fetcher.stats().hits
            for _ in range(EPOCHS - 1):
                await fetcher.prefetch(order.sample(uris, OBJECTS))
            return {"hit_rate_at_half_size": (fetcher.stats().hits - hits) / (EPOCHS - 1) / OBJECTS}


def main() -> None:
    where = sys.argv[1] if len(sys.argv) > 1 else None
    directory = Path(tempfile.mkdtemp(dir=where))
    try:
        asyncio.run(_prepared(directory))
        fill(directory / "million")
        os.sync()
        figures = asyncio.run(million(directory / "million"))
        figures |= asyncio.run(half(directory / "half"))
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=1))
    finally:
        shutil.rmtree(directory)


async def _prepared(directory: Path) -> None:
    """Makes the cache's directories."""
    await Cache.open(CachePolicy(cache_dir=directory / "million"), loop=asyncio.get_running_loop()).aclose()


if __name__ == "__main__":
    main()
