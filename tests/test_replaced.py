"""Large objects whose parts do not fit together: they come again as a whole, and never as a mixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncfetch import Fetcher, NetworkPolicy
from asyncfetch.testing import Fault, Faults, FaultServer, Generated
from tests.leaks import temporary_files

pytestmark = pytest.mark.usefixtures("helpers_join_at_once")

MIB = 1 << 20
KEY = "00000000"


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "faulty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "faulty-secret")


def opened(server: FaultServer, cache_dir: Path, *, concurrency: int = 64, md5: bool = False) -> Fetcher:
    network = NetworkPolicy(parts_from=MIB, part_size=MIB, hedge=False, concurrency=concurrency, md5=md5)
    return Fetcher(cache_dir=cache_dir, endpoint_url=server.endpoint_url, region="us-east-1", network=network)


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_replaced_between_two_ranges_it_starts_once_more_from_the_new_one(nth: int, cache_dir: Path) -> None:
    faults = Faults(at={(KEY, nth): Fault.REPLACE})
    with FaultServer(Generated(1, 8 * MIB), faults=faults) as server:
        async with opened(server, cache_dir) as fetcher:
            entry = await fetcher.fetch(server.uri(KEY))
            old, new = server.versions(KEY)
            assert old != new
            assert entry.path.read_bytes() == new
            assert fetcher.stats().retries == 1
        assert server.count(status=412) >= 1, "the ranges were pinned to what was begun"
    assert not temporary_files(cache_dir)


async def test_replaced_again_and_again_it_is_still_one_of_them(cache_dir: Path) -> None:
    with FaultServer(Generated(1, 8 * MIB), faults=Faults(replace=1.0)) as server:
        async with opened(server, cache_dir) as fetcher:
            entry = await fetcher.fetch(server.uri(KEY))
            assert entry.path.read_bytes() in server.versions(KEY)
            assert fetcher.stats().retries == 1, "once, and no more"
    assert not temporary_files(cache_dir)


async def test_the_lane_that_finds_them_wrong_goes_on_with_others(cache_dir: Path) -> None:
    faults = Faults(at={(KEY, 1): Fault.FLIP})
    with FaultServer(Generated(3, 4 * MIB), faults=faults) as server:
        async with opened(server, cache_dir, concurrency=1, md5=True) as fetcher:
            for index in range(3):
                entry = await fetcher.fetch(server.uri(f"{index:08d}"))
                assert entry.path.read_bytes() in server.versions(f"{index:08d}")
            assert fetcher.stats().retries == 1
