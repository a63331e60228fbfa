"""Pins: what they cover, and what is left when they go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncfetch.cache.upkeep import Marked, Pin, Trouble, check, pin, pin_of, select, unpin
from asyncfetch.errors import UsageError
from tests.cache.helpers import blobs, key, opened, publish
from tests.cache.upkeep.helpers import BUCKET, ENDPOINT, fill, keeping

BODIES = {"photos/a": b"a", "photos/b": b"b", "photos": b"c", "other/b": b"b"}


def pinned(cache_dir: Path) -> set[str]:
    with keeping(cache_dir) as one:
        return {
            listed.key.key for page in one.catalog.refs(select(None)) for listed in page if listed.known.pinned == 1
        }


async def test_a_pin_marks_what_begins_with_it_and_unpin_takes_that_back(cache_dir: Path) -> None:
    await fill(cache_dir, bodies=BODIES)
    photos = Pin(ENDPOINT, BUCKET, "photos/")
    with keeping(cache_dir) as one:
        assert pin(one, photos) == Marked(1, 2)
        assert pin(one, photos) == Marked(0, 0)
        assert one.catalog.pins() == [photos]
        # The blob of other/b is that of photos/b.
        assert pinned(cache_dir) == {"photos/a", "photos/b", "other/b"}
        assert unpin(one, select(f"s3://{BUCKET}/photos")) == Marked(0, 0), "another prefix"
        assert unpin(one, select(f"s3://{BUCKET}/photos/", endpoint_url="")) == Marked(0, 0), "another endpoint"
        assert unpin(one, select(f"s3://{BUCKET}/photos/")) == Marked(1, 2)
        assert one.catalog.pins() == []
    assert pinned(cache_dir) == set()


async def test_what_is_published_under_a_pin_is_pinned(cache_dir: Path) -> None:
    async with opened(cache_dir) as cache:
        with keeping(cache_dir) as one:
            pin(one, Pin(ENDPOINT, BUCKET, "photos/%"))
        await publish(cache, b"a", key("photos/%a"))
        await publish(cache, b"b", key("photos/b"))
        await publish(cache, b"a", key("other/a"))
        await publish(cache, b"c", key("photos/%c"))
        await publish(cache, b"d", key("photos/%c"))
        await publish(cache, b"e", key("photos/%e")._replace(endpoint=""))
    assert pinned(cache_dir) == {"photos/%a", "other/a", "photos/%c"}


async def test_a_blob_that_a_repair_makes_known_is_pinned(cache_dir: Path) -> None:
    await fill(cache_dir, bodies=BODIES)
    with keeping(cache_dir) as one:
        pin(one, Pin(ENDPOINT, BUCKET, "photos/a"))
        one.make([("DELETE FROM blobs", ()), ("UPDATE totals SET blobs = 0, blob_bytes = 0", ())])
        for path in blobs(cache_dir).values():
            os.utime(path, (1e9, 1e9))
        assert [item.kind for item in check(one, repair=True) if isinstance(item, Trouble)] == ["unknown"] * 3
    assert pinned(cache_dir) == {"photos/a"}


async def test_what_another_pin_covers_stays_pinned(cache_dir: Path) -> None:
    await fill(cache_dir, bodies=BODIES)
    with keeping(cache_dir) as one:
        pin(one, Pin(ENDPOINT, BUCKET, "photos/"))
        assert pin(one, Pin(ENDPOINT, BUCKET, "other/")) == Marked(1, 0)
        assert unpin(one, select(f"s3://{BUCKET}/photos/")) == Marked(1, 1)
    assert pinned(cache_dir) == {"photos/b", "other/b"}


async def test_a_pin_holds_at_its_endpoint_alone(cache_dir: Path) -> None:
    await fill(cache_dir, bodies=BODIES)
    with keeping(cache_dir) as one:
        assert pin(one, Pin("", BUCKET, "")) == Marked(1, 0)
        assert pin(one, Pin(ENDPOINT, BUCKET, "")) == Marked(1, 3)
        assert unpin(one, select(f"s3://{BUCKET}/")) == Marked(2, 3), "both, as no endpoint is named"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b", Pin("http://here", "b", "")),
        ("s3://b/k", Pin("http://here", "b", "k")),
        ("https://host/a/", Pin("https://", "host", "/a/")),
    ],
)
def test_the_pin_that_a_text_means(text: str, expected: Pin) -> None:
    assert pin_of(select(text), endpoint="http://here/") == expected


@pytest.mark.parametrize("text", [None, "s3://", "s3://b/k?versionId=v"])
def test_what_cannot_be_pinned_is_refused(text: str | None) -> None:
    with pytest.raises(UsageError):
        pin_of(select(text), endpoint="")
