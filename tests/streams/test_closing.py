"""What a stream does when it ends while others are still at work for it, and what it says afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from asyncfetch import Fetcher
from tests.leaks import temporary_files
from tests.objects import Bucket


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_local_files_that_are_still_looked_at_do_not_disturb_a_closed_stream(
    order: Literal["input", "completion"], tmp_path: Path, cache_dir: Path
) -> None:
    paths = [tmp_path / f"{index}" for index in range(100)]
    for path in paths:
        path.touch()
    accidents: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: accidents.append(context))
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        async with fetcher.entries(paths, order=order):
            pass
        while fetcher.stats().objects < len(paths) and not accidents:
            await asyncio.sleep(0)
    assert not accidents


async def test_the_private_file_of_a_failure_that_is_skipped_goes_as_the_stream_moves_on(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    uris = [empty_bucket.put(f"no-image-{index}", b"text %d" % index) for index in range(5)]
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        stream = fetcher.images(uris, cache=False, on_error="skip")
        async with stream:
            while fetcher.stats().failures.get("UnsupportedFormat", 0) < len(uris):
                await asyncio.sleep(0)
            async for _ in stream:
                raise AssertionError
        assert stream.report().failed == 5
        await fetcher.fetch(uris[0])  # what was to be deleted before is deleted by now
        assert not temporary_files(cache_dir)


async def test_the_report_of_a_stream_that_has_ended_does_not_change_any_more(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    uris = [empty_bucket.put(f"o/{index}", b"body %d" % index) for index in range(5)]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(uris)
        assert len([entry async for entry in stream]) == 5
        report = stream.report()
        await fetcher.prefetch(uris * 20)
        assert stream.report() == report
