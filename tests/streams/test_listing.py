"""Listings as iterators: one consumer, and what ends them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import FetcherClosed, UsageError
from asyncfetch.testing.scripted import Hold, ScriptedServer
from tests.objects import Bucket


@pytest.fixture
def bucket(empty_bucket: Bucket) -> Bucket:
    for key in "abc":
        empty_bucket.put(key, b"body")
    return empty_bucket


async def test_a_second_consumer_is_refused_and_the_first_loses_nothing(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        listing = fetcher.list(bucket.uri())
        first, second = await asyncio.gather(anext(listing), anext(listing), return_exceptions=True)
        assert isinstance(second, UsageError)
        rest = [stat.uri async for stat in listing]
    assert not isinstance(first, BaseException)
    assert [first.uri, *rest] == [bucket.uri(key) for key in "abc"]


async def test_closing_a_listing_tells_whoever_waits_for_its_next_object(empty_bucket: Bucket, cache_dir: Path) -> None:
    async with (
        ScriptedServer(lambda request: [Hold()]) as server,
        Fetcher(cache_dir=cache_dir, endpoint_url=server.url) as fetcher,
    ):
        listing = fetcher.list("s3://some-bucket/")
        step = asyncio.ensure_future(anext(listing))
        await server.until(lambda: bool(server.requests))
        await listing.aclose()
        with pytest.raises(FetcherClosed):
            await step
        assert [stat async for stat in listing] == []


async def test_a_listing_of_a_closed_fetcher_says_so(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        listing = fetcher.list(bucket.uri())
    with pytest.raises(FetcherClosed):
        await anext(listing)
