"""Single calls, where a fetcher ends under them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import FetcherClosed
from tests.objects import Bucket


async def test_a_private_file_that_goes_with_its_fetcher_is_not_handed_out(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    uri = empty_bucket.put("key", b"body")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        call = asyncio.ensure_future(fetcher.fetch(uri, cache=False))
        while not fetcher.stats().whole_body.p50:  # until the body is here and its file is being written
            await asyncio.sleep(0)
    with pytest.raises(FetcherClosed):
        await call


async def test_a_range_that_is_looked_up_when_the_fetcher_closes_is_refused_by_name(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    uri = empty_bucket.put("key", b"body")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        call = asyncio.ensure_future(fetcher.read_bytes(uri, 1, 2))
        await asyncio.sleep(0)
    with pytest.raises(FetcherClosed):
        await call
