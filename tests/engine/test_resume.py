"""Large objects over a kill: what lay on the disk is not brought again, and what comes out is the object."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from asyncfetch import Access, CachePolicy, Fetcher
from asyncfetch.errors import AccessDenied
from asyncfetch.settings import MIB, NetworkPolicy
from asyncfetch.testing import Hold, RawRequest, ScriptedServer

from .test_parts import Shop, settled, span_of

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer

pytestmark = pytest.mark.usefixtures("helpers_join_at_once")

PART = MIB
NOISE = random.Random(23).randbytes(9 * MIB)
BODY, OTHER = NOISE[: 8 * MIB + 4321], NOISE[-(8 * MIB + 4321) :]
URI = "s3://bucket/large"
NETWORK = NetworkPolicy(concurrency=8, part_size=PART, parts_from=2 * PART, hedge=False)

VICTIM = """
import asyncio, sys
from asyncfetch import Access, CachePolicy, Fetcher
from asyncfetch.settings import NetworkPolicy

async def main():
    url, directory = sys.argv[1:]
    async with Fetcher(
        cache=CachePolicy(cache_dir=directory),
        access=Access(endpoint_url=url, anonymous=True, region="us-east-1"),
        network=NetworkPolicy(concurrency=8, part_size=1 << 20, parts_from=2 << 20, hedge=False),
    ) as fetcher:
        await fetcher.fetch("s3://bucket/large")

asyncio.run(main())
"""


def opened(server: ScriptedServer, directory: Path) -> Fetcher:
    access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
    return Fetcher(cache=CachePolicy(cache_dir=directory), access=access, network=NETWORK)


class Half:
    """Lets the first part and every other one through, and holds the rest in their middle, as long as it is told to."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.holding = True

    def __call__(self, request: RawRequest) -> Answer | None:
        span = span_of(request)
        if not self.holding or (span is not None and span[0] // PART % 2):
            return None
        whole = self.shop.answer(request)
        return [whole[: len(whole) // 2] if span else whole[: whole.index(b"\r\n\r\n") + 4 + PART], Hold()]


def written(directory: Path) -> int:
    """The bytes that the maps of the living say are on the disk."""
    lines = [line for path in directory.glob("v1/tmp/*/*/map") for line in path.read_bytes().splitlines()[1:]]
    return sum(int(line[17:], 16) - int(line[:16], 16) for line in lines if len(line) == 33)


async def kill_in_the_middle(server: ScriptedServer, directory: Path) -> int:
    """Kills a process that has some of the object, and says how many bytes of it lie on the disk."""
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, server.url, str(directory))
    try:
        while written(directory) < 4 * PART:
            assert victim.returncode is None
            await asyncio.sleep(0.01)
    finally:
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
    await server.until(lambda: server.open == 0)
    return written(directory)


@pytest.mark.timeout(60)
async def test_what_a_killed_process_had_is_not_brought_again(cache_dir: Path) -> None:
    shop = Shop(BODY)
    shop.before = half = Half(shop)
    async with ScriptedServer(shop) as server:
        had = await kill_in_the_middle(server, cache_dir)
        half.holding, asked = False, len(shop.seen)
        async with opened(server, cache_dir) as fetcher:
            entry = await fetcher.fetch(URI)
            assert entry.path.read_bytes() == BODY
            await settled(fetcher, cache_dir)
        again = [span for span in shop.seen[asked:] if span is not None]
        assert sum(stop - start for start, stop in again) == len(BODY) - had
        assert shop.seen[asked:].count(None) == 1, "one request says which object it is, and is left"
        assert {request.header("if-match") for request in server.requests[asked + 1 :]} == {'"one"'}
    assert not list(cache_dir.glob("v1/partial/*"))


@pytest.mark.timeout(60)
async def test_an_object_that_was_replaced_meanwhile_is_brought_whole(cache_dir: Path) -> None:
    shop = Shop(BODY)
    shop.before = half = Half(shop)
    async with ScriptedServer(shop) as server:
        await kill_in_the_middle(server, cache_dir)
        half.holding, shop.body, shop.etag = False, OTHER, '"two"'
        async with opened(server, cache_dir) as fetcher:
            assert (await fetcher.fetch(URI)).path.read_bytes() == OTHER
    assert not list(cache_dir.glob("v1/partial/*"))


@pytest.mark.timeout(60)
async def test_a_process_that_lives_goes_on_with_what_another_had_when_it_was_killed(cache_dir: Path) -> None:
    shop = Shop(BODY)
    shop.before = half = Half(shop)
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        had = await kill_in_the_middle(server, cache_dir)
        half.holding, asked = False, len(shop.seen)
        assert (await fetcher.fetch(URI)).path.read_bytes() == BODY
        assert sum(span[1] - span[0] for span in shop.seen[asked:] if span is not None) == len(BODY) - had


async def test_a_cancelled_call_leaves_what_came_to_the_next_one(cache_dir: Path) -> None:
    shop = Shop(BODY)
    shop.before = half = Half(shop)
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        fetching = asyncio.create_task(fetcher.fetch(URI))
        while written(cache_dir) < 4 * PART:
            await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.wait([fetching])
        half.holding, asked = False, len(shop.seen)
        assert (await fetcher.fetch(URI)).path.read_bytes() == BODY
        assert sum(span[1] - span[0] for span in shop.seen[asked:] if span is not None) <= len(BODY) - 4 * PART
        await settled(fetcher, cache_dir)


async def test_an_error_that_stands_leaves_what_came_to_the_next_call(cache_dir: Path) -> None:
    shop, refused = Shop(BODY), asyncio.Event()

    def refuse_the_last(request: RawRequest) -> Answer | None:
        span = span_of(request)
        if span is None or span[1] < len(BODY) or refused.is_set():
            return None
        return [Hold(enough), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"]

    enough, shop.before = asyncio.Event(), refuse_the_last
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        fetching = asyncio.create_task(fetcher.fetch(URI))
        while written(cache_dir) < 4 * PART:
            await asyncio.sleep(0)
        enough.set()
        with pytest.raises(AccessDenied):
            await fetching
        refused.set()
        asked = len(shop.seen)
        assert (await fetcher.fetch(URI)).path.read_bytes() == BODY
        assert sum(span[1] - span[0] for span in shop.seen[asked:] if span is not None) <= len(BODY) - 4 * PART


async def test_what_is_to_stay_out_of_the_cache_leaves_nothing(cache_dir: Path) -> None:
    shop = Shop(BODY)
    shop.before = half = Half(shop)
    async with ScriptedServer(shop) as server:
        async with opened(server, cache_dir) as fetcher:
            from asyncfetch.engine.singles import land
            from asyncfetch.uris import parse

            fetching = asyncio.create_task(land(fetcher._engine(), URI, parse(URI), None, private=True))
            await server.until(lambda: len(shop.seen) > 4)
            fetching.cancel()
            await asyncio.wait([fetching])
            await settled(fetcher, cache_dir)
        half.holding = False
    assert not list(cache_dir.glob("v1/partial/*"))
