"""As fast as a server allows, without being told how fast that is."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncfetch import Fetcher, NetworkPolicy
from asyncfetch.testing import Faults, FaultServer, Generated
from tests.leaks import census


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "faulty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "faulty-secret")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(Generated(4000, 500)) as server:
        yield server


def opened(server: FaultServer, cache_dir: Path, concurrency: int = 64) -> Fetcher:
    return Fetcher(
        cache_dir=cache_dir, endpoint_url=server.endpoint_url, region="us-east-1", workers=1, concurrency=concurrency
    )


def uris(server: FaultServer, count: int) -> list[str]:
    return [server.uri(f"{index:08d}") for index in range(count)]


async def test_a_rate_limit_is_kept_to_once_it_has_been_met(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(rate_limit=100, burst=20)
    async with opened(server, cache_dir) as fetcher:
        report = await fetcher.prefetch(uris(server, 300))
        stats = fetcher.stats()
        assert report.failed == 0
        assert report.verdict.stage == "throttled"
        # All that were out when it was met first, and few after: 60 to 130, by how busy the machine is. Without a pace
        # they are 300. How few, and what is used, `bench.network` tells.
        assert server.count(status=503) < 3 * 64
        assert stats.limits["s3://bucket"] <= 64
        assert stats.rates["s3://bucket"] < 1000


async def test_who_refuses_everybody_is_not_asked_the_oftener_for_that(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(unavailable=1.0)
    network = NetworkPolicy(attempts=2)
    async with Fetcher(cache_dir=cache_dir, endpoint_url=server.endpoint_url, network=network) as fetcher:
        report = await fetcher.prefetch(uris(server, 4))
        assert [failure.attempts for failure in report.failures] == [2] * 4
    assert server.count() == 8


async def test_a_throttled_prefix_holds_up_no_other(cache_dir: Path) -> None:
    objects = {f"hot/{index}": b"x" * 500 for index in range(300)} | {
        f"cold/{index}": b"x" * 500 for index in range(9000)
    }
    with FaultServer(objects, faults=Faults(rate_limit=20, burst=20, limited_prefix="hot/")) as server:
        async with opened(server, cache_dir) as fetcher:
            hot = asyncio.create_task(fetcher.prefetch([server.uri(f"hot/{index}") for index in range(300)]))
            chunks = ([server.uri(f"cold/{at + index}") for index in range(100)] for at in range(0, 9000, 100))
            # It takes answers of both to tell them apart, up to 512, and as long as these take to come.
            while "s3://bucket/hot/" not in fetcher.stats().rates:
                assert (await fetcher.prefetch(next(chunks))).failed == 0
            refused = server.count(status=503)
            for _ in range(5):
                assert (await fetcher.prefetch(next(chunks))).failed == 0
            assert not hot.done(), "the others did not wait for it"
            stats = fetcher.stats()
            assert stats.rates.keys() == {"s3://bucket/hot/"}
            assert stats.limits.keys() == {"s3://bucket", "s3://bucket/hot/"}
            assert server.count(status=503) - refused < 64, "no more than may have been out"
            server.faults = Faults()
            assert (await hot).failed == 0


async def test_cancelling_what_waits_for_a_throttled_prefix_leaves_nothing(cache_dir: Path) -> None:
    objects = {f"{name}/{index}": b"x" * 500 for name in ("hot", "cold") for index in range(1000)}
    faults = Faults(rate_limit=20, burst=20, limited_prefix="hot/")
    before = census()
    with FaultServer(objects, faults=faults) as server:
        async with opened(server, cache_dir) as fetcher:
            hot = asyncio.create_task(fetcher.prefetch([server.uri(f"hot/{index}") for index in range(1000)]))
            cold = [server.uri(f"cold/{index}") for index in range(1000)]
            while "s3://bucket/hot/" not in fetcher.stats().rates:
                assert (await fetcher.prefetch(cold)).failed == 0
            hot.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hot
            assert fetcher.stats().waiting == 0
            server.faults = Faults()
            assert (await fetcher.prefetch([server.uri("hot/0")])).failed == 0
    assert census() == before


async def test_a_slow_server_gets_as_many_at_once_as_were_allowed(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.05)
    async with opened(server, cache_dir) as fetcher:
        assert fetcher.stats().limits == {}
        report = await fetcher.prefetch(uris(server, 600))
        assert report.failed == 0
        assert fetcher.stats().limits == {"s3://bucket": 64}


async def test_it_never_goes_above_what_it_was_given(server: FaultServer, cache_dir: Path) -> None:
    async with opened(server, cache_dir, concurrency=3) as fetcher:
        await fetcher.prefetch(uris(server, 600))
        assert fetcher.stats().limits == {"s3://bucket": 3}


async def test_it_never_goes_above_what_the_process_may_open(server: FaultServer, cache_dir: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, limits[1]))
    try:
        async with opened(server, cache_dir, concurrency=1000) as fetcher:
            assert fetcher.stats().lanes < 50
            assert (await fetcher.prefetch(uris(server, 600))).failed == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
