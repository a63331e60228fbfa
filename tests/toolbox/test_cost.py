"""What a prefix costs: sums over a listing, and figures of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncfetch import Fetcher
from asyncfetch.objects import ObjectStat
from asyncfetch.prices import prices_of, regions
from asyncfetch.settings import Access
from asyncfetch.toolbox import Cost, estimate
from tests.origins.shelf import Shelf
from tests.servers import needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers import Server

GIB = 1 << 30


async def cost(*found: tuple[str | None, int], region: str | None = None) -> Cost:
    async def listing() -> AsyncIterator[ObjectStat]:
        for number, (storage_class, size) in enumerate(found):
            yield ObjectStat(f"s3://b/{number}", size, storage_class=storage_class)

    return await estimate("s3://b/", listing(), region=region)


async def test_each_class_has_its_share() -> None:
    found = await cost(("STANDARD", 100 * GIB), (None, 100 * GIB), ("DEEP_ARCHIVE", 1000 * GIB), region="us-east-1")
    assert [(share.storage_class, share.objects, share.bytes) for share in found.shares] == [
        ("DEEP_ARCHIVE", 1, 1000 * GIB),
        ("STANDARD", 2, 200 * GIB),
    ]
    assert found.storage == pytest.approx(200 * 0.023 + 1000 * 0.00099)
    assert (found.objects, found.bytes, found.archived) == (3, 1200 * GIB, 1000 * GIB)


async def test_reading_it_once() -> None:
    found = await cost(*[("STANDARD_IA", GIB)] * 2500, region="us-east-1")
    assert found.requests == pytest.approx(2500 / 1000 * 0.0004 + 3 / 1000 * 0.005)
    assert found.retrieval == pytest.approx(25)
    assert found.transfer == pytest.approx(225)


async def test_a_region_that_the_table_does_not_have() -> None:
    assert (await cost(("STANDARD", GIB), region="eu-central-1")).storage == pytest.approx(0.0245)
    elsewhere = await cost(("STANDARD", GIB), region="mars-north-1")
    assert elsewhere.region == "us-east-1"
    assert elsewhere.storage == pytest.approx(0.023)


async def test_nothing_costs_a_listing() -> None:
    found = await cost()
    assert (found.shares, found.storage, found.transfer) == ((), 0, 0)
    assert found.requests == pytest.approx(0.000005)


def test_the_table_is_sound() -> None:
    for region in regions():
        prices = prices_of(region)
        assert prices.region == region
        kept = [
            prices.storage[kind] for kind in ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "DEEP_ARCHIVE")
        ]
        assert kept == sorted(kept, reverse=True)
        assert 0 < prices.get < prices.list < 0.01


@needs("if_match")
async def test_a_listing_tells_the_classes(server: Server, cache_dir: Path) -> None:
    shelf = Shelf(server)
    for key, kind in (("a", "STANDARD"), ("b", "STANDARD_IA"), ("c", "GLACIER")):
        shelf.client.put_object(Bucket=shelf.name, Key=key, Body=b"x" * 10, StorageClass=kind)
    for origin in ("native", "boto"):
        access = Access(endpoint_url=server.endpoint_url, origin=origin)
        async with Fetcher(cache_dir=cache_dir, access=access) as fetcher:
            found = await estimate(str(shelf.at("")), fetcher.list(shelf.at("")))
        assert {share.storage_class: share.bytes for share in found.shares} == {
            "STANDARD": 10,
            "STANDARD_IA": 10,
            "GLACIER": 10,
        }
