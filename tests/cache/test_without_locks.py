"""Eviction, clear and prune where locks do nothing, and everybody seems dead to everybody: what is served is right.

What may be lost is bandwidth: blobs that go while another wants them, and rows that the next start sets right.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncfetch.cache import Cache, Found, Published
from asyncfetch.cache.upkeep import check, prune
from asyncfetch.cache.upkeep.checking import Blob
from tests.cache.upkeep.helpers import keeping

from .helpers import blobs, check_accounts, check_blobs, key, leftovers, look_up, opened, publish

pytestmark = [pytest.mark.usefixtures("no_locks"), pytest.mark.timeout(120)]

SIZE, COUNT = 10_000, 20
NAMES = [key(str(number)) for number in range(COUNT)]
LATER = 2e12  # when a job starts that has used nothing yet


def body(number: int) -> bytes:
    return b"%04d" % number * (SIZE // 4)


async def use(cache: Cache, *, backwards: bool = False) -> None:
    """Fetches what is not there, as a job does, in an order of its own; all that is served is what was asked for."""
    for number in reversed(range(COUNT)) if backwards else range(COUNT):
        (found,) = await look_up(cache, NAMES[number])
        if found is None:
            check_one(await publish(cache, body(number), NAMES[number]), number)
        else:
            check_one(found, number)


def check_one(one: Found | Published, number: int) -> None:
    try:
        data = Path(one.path).read_bytes()
    except FileNotFoundError:
        return  # another evicted or cleared it since, and it is fetched again
    assert data == body(number)


async def check_whole(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With locks again: a start, and a fetch of everything, after which nothing is amiss."""
    monkeypatch.undo()
    async with opened(directory) as cache:
        await use(cache)
        found = await look_up(cache, *NAMES)
        for number, one in enumerate(found):
            assert one is not None
            assert Path(one.path).read_bytes() == body(number)
        assert not leftovers(directory)
    check_blobs(directory)
    with keeping(directory) as kept:
        list(check(kept, repair=True))
        assert [item for item in check(kept) if not isinstance(item, Blob)] == []
    check_accounts(directory)


async def test_those_that_evict_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache:
        await use(cache)
    limit = SIZE * COUNT // 2
    async with (
        opened(tmp_path, max_bytes=limit, job_started=LATER) as one,
        opened(tmp_path, max_bytes=limit, job_started=LATER) as other,
    ):
        await asyncio.gather(use(one), use(other, backwards=True))
        assert one.statistics().evicted + other.statistics().evicted >= COUNT // 2
        # What the other has in a batch at the same moment, one body here, is not seen before the next batch.
        assert len(blobs(tmp_path)) <= COUNT // 2 + 1
    await check_whole(tmp_path, monkeypatch)


async def test_one_that_clears_beside_one_that_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        await use(one)
        fetching = asyncio.create_task(use(other))
        await one.clear()
        await asyncio.gather(fetching, use(one, backwards=True))
        await other.clear()
        await use(one)
    await check_whole(tmp_path, monkeypatch)


async def test_a_prune_beside_one_that_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove() -> None:
        with keeping(tmp_path) as one:
            list(prune(one, max_bytes=3 * SIZE))

    async with opened(tmp_path) as cache:
        await use(cache)
    async with opened(tmp_path, job_started=LATER) as cache:
        await asyncio.gather(asyncio.to_thread(remove), use(cache))
        await asyncio.to_thread(remove)
        await use(cache, backwards=True)
    await check_whole(tmp_path, monkeypatch)
