"""Bytes that were changed on the way are seen, fetched again, and never kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

import asyncfetch
from asyncfetch import Access, NetworkPolicy
from asyncfetch.errors import IntegrityError
from asyncfetch.settings import KIB, MIB
from asyncfetch.testing import Fault, Faults, FaultServer, Generated
from asyncfetch.uris import parse
from tests.leaks import temporary_files

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.testing.shelf import Checksum

# In one buffer, through pieces on threads, and in parts.
pytestmark = pytest.mark.usefixtures("helpers_join_at_once")

WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "small": (80 * KIB, {}),
    "spilled": (3 * MIB, {"parts_from": None}),
    "parts": (3 * MIB, {"parts_from": 512 * KIB, "part_size": 256 * KIB}),
}
KEY = "00000000"


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHETESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secretOfTheTests")


def open_fetcher(
    server: FaultServer, cache_dir: Path, *, origin: Literal["native", "boto"] = "native", **network: Any
) -> asyncfetch.Fetcher:
    return asyncfetch.Fetcher(
        cache_dir=cache_dir,
        access=Access(endpoint_url=server.endpoint_url, region="us-east-1", origin=origin),
        network=NetworkPolicy(**network),
    )


@pytest.mark.parametrize("origin", ["native", "boto"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("checksum", "wanted"), [("crc32", {"checksums": True}), ("sha256", {"checksums": True}), (None, {"md5": True})]
)
async def test_a_flipped_bit_is_seen_and_the_object_fetched_again(
    cache_dir: Path, way: str, origin: Literal["native", "boto"], checksum: Checksum | None, wanted: dict[str, bool]
) -> None:
    size, network = WAYS[way]
    # In parts the second request is for a range, which tells no checksum: only the whole of them shows it.
    faults = Faults(at={(KEY, 2 if way == "parts" else 1): Fault.FLIP})
    async with FaultServer(Generated(1, size), faults=faults, checksum=checksum) as server:
        async with open_fetcher(server, cache_dir, origin=origin, **network, **wanted) as fetcher:
            entry = await fetcher.fetch(server.uri(KEY))
            assert entry.path.read_bytes() == Generated(1, size)[KEY]
            assert fetcher.stats().retries == 1
        assert server.count(fault=Fault.FLIP) == 1
    assert temporary_files(cache_dir) == []


@pytest.mark.parametrize("way", WAYS)
async def test_without_checksums_nobody_sees_it(cache_dir: Path, way: str) -> None:
    size, network = WAYS[way]
    faults = Faults(at={(KEY, 2 if way == "parts" else 1): Fault.FLIP})
    async with (
        FaultServer(Generated(1, size), faults=faults, checksum="crc32") as server,
        open_fetcher(server, cache_dir, **network) as fetcher,
    ):
        entry = await fetcher.fetch(server.uri(KEY))
        assert entry.path.read_bytes() != Generated(1, size)[KEY]


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_wrong_every_time_is_an_error_with_a_name_and_leaves_nothing(cache_dir: Path, way: str) -> None:
    size, network = WAYS[way]
    async with (
        FaultServer(Generated(1, size), faults=Faults(flip=1.0), checksum="crc32") as server,
        open_fetcher(server, cache_dir, checksums=True, attempts=2, **network) as fetcher,
    ):
        with pytest.raises(IntegrityError, match="crc32") as caught:
            await fetcher.fetch(server.uri(KEY))
        assert (caught.value.uri, caught.value.attempts) == (server.uri(KEY), 2)
        assert fetcher.stats().memory == 0
        assert temporary_files(cache_dir) == []
        with pytest.raises(IntegrityError):
            await fetcher.read_bytes(server.uri(KEY))


async def test_a_length_that_is_too_short_is_seen(cache_dir: Path) -> None:
    faults = Faults(at={(KEY, 1): Fault.UNDERSTATE})
    async with (
        FaultServer(Generated(1, 5000), faults=faults, checksum="crc32") as server,
        open_fetcher(server, cache_dir, checksums=True) as fetcher,
    ):
        assert (await fetcher.fetch(server.uri(KEY))).size == 5000


async def test_bytes_read_into_memory_are_checked_too_and_ranges_are_not(cache_dir: Path) -> None:
    faults = Faults(at={(KEY, 1): Fault.FLIP, (KEY, 3): Fault.FLIP})
    body = Generated(1, 5000)[KEY]
    async with (
        FaultServer(Generated(1, 5000), faults=faults, checksum="sha1") as server,
        open_fetcher(server, cache_dir, checksums=True) as fetcher,
    ):
        assert await fetcher.read_bytes(server.uri(KEY), cache=False) == body
        assert server.count(fault=Fault.FLIP) == 1
        assert await fetcher.read_bytes(server.uri(KEY), 0, 2000, cache=False) != body[:2000]
        assert server.count(key=KEY) == 3


@pytest.mark.parametrize("moment", range(1, 6))
async def test_an_object_that_is_replaced_between_ranges_is_one_or_the_other(cache_dir: Path, moment: int) -> None:
    faults = Faults(at={(KEY, moment): Fault.REPLACE})
    async with FaultServer(Generated(1, 2 * MIB), faults=faults) as server:
        async with open_fetcher(server, cache_dir, parts_from=512 * KIB, part_size=256 * KIB) as fetcher:
            entry = await fetcher.fetch(server.uri(KEY))
            assert entry.path.read_bytes() in server.versions(KEY)
            assert fetcher.stats().retries <= 1
        # What was begun is given up for the new version once, not for each range that is refused.
        assert server.count(status=200) <= 2


async def test_with_every_fault_at_once_every_object_is_right(cache_dir: Path) -> None:
    objects = Generated(600, 3000)
    faults = Faults.evenly(0.22, slow_seconds=0.05, stall_seconds=0.05, drip_seconds=0.001)
    async with FaultServer(objects, faults=faults, checksum="crc32") as server:
        async with open_fetcher(server, cache_dir, checksums=True, attempts=20) as fetcher:
            seen: list[str] = []
            async for entry in fetcher.entries([server.uri(key) for key in objects], order="completion"):
                key = parse(entry.uri).key
                assert entry.path.read_bytes() in server.versions(key)
                seen.append(key)
        struck = {fault: server.count(fault=fault) for fault in list(Fault)[:11]}
    assert sorted(seen) == sorted(objects)
    assert min(struck.values()) > 0
