"""What headers say, as the cache keeps it: found at once, told to the index by the group, forgotten with its blob."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from asyncfetch.cache import Cache, Found
from asyncfetch.cache.headers import DUE, Headers

from .helpers import key, look_up, opened, publish

if TYPE_CHECKING:
    from pathlib import Path


def rows(cache_dir: Path) -> list[Any]:
    (path,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        return [header for (header,) in connection.execute("SELECT header FROM blobs ORDER BY header")]


async def filled(cache: Cache, count: int) -> list[str]:
    return [(await publish(cache, b"%d" % number, key(str(number)))).digest for number in range(count)]


async def header_of(cache: Cache, name: str) -> object:
    (found,) = await look_up(cache, key(name))
    assert isinstance(found, Found)
    return found.header


async def test_a_header_is_found_before_the_index_is_told(cache_dir: Path) -> None:
    async with opened(cache_dir) as cache:
        one, two = await filled(cache, 2)
        assert cache.on_header is not None
        assert await header_of(cache, "0") is None
        cache.on_header(one, 7)
        assert await header_of(cache, "0") == 7
        assert rows(cache_dir) == [None, None]
        cache.on_header(two, 8)
        await publish(cache, b"more", key("more"))  # a write that there is anyway
        assert rows(cache_dir) == [None, 7, 8]
        cache.on_header(two, 9)
    assert rows(cache_dir) == [None, 7, 9]
    async with opened(cache_dir) as cache:
        assert [await header_of(cache, name) for name in ("0", "1", "more")] == [7, 9, None]


async def test_when_many_are_known_the_index_is_told_though_nothing_else_is(cache_dir: Path) -> None:
    async with opened(cache_dir) as cache:
        digests = await filled(cache, DUE)
        assert cache.on_header is not None
        for number, digest in enumerate(digests[1:], 1):
            cache.on_header(digest, number)
        await header_of(cache, "0")
        assert set(rows(cache_dir)) == {None}
        cache.on_header(digests[0], 0)
        await header_of(cache, "0")
        assert rows(cache_dir) == list(range(DUE))


async def test_a_header_goes_with_its_blob_and_stays_when_that_is_met_again(cache_dir: Path) -> None:
    async with opened(cache_dir) as cache:
        (digest,) = await filled(cache, 1)
        assert cache.on_header is not None
        cache.on_header(digest, 7)
        await publish(cache, b"0", key("again"))
        assert await header_of(cache, "again") == 7
        await cache.clear()
        cache.on_header(digest, 7)  # who decoded it has it still
    assert rows(cache_dir) == []


def test_what_came_while_the_index_was_told_is_told_the_next_time() -> None:
    headers = Headers()
    headers.hear("blake3:00", 1)
    headers.hear("blake3:01", 1)
    assert len(headers.untold()) == 2
    headers.hear("blake3:01", 2)
    headers.hear("blake3:02", 3)
    headers.told()
    assert [headers.get(f"blake3:0{place}") for place in range(3)] == [None, 2, 3]
    assert len(headers.untold()) == 2
