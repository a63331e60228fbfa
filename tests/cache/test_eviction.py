"""A cache with limits: what it keeps is what running jobs use, and what does not fit is served all the same."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.cache import Cache, Published, database, eviction, files, oldest
from asyncfetch.cache.admission import SLACK
from asyncfetch.cache.digests import digest_of
from asyncfetch.cache.needs import Needs
from asyncfetch.cache.owner import Owner
from asyncfetch.errors import FetcherClosed, StorageFull

from .helpers import (
    blobs,
    check_accounts,
    check_blobs,
    keep_private,
    key,
    leftovers,
    look_up,
    opened,
    publish,
    settled,
    taken,
    totals,
)

SIZE = 10_000
LONG_AGO, EARLIER, LATER = 1e9, 1e12, 2e12  # the job that started in the future has used nothing yet


@pytest.fixture(autouse=True, params=["few", "many"])
def as_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What goes first is found as of a few blobs, which are sorted, or as of many, of which some are looked at."""
    if request.param == "many":
        monkeypatch.setattr(oldest, "FEW", 3)
        monkeypatch.setattr(oldest, "PASSED", 4)
    return str(request.param)


def body(number: int) -> bytes:
    return b"%04d" % number * (SIZE // 4)


async def fill_up(directory: Path, count: int) -> None:
    """A job that is over has left objects, each with its moment of use."""
    async with opened(directory) as cache:
        for number in range(count):
            await publish(cache, body(number), key(str(number)))


async def here(cache: Cache, count: int) -> list[int]:
    found = await look_up(cache, *(key(str(number)) for number in range(count)))
    return [number for number, one in enumerate(found) if one is not None]


async def test_least_recently_used_of_earlier_jobs_give_way(tmp_path: Path, as_of: str) -> None:
    await fill_up(tmp_path, 10)
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        assert (await publish(cache, body(100), key("new"))).stored
        assert totals(tmp_path)[1] <= 10 * SIZE
        check_accounts(tmp_path)
        statistics = cache.statistics()
        assert statistics.refused == 0
        assert 1 <= statistics.evicted <= 2
        assert statistics.evicted_bytes == statistics.evicted * SIZE
    async with opened(tmp_path) as cache:
        left = await here(cache, 10)
    assert len(left) == 10 - statistics.evicted
    assert as_of == "many" or left == list(range(2, 10)), "the new one and some slack"
    check_blobs(tmp_path)


async def test_what_a_job_has_used_stays_for_it(tmp_path: Path) -> None:
    await fill_up(tmp_path, 10)
    async with opened(tmp_path, max_bytes=10 * SIZE) as cache:
        assert await look_up(cache, key("0"), key("1")) != [None, None]
        for number in range(100, 120):
            await publish(cache, body(number), key(str(number)))
        found = await look_up(cache, *(key(str(number)) for number in (0, 1, *range(2, 10), *range(100, 120))))
        assert found[0] is not None
        assert found[1] is not None
        assert found[2:10] == [None] * 8
        assert [one is not None for one in found[10:]] == [True] * 8 + [False] * 12
        assert cache.statistics().refused == 12
        check_accounts(tmp_path)
        assert totals(tmp_path) == (10, 10 * SIZE)


async def test_what_does_not_fit_is_a_private_file_and_no_failure(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=3 * SIZE) as cache:
        for number in range(3):
            assert not (await publish(cache, body(number), key(str(number)))).private
        refused = await publish(cache, body(3), key("3"))
        assert refused.private
        assert Path(refused.path).read_bytes() == body(3)
        assert await look_up(cache, key("3")) == [None]
        same = await publish(cache, body(1), key("another name"))
        assert not same.private, "bytes that are here need no room"
        assert await look_up(cache, key("another name")) != [None]
        large = await publish(cache, b"x" * (3 * SIZE + 1), key("large"))
        assert large.private
        assert await here(cache, 3) == [0, 1, 2]
        cache.discard(refused.path)
        cache.discard(large.path)
        await settled(cache)
        assert not leftovers(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_full_disk_is_made_room_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    await fill_up(tmp_path, 10)
    write = files.write

    def full(descriptor: int, data: memoryview) -> None:
        if len(blobs(tmp_path)) > 9 and len(data) > 100:
            raise OSError(number, os.strerror(number))
        write(descriptor, data)

    async with opened(tmp_path, job_started=LATER) as cache:
        monkeypatch.setattr(files, "write", full)
        assert (await publish(cache, body(100)[:1], key("new"))).stored
        for name in ("one", "two"):
            published = await keep_private(cache, body(100) + name.encode())
            assert Path(published.path).stat().st_size == SIZE + 3
        assert await here(cache, 10) == []
        check_accounts(tmp_path)


LARGE = b"large" * 600_000


async def parted(cache: Cache, data: bytes) -> Published:
    """Publishes a body whose two parts come one after the other."""
    body = cache.parted(len(data))
    try:
        for start, stop in ((len(data) // 2, len(data)), (0, len(data) // 2)):
            part = body.part(start, stop)
            while part.at < stop:
                if (pause := part.drain()) is not None:
                    await pause
                at = part.at
                room = part.get_buffer(-1)
                room[:] = data[at : at + len(room)]
                part.advance(len(room))
            await part.flush()
        whole = await body.finish()
    except BaseException:
        body.abort()
        raise
    return await taken(lambda done: cache.publish(whole, key("large"), done))


async def in_a_row(cache: Cache, data: bytes) -> Published:
    return await publish(cache, data, key("large"))


@pytest.fixture
def disk_of_nine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes no large body while there are more blobs on it."""
    write_at = files.write_at

    def full(descriptor: int, data: memoryview, offset: int) -> None:
        if len(blobs(tmp_path)) > 9 and len(data) > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(descriptor, data, offset)

    monkeypatch.setattr(files, "write_at", full)


@pytest.mark.usefixtures("disk_of_nine")
@pytest.mark.parametrize("way", [in_a_row, parted])
async def test_full_disk_is_made_room_on_amid_a_large_body(
    tmp_path: Path, way: Callable[[Cache, bytes], Awaitable[Published]]
) -> None:
    await fill_up(tmp_path, 12)
    async with opened(tmp_path, job_started=LATER) as cache:
        published = await way(cache, LARGE)
        assert Path(published.path).read_bytes() == LARGE
        assert cache.statistics().evicted >= 3
        assert not leftovers(tmp_path)
        check_accounts(tmp_path)


@pytest.mark.usefixtures("disk_of_nine")
@pytest.mark.parametrize("way", [in_a_row, parted])
async def test_large_body_fails_on_a_full_disk_where_nothing_may_go(
    tmp_path: Path, way: Callable[[Cache, bytes], Awaitable[Published]]
) -> None:
    await fill_up(tmp_path, 12)
    async with opened(tmp_path, job_started=LONG_AGO) as cache:
        with pytest.raises(StorageFull):
            await way(cache, LARGE)
        assert len(await here(cache, 12)) == 12


@pytest.mark.usefixtures("disk_of_nine")
async def test_cache_that_is_closed_amid_a_large_body_on_a_full_disk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that asks for room when nobody is left to make it does not wait for ever."""
    await fill_up(tmp_path, 12)
    asking, loop = asyncio.Event(), asyncio.get_running_loop()
    closed, ask, close = threading.Event(), Needs.ask, Needs.close

    def ask_late(self: Needs, size: int) -> bool:
        loop.call_soon_threadsafe(asking.set)
        closed.wait()
        return ask(self, size)

    def closing(self: Needs) -> None:
        close(self)
        closed.set()

    monkeypatch.setattr(Needs, "ask", ask_late)
    monkeypatch.setattr(Needs, "close", closing)
    async with opened(tmp_path, job_started=LATER) as cache:
        task = asyncio.create_task(in_a_row(cache, LARGE))
        await asking.wait()
    with pytest.raises(FetcherClosed):
        await task
    assert len(blobs(tmp_path)) == 12


async def test_free_space_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill_up(tmp_path, 10)
    monkeypatch.setattr(
        files, "free_bytes", lambda path: 20 * SIZE - sum(p.stat().st_size for p in blobs(tmp_path).values())
    )
    async with opened(tmp_path, min_free=10 * SIZE, job_started=LATER) as cache:
        assert (await publish(cache, body(100), key("new"))).stored
        assert totals(tmp_path) == (10, 10 * SIZE)
    async with opened(tmp_path, min_free=10 * SIZE, job_started=EARLIER / 1e6) as cache:
        assert (await publish(cache, body(101), key("newer"))).private


async def test_limit_lowered_is_come_down_to_while_nothing_else_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_of: str
) -> None:
    monkeypatch.setattr(eviction, "SLICE", 4)
    await fill_up(tmp_path, 40)
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        while cache.statistics().evicted < 30:
            await asyncio.sleep(0.001)  # the cache's own doing: there is nothing to await
        assert totals(tmp_path)[1] <= 10 * SIZE
        check_accounts(tmp_path)
        while (await settled(cache)).objects > 10:
            await asyncio.sleep(0.001)  # nor here, where it forgets what it has evicted
    async with opened(tmp_path) as cache:
        assert min(await here(cache, 40)) >= (30 if as_of == "few" else 0)


async def test_job_that_still_runs_elsewhere_keeps_what_it_uses(tmp_path: Path) -> None:
    await fill_up(tmp_path, 10)
    older = Owner(str(tmp_path / "v1" / "tmp"), job_started=LONG_AGO)
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        assert (await publish(cache, body(100), key("new"))).private
    older.close()
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        assert not (await publish(cache, body(100), key("new"))).private


async def test_objects_of_evicted_blobs_are_forgotten_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "SLICE", 8)
    await fill_up(tmp_path, 40)
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        for number in range(100, 160):
            await publish(cache, body(number), key(str(number)))
        stats = await settled(cache)
        assert stats.blobs <= 10
        assert stats.objects <= 2 * 10 + 16


async def test_pinned_blobs_are_not_evicted(tmp_path: Path) -> None:
    await fill_up(tmp_path, 10)
    _execute(tmp_path, "UPDATE blobs SET pinned = 1 WHERE used < (SELECT max(used) FROM blobs)")
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        assert (await publish(cache, body(100), key("new"))).stored
        assert (await publish(cache, body(101), key("newer"))).stored is True
    async with opened(tmp_path) as cache:
        assert await here(cache, 10) == list(range(9))


async def test_what_was_used_before_the_clock_was_set_back_is_not_kept_for_ever(tmp_path: Path) -> None:
    await fill_up(tmp_path, 10)
    _execute(tmp_path, f"UPDATE blobs SET used = {time.time() + 1e7}")
    async with opened(tmp_path, max_bytes=10 * SIZE) as cache:
        assert (await publish(cache, body(100), key("new"))).private, "it may be in use"
        assert len(await here(cache, 10)) == 10
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=time.time() + 1) as cache:
        assert (await publish(cache, body(100), key("new"))).stored
        check_accounts(tmp_path)
        assert cache.statistics().evicted > 0


async def test_clock_set_back_amid_a_job_leaves_the_job_what_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_up(tmp_path, 9)
    async with opened(tmp_path, max_bytes=10 * SIZE) as cache:
        began, now = cache._owner.job_started, time.time
        await publish(cache, body(99), key("99"))
        monkeypatch.setattr(time, "time", lambda: now() - 1e6)
        await here(cache, 5)
        for number in range(100, 120):
            await publish(cache, body(number), key(str(number)))
        assert cache._owner.job_started == began
        assert await here(cache, 9) == list(range(5)), "what it has not used has gone, and nothing else"
    check_accounts(tmp_path)


async def test_what_a_job_may_have_used_unnoted_goes_last(tmp_path: Path) -> None:
    await fill_up(tmp_path, 10)
    hour, days = time.time() - 3600, time.time() - 3 * 86_400
    for number in range(10):
        digest = digest_of(memoryview(body(number)), "blake3").partition(":")[2]
        _execute(tmp_path, f"UPDATE blobs SET used = {hour if number < 5 else days} WHERE digest = x'{digest}'")
    async with opened(tmp_path) as job:
        assert await here(job, 5) == list(range(5)), "nobody evicts, and so nobody notes that"
        async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
            for number in range(100, 105):
                assert (await publish(cache, body(number), key(str(number)))).stored
            assert await here(job, 5) == list(range(5))
            for number in range(105, 108):
                assert (await publish(cache, body(number), key(str(number)))).stored, "room is made all the same"


@pytest.mark.parametrize("started", [LATER, None], ids=["later", "within the day"])
async def test_what_a_job_uses_stays_though_the_index_could_not_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: float | None
) -> None:
    """As on a full disk, until something has gone: by the index alone that would be what was just found."""
    await fill_up(tmp_path, 10)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(eviction, "LOOK_SECONDS", 0.0)
    index = tmp_path / "v1" / "index"
    path = index / f"index-{(index / 'CURRENT').read_text()}.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        async with opened(tmp_path, max_bytes=10 * SIZE, job_started=started) as cache:
            found = await look_up(cache, *(key(str(number)) for number in range(5)))
            assert None not in found
            holder.execute("ROLLBACK")
            for number in range(100, 110):
                await publish(cache, body(number), key(str(number)))
            assert cache.statistics().evicted == 5
            assert [one for one in found if one is not None and not Path(one.path).exists()] == []
            check_accounts(tmp_path)


async def test_uses_are_kept_exactly_once_somebody_evicts(tmp_path: Path) -> None:
    def uses() -> int:
        return int(_execute(tmp_path, f"SELECT count(*) FROM blobs WHERE used >= {started}"))

    await fill_up(tmp_path, 2)
    started = time.time()
    async with opened(tmp_path) as cache:
        await here(cache, 2)
        assert uses() == 0
        async with opened(tmp_path, max_bytes=100 * SIZE, job_started=LATER) as other:
            await settled(other)
            await here(cache, 2)
            assert uses() == 2
        _execute(tmp_path, "DELETE FROM counters")
        _execute(tmp_path, "UPDATE blobs SET used = 1")
    async with opened(tmp_path) as cache:
        await here(cache, 2)
        assert uses() == 2, "after long enough they are noted all the same"


def _execute(directory: Path, statement: str) -> Any:

    path = directory / "v1" / "index"
    with closing(sqlite3.connect(path / f"index-{(path / 'CURRENT').read_text()}.sqlite")) as connection:
        row = connection.execute(statement).fetchone()
        connection.commit()
        return row and row[0]


def at_commit(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Has something happen between what a batch does to files and its commit."""
    from asyncfetch.cache.index import Index

    apply = Index.apply

    def overtaken(self: Index, *args: object) -> bool:
        monkeypatch.setattr(Index, "apply", apply)
        happens()
        return apply(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "apply", overtaken)


async def test_hit_that_is_evicted_before_its_use_is_known_is_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_up(tmp_path, 1)
    async with opened(tmp_path, job_started=LATER) as cache:
        (path,) = blobs(tmp_path).values()
        at_commit(monkeypatch, path.unlink)
        assert await look_up(cache, key("0")) == [None]
        assert cache.statistics().hits == 0


@pytest.mark.parametrize("size", [SIZE, 2 << 20])
async def test_body_that_was_there_and_is_evicted_before_its_use_is_known_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"x" * size, key("a"))
        (path,) = blobs(tmp_path).values()
        at_commit(monkeypatch, path.unlink)
        published = await publish(cache, b"x" * size, key("b"))
        assert published.stored
        assert Path(published.path).read_bytes() == b"x" * size
        assert not leftovers(tmp_path)
        assert not (await publish(cache, b"x" * size, key("c"))).stored
        assert not leftovers(tmp_path)
        check_accounts(tmp_path)


async def test_victim_that_cannot_be_removed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill_up(tmp_path, 10)
    remove = files.remove
    stuck = min(blobs(tmp_path).values(), key=lambda path: path.stat().st_mtime_ns)

    def refuse(path: str) -> bool:
        if path == str(stuck):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return remove(path)

    monkeypatch.setattr(files, "remove", refuse)
    async with opened(tmp_path, max_bytes=10 * SIZE, job_started=LATER) as cache:
        for number in range(100, 105):
            assert (await publish(cache, body(number), key(str(number)))).stored
        assert stuck.exists()
        check_accounts(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize(
    "function", ["remove", "lock", "read", "names", "stamp_of", "free_bytes", "write_at", "truncate", "close"]
)
async def test_failure_of_any_call_in_an_eviction_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    await fill_up(tmp_path, 10)
    before = threading.main_thread()

    def refuse(*arguments: object, **options: object) -> object:
        if threading.current_thread() is before:
            return real(*arguments, **options)
        raise OSError(number, os.strerror(number))

    real = getattr(files, function)
    async with opened(tmp_path, max_bytes=10 * SIZE, min_free=1, job_started=LATER) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, function, refuse)
            for content in range(100, 103):
                try:
                    published = await publish(cache, body(content), key(str(content)))
                except OSError:
                    assert function == "close", "which ends the write of the body itself"
                else:
                    assert Path(published.path).read_bytes() == body(content)
        await publish(cache, body(200), key("200"))
        check_accounts(tmp_path)
        assert totals(tmp_path)[1] <= 10 * SIZE


def test_slack_is_small() -> None:
    assert 0 < SLACK < 0.05
