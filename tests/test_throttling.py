"""As fast as a server allows, without being told how fast that is."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncfetch import Fetcher
from asyncfetch.testing import Faults, FaultServer, Generated
from tests.soak import LONG, Soak


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


async def test_a_rate_limit_is_used_and_seldom_met(server: FaultServer, cache_dir: Path, soak: Soak) -> None:
    server.faults = Faults(rate_limit=500, burst=50)
    async with opened(server, cache_dir) as fetcher:
        began = time.monotonic()
        report = await fetcher.prefetch(uris(server, 4000))
        lasted = time.monotonic() - began
        assert report.failed == 0
        assert report.verdict.stage == "throttled"
        asked, refused = server.count(method="GET"), server.count(status=503)
        assert refused < 0.05 * asked
        if soak == LONG:  # which asks for a machine that is not busy
            assert 0.9 * 500 * lasted <= 4000
        assert fetcher.stats().limits["s3://bucket"] < 64


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
