"""A cache with room for half of what is read: what is kept, what is served, and who holds the files of what is not."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncfetch import Access, Fetcher
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from tests.leaks import temporary_files

COUNT, SIZE = 40, 2000
URIS = [f"s3://bucket/{number:03d}" for number in range(COUNT)]


def content(key: str) -> bytes:
    return random.Random(key).randbytes(SIZE)


class Shop:
    """Answers every GET with the bytes of its key, and counts."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, request: RawRequest) -> bytes:
        key = request.target.partition("?")[0].rpartition("/")[2]
        self.asked[key] += 1
        return answer(content(key), headers=[f'ETag: "{key}"'])


def opened(server: ScriptedServer, cache_dir: Path, **options: Any) -> Fetcher:
    access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
    return Fetcher(cache_dir=cache_dir, access=access, concurrency=8, max_bytes=COUNT // 2 * SIZE, **options)


async def test_half_of_reshuffled_epochs_are_hits_with_room_for_half(tmp_path: Path) -> None:
    shop, order = Shop(), random.Random(7)
    async with ScriptedServer(shop) as server, opened(server, tmp_path) as fetcher:
        for epoch in range(6):
            before = shop.asked.total()
            async with fetcher.entries(order.sample(URIS, COUNT)) as stream:
                async for entry in stream:
                    assert entry.path.read_bytes() == content(entry.uri[-3:])
            fetched = shop.asked.total() - before
            assert fetched == (COUNT // 2 if epoch else COUNT)
        while temporary_files(tmp_path):
            await asyncio.sleep(0)


async def test_waiters_of_one_flight_share_its_private_file(tmp_path: Path) -> None:
    shop = Shop()
    async with ScriptedServer(shop) as server, opened(server, tmp_path) as fetcher:
        await fetcher.prefetch(URIS[: COUNT // 2])
        entries = await asyncio.gather(*(fetcher.fetch(URIS[-1]) for _ in range(5)))
        assert shop.asked["039"] == 1
        (path,) = {entry.path for entry in entries}
        assert path.read_bytes() == content("039")
        assert [entry.from_cache for entry in entries].count(False) == 1
        assert path.exists(), "valid until the fetcher closes"
    assert not path.exists()


async def test_stream_beside_a_shared_file_does_not_take_it_away(tmp_path: Path) -> None:
    shop = Shop()
    async with ScriptedServer(shop) as server, opened(server, tmp_path) as fetcher:
        await fetcher.prefetch(URIS[: COUNT // 2])
        one, other = fetcher.entries([URIS[-1]]), fetcher.entries([URIS[-1]])
        first, second = await asyncio.gather(anext(one), anext(other))
        assert shop.asked["039"] == 1
        await one.aclose()
        assert second.path.read_bytes() == content("039")
        await other.aclose()
        while temporary_files(tmp_path):
            await asyncio.sleep(0)
        assert not first.path.exists()


async def test_bytes_of_what_is_not_kept_leave_no_file(tmp_path: Path) -> None:
    shop = Shop()
    async with ScriptedServer(shop) as server, opened(server, tmp_path) as fetcher:
        await fetcher.prefetch(URIS[: COUNT // 2])
        assert await fetcher.read_bytes(URIS[-1]) == content("039")
        while temporary_files(tmp_path):
            await asyncio.sleep(0)


async def test_next_job_makes_room_for_what_it_reads(tmp_path: Path) -> None:
    shop = Shop()
    async with ScriptedServer(shop) as server:
        async with opened(server, tmp_path) as fetcher:
            await fetcher.prefetch(URIS[: COUNT // 2])
        async with opened(server, tmp_path) as fetcher:
            for _ in range(2):
                await fetcher.prefetch(URIS[COUNT // 2 :])
        assert all(shop.asked[f"{number:03d}"] == 1 for number in range(COUNT))


@pytest.mark.parametrize("size", [0, -1, "much", True, "0"])
def test_limit_that_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        Fetcher(max_bytes=size)
