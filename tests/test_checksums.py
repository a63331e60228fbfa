"""Bytes that were changed on the way are seen, fetched again, and never kept."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import TYPE_CHECKING, Any, Literal

import pytest
from boto3.s3.transfer import TransferConfig

import asyncfetch
from asyncfetch import Access, NetworkPolicy
from asyncfetch.errors import IntegrityError
from asyncfetch.origins import open_origins
from asyncfetch.settings import KIB, MIB
from asyncfetch.testing import Fault, Faults, FaultServer, Generated, RawRequest, ScriptedServer, answer
from asyncfetch.uris import parse, s3
from tests.leaks import temporary_files
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.testing.shelf import Checksum
    from tests.objects import Bucket

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


# Objects that were uploaded in parts, of which the checksum is one of checksums.

COMPOSITE = {name: way for name, way in WAYS.items() if name != "small"}


@pytest.mark.parametrize("way", COMPOSITE)
@pytest.mark.parametrize("part_size", [MIB, 700_000])  # three even ones, and four of which the last is shorter
async def test_a_flipped_bit_is_seen_by_a_composite_checksum(cache_dir: Path, way: str, part_size: int) -> None:
    size, network = WAYS[way]
    # Its first four requests are for a head with the checksum, for those of two parts, and for the object.
    faults = Faults(at={(KEY, 5 if way == "parts" else 4): Fault.FLIP})
    async with FaultServer(Generated(1, size), faults=faults, checksum="sha256", part_size=part_size) as server:
        async with open_fetcher(server, cache_dir, checksums=True, **network) as fetcher:
            entry = await fetcher.fetch(server.uri(KEY))
            assert entry.path.read_bytes() == Generated(1, size)[KEY]
            assert fetcher.stats().retries == 1
        assert server.count(fault=Fault.FLIP) == 1
        assert server.count(method="HEAD") == 4
    assert temporary_files(cache_dir) == []


async def test_a_composite_checksum_that_never_fits_is_an_error(cache_dir: Path) -> None:
    async with (
        FaultServer(Generated(1, 3 * MIB), faults=Faults(flip=1.0), checksum="crc32", part_size=MIB) as server,
        open_fetcher(server, cache_dir, checksums=True, attempts=2) as fetcher,
    ):
        with pytest.raises(IntegrityError, match="crc32"):
            await fetcher.fetch(server.uri(KEY))


@pytest.mark.parametrize("nth", [1, 4])
async def test_replaced_while_its_parts_are_asked_about_it_is_one_or_the_other(cache_dir: Path, nth: int) -> None:
    faults = Faults(at={(KEY, nth): Fault.REPLACE})
    async with FaultServer(Generated(1, 3 * MIB), faults=faults, checksum="crc32", part_size=MIB) as server:
        async with open_fetcher(server, cache_dir, checksums=True, parts_from=None) as fetcher:
            entry = await fetcher.fetch(server.uri(KEY))
            assert entry.path.read_bytes() in server.versions(KEY)
        assert len(server.versions(KEY)) == 2


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.UNAVAILABLE])
async def test_a_part_whose_head_fails_is_asked_about_again(cache_dir: Path, fault: Fault) -> None:
    faults = Faults(at={(KEY, 2): fault, (KEY, 6): Fault.FLIP})
    async with (
        FaultServer(Generated(1, 3 * MIB), faults=faults, checksum="crc32", part_size=MIB) as server,
        open_fetcher(server, cache_dir, checksums=True, parts_from=None) as fetcher,
    ):
        assert (await fetcher.fetch(server.uri(KEY))).size == 3 * MIB
        assert fetcher.stats().retries == 2, "the flipped bit is seen in the end"


async def test_a_server_of_others_tells_how_parts_lie(empty_bucket: Bucket) -> None:
    body = bytes(range(256)) * 24_000
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, use_threads=False)
    told = {"ChecksumAlgorithm": "SHA256"}
    empty_bucket.client.upload_fileobj(io.BytesIO(body), empty_bucket.name, "key", ExtraArgs=told, Config=config)
    settings = asyncfetch.Settings(
        access=Access(endpoint_url=empty_bucket.server.endpoint_url, region="us-east-1"),
        network=NetworkPolicy(checksums=True),
    )
    origin, sink = open_origins(settings)["s3"], Collector()
    try:
        stat = await origin.read(s3(empty_bucket.name, "key"), sink)
    finally:
        await origin.aclose()
    assert bytes(sink.data) == body
    assert isinstance(stat, asyncfetch.ObjectStat)
    digests = [hashlib.sha256(part).digest() for part in (body[: 5 * MIB], body[5 * MIB :])]
    assert stat.checksum == f"sha256:{hashlib.sha256(b''.join(digests)).hexdigest()}/{5 * MIB}"


@pytest.mark.parametrize("count", [None, "3"])
async def test_where_a_server_tells_no_parts_composite_checksums_are_passed_over(
    cache_dir: Path, caplog: pytest.LogCaptureFixture, count: str | None
) -> None:
    told = [f"x-amz-checksum-crc32: {base64.b64encode(bytes(4)).decode()}-2", "x-amz-checksum-type: COMPOSITE"]

    def answers(request: RawRequest) -> bytes:
        if request.method == "GET":
            return answer(b"0123456789", headers=['ETag: "e-2"', *told])
        return (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
            + (b"" if count is None else f"x-amz-mp-parts-count: {count}\r\n".encode())
            + b"\r\n"
        )

    async with (
        ScriptedServer(answers) as server,
        asyncfetch.Fetcher(
            cache_dir=cache_dir, endpoint_url=server.url, region="us-east-1", network=NetworkPolicy(checksums=True)
        ) as fetcher,
    ):
        for key in ("a", "b"):
            assert (await fetcher.fetch(f"s3://bucket/{key}")).path.read_bytes() == b"0123456789"
        methods = "".join(request.method[0] for request in server.requests)
    # The server that tells none is not asked again, and that is said once.
    assert methods == ("GHGG" if count is None else "GHGGHG")
    assert caplog.text.count("its server tells no parts") == (count is None)
