"""What the tests of the commands share: a cache that was really filled from a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import asyncfetch
from tests.objects import Bucket


@pytest.fixture
def cached(empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Bucket:
    """A bucket whose objects are all in the cache: five, two of them alike."""
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    for index in range(3):
        empty_bucket.put(f"photos/2024/{index}.jpg", b"x" * 1000 * (index + 1))
    empty_bucket.put("photos/same.jpg", b"x" * 1000)
    empty_bucket.put("top.txt", b"hello\n")
    assert asyncfetch("prefetch", empty_bucket.uri(), "--quiet").code == 0
    return empty_bucket
