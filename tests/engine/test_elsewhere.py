"""Objects that another owner of the cache is bringing: two fetchers in one directory are two owners."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from asyncfetch import Access, CachePolicy, Fetcher, NetworkPolicy
from asyncfetch.errors import ObjectNotFound
from asyncfetch.settings import Verify
from asyncfetch.testing import Hold, RawRequest, ScriptedServer, answer
from asyncfetch.testing.scripted import Answer

URIS = [f"s3://bucket/{number:03d}" for number in range(60)]


class Shop:
    """Answers every GET with bytes of its own, once `open` is set, and counts."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.missing = False

    def __call__(self, request: RawRequest) -> Answer:
        key = request.target.partition("?")[0].rpartition("/")[2]
        self.asked[key] += 1
        if self.missing:
            return [Hold(self.open), answer(status="404 Not Found")]
        return [Hold(self.open), answer(content(key), headers=[f'ETag: "{key}"'])]


def content(key: str) -> bytes:
    return random.Random(key).randbytes(3000)


@asynccontextmanager
async def two(
    cache_dir: Path, *, verify: Verify = "size"
) -> AsyncIterator[tuple[Shop, ScriptedServer, Fetcher, Fetcher]]:
    shop = Shop()
    async with ScriptedServer(shop) as server:
        access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
        network, cache = NetworkPolicy(concurrency=8, attempts=1), CachePolicy(cache_dir=cache_dir, verify=verify)
        async with (
            Fetcher(cache=cache, access=access, network=network) as one,
            Fetcher(cache=cache, access=access, network=network) as other,
        ):
            yield shop, server, one, other


async def looked_up(fetcher: Fetcher, number: int) -> None:
    while fetcher._engine().cache.statistics().look_ups < number:
        await asyncio.sleep(0)


async def claimed(fetcher: Fetcher, number: int) -> None:
    while len(fetcher._engine().cache._work.claims.mine) < number:
        await asyncio.sleep(0)


async def test_one_brings_it_for_both(tmp_path: Path) -> None:
    async with two(tmp_path) as (shop, server, one, other):
        first = asyncio.create_task(one.fetch(URIS[0]))
        await server.until(lambda: shop.asked.total() == 1)
        second = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 1)
        shop.open.set()
        assert (await first).path == (await second).path
        assert [entry.from_cache for entry in (await first, await second)] == [False, True]
        assert shop.asked.total() == 1


@pytest.mark.parametrize("comes", [True, False])
async def test_presigned_urls_of_one_object_in_one_look_up_are_all_told(tmp_path: Path, comes: bool) -> None:
    async with two(tmp_path) as (shop, server, one, other), asyncio.timeout(10):
        urls = [f"{server.url}/000?X-Amz-Expires=60&X-Amz-Signature={number}" for number in range(4)]
        first = asyncio.create_task(one.fetch(urls[0]))
        await server.until(lambda: shop.asked.total() == 1)
        left, *rest = (asyncio.create_task(taken(other, some)) for some in ([urls[1]], urls[2:]))
        await looked_up(other, 3)
        left.cancel()
        if not comes:
            first.cancel()
            await server.until(lambda: shop.asked.total() > 1)
        shop.open.set()
        for task in rest:
            assert await task == [content("000")] * 2
        assert shop.asked.total() == 1 or not comes
        assert not other._engine().cache._work.claims.mine


async def taken(fetcher: Fetcher, uris: list[str]) -> list[bytes]:
    return [entry.path.read_bytes() async for entry in fetcher.entries(uris)]


async def test_when_the_first_gives_up_the_second_fetches(tmp_path: Path) -> None:
    async with two(tmp_path) as (shop, server, one, other):
        first = asyncio.create_task(one.fetch(URIS[0]))
        await server.until(lambda: shop.asked.total() == 1)
        second = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 1)
        first.cancel()
        await server.until(lambda: shop.asked.total() == 2)
        shop.open.set()
        assert (await second).path.read_bytes() == content("000")


async def test_when_the_first_fails_the_second_asks_for_itself(tmp_path: Path) -> None:
    async with two(tmp_path) as (shop, server, one, other):
        shop.missing = True
        first = asyncio.create_task(one.fetch(URIS[0]))
        await server.until(lambda: shop.asked.total() == 1)
        second = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 1)
        shop.open.set()
        for task in (first, second):
            with pytest.raises(ObjectNotFound):
                await task
        assert shop.asked.total() == 2


async def test_what_is_damaged_is_brought_by_one(tmp_path: Path) -> None:
    async with two(tmp_path, verify="always") as (shop, server, one, other):
        shop.open.set()
        path = (await one.fetch(URIS[0])).path
        shop.open.clear()
        path.write_bytes(b"x" * 3000)
        first = asyncio.create_task(one.fetch(URIS[0]))
        await server.until(lambda: shop.asked.total() == 2)
        second = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 1)
        shop.open.set()
        assert (await first).path == (await second).path
        assert path.read_bytes() == content("000")
        assert shop.asked.total() == 2


async def test_waiter_that_is_cancelled_harms_nobody(tmp_path: Path) -> None:
    async with two(tmp_path) as (shop, server, one, other):
        first = asyncio.create_task(one.fetch(URIS[0]))
        await server.until(lambda: shop.asked.total() == 1)
        second = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        third = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 2)
        shop.open.set()
        assert (await first).path == (await third).path
        assert shop.asked.total() == 1
        assert other.stats().waiting == 0


async def test_fetcher_that_closes_while_it_waits_ends_at_once(tmp_path: Path) -> None:
    async with two(tmp_path) as (shop, server, one, other):
        first = asyncio.create_task(one.fetch(URIS[0]))
        await server.until(lambda: shop.asked.total() == 1)
        second = asyncio.create_task(other.fetch(URIS[0]))
        await looked_up(other, 1)
        await other.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await second
        shop.open.set()
        await first


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_streams_share_the_work_in_any_order(tmp_path: Path, order: Literal["input", "completion"]) -> None:
    async with two(tmp_path) as (shop, _, one, other):
        shop.open.set()

        async def read(fetcher: Fetcher, uris: list[str]) -> list[str]:
            async with fetcher.entries(uris, order=order, look_ahead=16) as stream:
                got = [entry async for entry in stream]
            assert all(entry.path.read_bytes() == content(entry.uri[-3:]) for entry in got)
            return [entry.uri for entry in got]

        forth, back = await asyncio.gather(read(one, URIS), read(other, URIS[::-1]))
        assert set(forth) == set(back) == set(URIS)
        if order == "input":
            assert (forth, back) == (URIS, URIS[::-1])
        assert shop.asked.total() == len(URIS)


@pytest.mark.parametrize("changed", [False, True])
async def test_what_is_stale_is_asked_for_by_one(tmp_path: Path, changed: bool) -> None:
    shop, version = Shop(), "1"
    shop.open.set()

    def give(request: RawRequest) -> Answer:
        shop(request)
        etag = f'"{version}"'
        if f"if-none-match: {etag}".encode() in request.head.lower():
            return [Hold(shop.open), answer(status="304 Not Modified", headers=[f"ETag: {etag}"])]
        return [Hold(shop.open), answer(version.encode() * 3000, headers=[f"ETag: {etag}"])]

    async with ScriptedServer(give) as server:
        access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
        async with Fetcher(cache_dir=tmp_path, access=access) as before:
            await before.prefetch(URIS)
        async with (
            Fetcher(cache_dir=tmp_path, access=access) as one,
            Fetcher(cache_dir=tmp_path, access=access) as other,
        ):
            shop.open.clear()
            version = "2" if changed else "1"
            first = asyncio.create_task(one.prefetch(URIS))
            await claimed(one, len(URIS))
            second = asyncio.create_task(other.prefetch(URIS))
            await looked_up(other, len(URIS))
            shop.open.set()
            reports = await first, await second
            assert [report.downloaded for report in reports] == [len(URIS) * changed, 0]
            assert set(shop.asked.values()) == {2}
            entries = [entry async for entry in other.entries(URIS)]
            assert {Path(entry.path).read_bytes() for entry in entries} == {version.encode() * 3000}
            assert set(shop.asked.values()) == {2}
            for fetcher in one, other:
                assert not fetcher._engine().cache._work.claims.mine
