"""What came of large bodies: it is gone on with by one at a time, of one object, under one boot, and counted."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncfetch.cache import Begun, PartsLost, Published, files
from asyncfetch.cache import opening as opening_module
from asyncfetch.cache.owner import Owner
from asyncfetch.cache.partials import Partials
from asyncfetch.cache.sinks import PIECE
from asyncfetch.errors import StorageFull

from .helpers import (
    HASHES,
    begin,
    bring,
    give_up,
    key,
    leftovers,
    look_up,
    opened,
    publish,
    settled,
    taken,
    totals,
    unfinished,
)
from .test_owner import forsake

if TYPE_CHECKING:
    from asyncfetch.cache import Cache

NOISE = random.Random(17).randbytes(6 * PIECE + 99)
BEGUN = Begun(key("large"), "one", len(NOISE))


async def leave(cache: Cache, *spans: tuple[int, int], begun: Begun = BEGUN) -> None:
    await give_up(cache, begun, NOISE, *spans)
    while leftovers_in(cache):
        await asyncio.sleep(0)


def leftovers_in(cache: Cache) -> list[str]:
    return [name for name in files.names(cache._owner.directory) if name not in ("lock", "intent")]


async def test_another_attempt_goes_on_with_what_came(tmp_path: Path) -> None:
    spans = [(PIECE, 2 * PIECE), (4 * PIECE, 4 * PIECE + 7)]
    async with opened(tmp_path) as cache:
        await leave(cache, *spans)
        assert len(unfinished(tmp_path)) == 1
    async with opened(tmp_path) as cache:
        body = await begin(cache, BEGUN)
        assert list(body.present) == spans
        assert not unfinished(tmp_path)
        for start, stop in ((0, PIECE), (2 * PIECE, 4 * PIECE), (4 * PIECE + 7, len(NOISE))):
            await bring(body, start, stop, NOISE)
        whole = await body.finish()
        assert whole.digest == "blake3:" + HASHES["blake3"](NOISE)
        published: Published = await taken(lambda done: cache.publish(whole, BEGUN.key, done, etag=BEGUN.etag))
        assert Path(published.path).read_bytes() == NOISE
        assert not leftovers(tmp_path)
    assert not unfinished(tmp_path)


async def test_a_digest_is_of_the_bytes_that_are_there(tmp_path: Path) -> None:
    """What lies on the disk may have been damaged since it came."""
    async with opened(tmp_path) as cache:
        await leave(cache, (0, PIECE))
        (left,) = unfinished(tmp_path)
        with (left / "body").open("r+b") as file:
            file.write(b"damage")
        body = await begin(cache, BEGUN)
        await bring(body, PIECE, len(NOISE), NOISE)
        whole = await body.finish()
        assert whole.digest == "blake3:" + HASHES["blake3"](Path(whole.path).read_bytes())
        assert whole.digest != "blake3:" + HASHES["blake3"](NOISE)
        whole.release()


@pytest.mark.parametrize("other", [BEGUN._replace(etag="two"), BEGUN._replace(size=len(NOISE) - 1)])
async def test_another_object_voids_what_is_there(tmp_path: Path, other: Begun) -> None:
    async with opened(tmp_path) as cache:
        await leave(cache, (0, PIECE))
        body = await begin(cache, other)
        assert not body.present
        body.abort()
    assert not unfinished(tmp_path)


async def test_nothing_is_left_of_what_is_of_no_use(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        body = await begin(cache, BEGUN)
        await bring(body, 0, PIECE, NOISE)
        body.abort()
        (await begin(cache, BEGUN)).abort(of_use=True)
    assert not unfinished(tmp_path)


async def test_another_boot_voids_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache:
        await leave(cache, (0, PIECE))
        await leave(cache, (0, PIECE), begun=BEGUN._replace(key=key("another")))
    monkeypatch.setattr(opening_module, "boot_id", lambda: "another boot")
    async with opened(tmp_path) as cache:
        assert not unfinished(tmp_path)
        assert not (await begin(cache, BEGUN)).present


async def test_a_map_that_claims_what_is_not_there_is_not_believed(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await leave(cache, (0, 2 * PIECE))
        (left,) = unfinished(tmp_path)
        os.truncate(left / "body", 2 * PIECE - 1)
        body = await begin(cache, BEGUN)
        assert not body.present
        body.abort()
    assert not unfinished(tmp_path)


@pytest.mark.parametrize("junk", ["no map", "no body", "a file for a map", "empty"])
async def test_junk_is_of_no_use_and_goes(tmp_path: Path, junk: str) -> None:
    async with opened(tmp_path) as cache:
        await leave(cache, (0, PIECE))
        (left,) = unfinished(tmp_path)
        if junk == "a file for a map":
            (left / "map").write_bytes(b"nothing of the kind")
        for name in {"no map": ["map"], "no body": ["body"], "empty": ["map", "body"]}.get(junk, []):
            (left / name).unlink()
        assert not (await begin(cache, BEGUN)).present
    async with opened(tmp_path):
        assert not unfinished(tmp_path)


async def test_what_a_dead_process_was_bringing_is_gone_on_with(tmp_path: Path) -> None:
    """By one that opens the cache, and by one that has it open."""
    async with opened(tmp_path) as living:
        for number in range(2):
            dead = Owner(str(tmp_path / "v1" / "tmp"))
            async with opened(tmp_path) as cache:
                await leave(cache, (0, PIECE))
            (left,) = unfinished(tmp_path)
            left.rename(f"{dead.directory}/7-{left.name}")
            forsake(dead)
            if number:
                assert (await begin(living, BEGUN)).present
                continue
            async with opened(tmp_path) as cache:
                body = await begin(cache, BEGUN)
                assert body.present
                body.abort()


async def test_what_a_dead_process_had_made_whole_is_not_left_without_its_body(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await leave(cache, (0, PIECE))
    dead = Owner(str(tmp_path / "v1" / "tmp"))
    (left,) = unfinished(tmp_path)
    (left / "body").rename(f"{dead.directory}/8")
    left.rename(f"{dead.directory}/7-{left.name}")
    forsake(dead)
    async with opened(tmp_path):
        assert not unfinished(tmp_path)
        assert not leftovers(tmp_path)


async def test_of_two_that_were_at_it_the_one_of_which_more_came_stays(tmp_path: Path) -> None:
    for first, second in [((0, 3 * PIECE), (0, PIECE)), ((0, PIECE), (0, 3 * PIECE))]:
        async with opened(tmp_path) as one, opened(tmp_path) as other:
            bodies = [await begin(one, BEGUN), await begin(other, BEGUN)]
            assert [list(body.present) for body in bodies] == [[], []]
            for cache, body, span in zip((one, other), bodies, (first, second), strict=True):
                await bring(body, *span, NOISE)
                body.abort(of_use=True)
                while leftovers_in(cache):
                    await asyncio.sleep(0)
            body = await begin(one, BEGUN)
            assert list(body.present) == [(0, 3 * PIECE)]
            body.abort()


async def test_the_next_attempt_waits_for_the_one_before_to_leave_what_came(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        body = await begin(cache, BEGUN)
        await bring(body, 0, PIECE, NOISE)
        body.abort(of_use=True)
        again = cache.parted(len(NOISE), begun=BEGUN)
        while (pause := again.opening()) is not None:
            await pause
        assert list(again.present) == [(0, PIECE)]
        aside = await begin(cache, BEGUN)  # one more at the same time is brought for itself
        assert not aside.present
        aside.abort(of_use=True)
        again.abort()
    assert not unfinished(tmp_path)


async def test_on_a_full_disk_nothing_is_left_to_fill_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_at = files.write_at

    def full(descriptor: int, data: memoryview, offset: int) -> None:
        if offset >= 2 * PIECE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(descriptor, data, offset)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "write_at", full)
        body = await begin(cache, BEGUN)
        with pytest.raises(StorageFull):
            await bring(body, 0, len(NOISE), NOISE)
        body.abort(of_use=True)
    assert not unfinished(tmp_path)


async def test_a_map_that_cannot_be_written_claims_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_at, lines = files.write_at, 0

    def full(descriptor: int, data: memoryview, offset: int) -> None:
        nonlocal lines
        lines += len(data) == 34
        if len(data) == 34 and lines == 2:
            write_at(descriptor, data[:20], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(descriptor, data, offset)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "write_at", full)
        await leave(cache, (0, PIECE), (PIECE, 2 * PIECE), (2 * PIECE, 3 * PIECE))
        assert list((await begin(cache, BEGUN)).present) == [(0, PIECE)]


@pytest.mark.usefixtures("no_locks")
async def test_without_locks_one_takes_the_parts_of_a_living_process_and_both_are_right(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        first = await begin(one, BEGUN)
        await bring(first, 0, PIECE, NOISE)
        second = await begin(other, BEGUN)
        assert list(second.present) == [(0, PIECE)]
        with pytest.raises(PartsLost):
            await bring(first, PIECE, len(NOISE), NOISE)
            await first.finish()
        first.abort(of_use=True)
        await bring(second, PIECE, len(NOISE), NOISE)
        whole = await second.finish()
        assert Path(whole.path).read_bytes() == NOISE
        whole.release()


# How it counts, and how it goes.


async def test_what_is_unfinished_counts_and_goes_in_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"o" * 1000, key("old"))
        await leave(cache, (0, PIECE))
        (left,) = unfinished(tmp_path)
    for path, at in ((left / "map", 1e9), (left, 1e9)):
        os.utime(path, (at, at))
    async with opened(tmp_path, max_bytes=PIECE, job_started=2e12) as cache:
        assert not (await publish(cache, b"n" * 1000, key("new"))).private
        assert not unfinished(tmp_path), "it was older than the blob"
        assert await look_up(cache, key("old")) != [None]


async def test_a_blob_that_is_older_goes_first_and_where_none_may_go_the_parts_do(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"o" * 1000, key("old"))
        await leave(cache, (0, PIECE))
    (left,) = unfinished(tmp_path)
    soon = time.time() + 1  # a file's own time may lie a tick of the kernel behind the clock, and the blob's
    os.utime(left / "map", (soon, soon))
    held = files.allocated(str(left / "body")) or 0
    async with opened(tmp_path, max_bytes=held + 1500, job_started=2e12) as cache:
        assert not (await publish(cache, b"n" * 1000, key("new"))).private
        assert await look_up(cache, key("old")) == [None]
        assert unfinished(tmp_path)
    async with opened(tmp_path, max_bytes=held + 1500) as cache:
        await look_up(cache, key("new"))
        assert not (await publish(cache, b"m" * 1000, key("another"))).private
        assert not unfinished(tmp_path), "a job may use the blob"
        assert await look_up(cache, key("new")) != [None]


@pytest.mark.parametrize("full", [False, True], ids=["empty", "full of what the job uses"])
async def test_a_cache_that_has_nothing_else_to_do_makes_room_for_what_was_left(tmp_path: Path, full: bool) -> None:
    async with opened(tmp_path, max_bytes=2 * PIECE) as cache:
        if full:
            assert not (await publish(cache, NOISE[: 2 * PIECE], key("used"))).private
            refused = await publish(cache, b"n" * 1000, key("refused"))
            assert refused.private, "it was just seen that nothing may go"
            cache.discard(refused.path)
        await leave(cache, (0, 3 * PIECE))
        while unfinished(tmp_path):
            await asyncio.sleep(0.001)
        await settled(cache)
        assert cache.statistics().evicted == 1
        assert full == (await look_up(cache, key("used")) != [None])


async def test_what_was_left_stays_where_what_is_older_makes_room_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, NOISE[:PIECE], key("old"))
    async with opened(tmp_path, max_bytes=3 * PIECE, job_started=2e12) as cache:
        await leave(cache, (0, 5 * PIECE // 2))
        while totals(tmp_path)[0]:
            await asyncio.sleep(0.001)
        await settled(cache)
        assert len(unfinished(tmp_path)) == 1
        assert list((await begin(cache, BEGUN)).present) == [(0, 5 * PIECE // 2)]


async def test_clearing_takes_it_along(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await leave(cache, (0, PIECE))
        gone = await cache.clear()
        assert (gone.unfinished, gone.unfinished_bytes >= PIECE) == (1, True)
        assert not unfinished(tmp_path)
        assert not (await begin(cache, BEGUN)).present


def test_the_sum_follows_what_comes_and_goes(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    owner = Owner(str(tmp_path / "tmp"))
    partials = Partials(str(tmp_path / "partial"), owner, "boot")
    assert partials.held() == 0
    for number in range(3):
        path = tmp_path / "partial" / f"{number:032x}"
        path.mkdir(parents=True)
        (path / "body").write_bytes(b"x" * 8192)
        assert partials.held() == (number + 1) * 8192
    partials.clear()
    assert partials.held() == 0
    owner.close()
