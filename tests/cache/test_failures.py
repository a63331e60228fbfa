"""The cache when its disk, its index or a stranger fails it: told by name, nothing left behind, nobody left waiting."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from asyncfetch.cache import SMALL, Cache, Published, database, eviction, files, work
from asyncfetch.cache.index import Index
from asyncfetch.errors import CacheUnusable, StorageFull
from asyncfetch.settings import CachePolicy

from .helpers import (
    HASHES,
    blobs,
    check_accounts,
    check_blobs,
    fill,
    keep_private,
    key,
    leftovers,
    look_up,
    opened,
    owners,
    publish,
    taken,
    totals,
)

NOISE = random.Random(11).randbytes(SMALL + 4096)


# An intent that cannot be written, or emptied, costs a blob's row if the process is killed just then; no object.
BEARABLE = ("write_at", "truncate")


@pytest.mark.parametrize("size", [86_000, SMALL + 1])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, CacheUnusable),
        (errno.EROFS, CacheUnusable),
        (errno.EACCES, CacheUnusable),
        (errno.EMFILE, CacheUnusable),
    ],
)
@pytest.mark.parametrize(
    "function", ["create", "write", "write_at", "truncate", "close", "rename", "make_directory", "readable_size"]
)
async def test_failure_of_any_call_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, expected: type[OSError], size: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        failed.append(function)
        raise OSError(number, os.strerror(number))

    failed: list[str] = []
    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, function, refuse)
            sink = cache.sink()
            try:
                body = await fill(sink, NOISE[:size])
                published: Published = await taken(lambda done: cache.publish(body, key("a"), done))
            except OSError as error:
                told = True
                assert type(error) is expected  # noqa: PT017
                assert error.errno == number  # noqa: PT017
                assert str(tmp_path) in str(error)  # noqa: PT017
                assert failed
                sink.abort()
            else:
                told = False
                assert failed == [] or function in BEARABLE
                assert published.stored
            assert not leftovers(tmp_path) or function in ("close", "truncate")
        if told:
            assert await look_up(cache, key("a")) == [None]
        assert (await publish(cache, NOISE[:size], key("a"))).stored == told
        assert cache.statistics().buffer_bytes == 0
    assert not owners(tmp_path)
    check_blobs(tmp_path)


async def test_a_large_body_that_fails_is_told_when_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its thread takes to tidy up: memory that counts as given back is not in use any more."""
    removing, go_on = asyncio.Event(), threading.Event()
    loop, remove = asyncio.get_running_loop(), files.remove

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def remove_late(path: str) -> bool:
        loop.call_soon_threadsafe(removing.set)
        go_on.wait()
        return remove(path)

    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_at", refuse)
            patch.setattr(files, "remove", remove_late)
            sink = cache.sink()
            for _ in range(2):
                sink.advance(len(sink.get_buffer(-1)))
            try:
                await removing.wait()
                task = asyncio.create_task(sink.finish())
                for _ in range(10):
                    await asyncio.sleep(0)
                assert not task.done()
            finally:
                go_on.set()
            with pytest.raises(StorageFull):
                await task
            sink.abort()
        assert not leftovers(tmp_path)
        assert cache.statistics().buffer_bytes == 0


async def test_one_body_that_fails_does_not_fail_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = files.rename

    def refuse_some(source: str, target: str) -> None:
        if target.endswith(HASHES["blake3"](b"3")):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(files, "rename", refuse_some)
    async with opened(tmp_path) as cache:
        results = await asyncio.gather(
            *(publish(cache, b"%d" % number, key(str(number))) for number in range(8)), return_exceptions=True
        )
        assert [type(result) for result in results].count(StorageFull) == 1
        found = await look_up(cache, *(key(str(number)) for number in range(8)))
        assert [number for number, one in enumerate(found) if one is None] == [3]
        assert cache.statistics().failed == 1


@pytest.mark.parametrize("size", [300_000, SMALL + 1])
@pytest.mark.parametrize("private", [False, True])
async def test_file_that_the_system_will_not_let_grow_is_storage_full(tmp_path: Path, size: int, private: bool) -> None:
    """A real refusal in mid-write, of what a full disk does too: part of it is written, then no more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with opened(tmp_path) as cache:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(StorageFull, match=r"File too large. Free space"):
                await (keep_private(cache, NOISE[:size]) if private else publish(cache, NOISE[:size], key("a")))
            assert not leftovers(tmp_path)
            assert (await publish(cache, b"small", key("b"))).stored
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert await look_up(cache, key("a")) == [None]
        assert (await publish(cache, NOISE[:size], key("a"))).stored
        check_blobs(tmp_path)


@pytest.mark.parametrize("how", ["locked", "full", "removed"])
async def test_index_that_takes_nothing_loses_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with opened(tmp_path) as cache:
        before = await publish(cache, b"before", key("before"))
        path = next((tmp_path / "v1" / "index").glob("index-*.sqlite"))
        with closing(sqlite3.connect(path, isolation_level=None)) as stuck:
            if how == "locked":
                stuck.execute("BEGIN IMMEDIATE")
            elif how == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            else:
                path.unlink()
                monkeypatch.setattr(files, "rename", _refuse_current)
            try:
                for number in range(3):
                    published = await publish(cache, b"%d" % number, key(str(number)))
                    assert published.stored
                    assert Path(published.path).read_bytes() == b"%d" % number
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert await look_up(cache, key("1")) == [None]
        assert cache.statistics().unremembered == 3
        assert cache.statistics().failed == 0
        assert len(caplog.records) == 1
    assert len(blobs(tmp_path)) == 4
    assert Path(before.path).exists()


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Takes the index's write lock, as a process that has stopped amid a batch; on its connection it is let go of."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with ExitStack() as connections:

        def take() -> sqlite3.Connection:
            path = next((tmp_path / "v1" / "index").glob("index-*.sqlite"))
            connection = connections.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
            connection.execute("BEGIN IMMEDIATE")
            return connection

        yield take


async def test_what_the_index_could_not_be_told_counts_towards_the_limit(
    tmp_path: Path, stuck: Callable[[], sqlite3.Connection]
) -> None:
    bodies = [b"%04d" % number * 250 for number in range(8)]
    async with opened(tmp_path, max_bytes=3000) as cache:
        await publish(cache, bodies[0], key("0"))
        connection = stuck()
        for number, body in enumerate(bodies):
            published = await publish(cache, body, key(str(number)))
            assert published.private == (number > 2)
            assert Path(published.path).read_bytes() == body
        assert len(blobs(tmp_path)) == 3
        connection.execute("ROLLBACK")
        assert not (await publish(cache, bodies[1], key("1"))).private
        assert (await publish(cache, b"another", key("another"))).private, "they are counted once"
        check_accounts(tmp_path)
        assert totals(tmp_path) == (3, 3000)


async def test_changes_beyond_those_that_are_kept_count_as_long_as_the_cache_is_open(
    tmp_path: Path, stuck: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_OWED", 1)
    async with opened(tmp_path, max_bytes=3000) as cache:
        connection = stuck()
        for number in range(2):
            assert not (await publish(cache, b"%04d" % number * 250, key(str(number)))).private
        connection.execute("ROLLBACK")
        assert not (await publish(cache, b"%04d" % 2 * 250, key("2"))).private
        assert totals(tmp_path)[0] == 2
        assert (await publish(cache, b"another", key("another"))).private


async def test_thread_that_can_remove_nothing_while_it_owes_the_index_rests(
    tmp_path: Path, stuck: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "LOOK_SECONDS", 0.0)
    async with opened(tmp_path) as cache:
        for number in range(2):
            await publish(cache, b"%04d" % number * 250, key(str(number)))
    async with opened(tmp_path, max_bytes=1500, job_started=0.0) as cache:
        stuck()
        await publish(cache, b"0000" * 250, key("again"))
        assert cache._work.pause() is None


async def test_what_the_index_could_not_be_told_it_is_told_at_the_end(
    tmp_path: Path, stuck: Callable[[], sqlite3.Connection]
) -> None:
    async with opened(tmp_path) as cache:
        connection = stuck()
        await publish(cache, b"bytes", key("a"))
        connection.execute("ROLLBACK")
    assert not owners(tmp_path)
    check_accounts(tmp_path)


def _refuse_current(source: str, target: str) -> None:
    if target.endswith("/CURRENT"):
        raise OSError(errno.ENOSPC, "No space left on device")
    Path(source).rename(target)


@pytest.mark.parametrize("function", ["follow", "apply", "find"])
async def test_fault_in_the_index_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError("ours")

    async with opened(tmp_path) as cache:
        await publish(cache, b"first", key("a"))
        with monkeypatch.context() as patch:
            patch.setattr(Index, function, fail)
            assert (await publish(cache, b"second", key("b"))).stored
            if function == "find":
                with pytest.raises(ArithmeticError):
                    await look_up(cache, key("a"))
            else:
                assert await look_up(cache, key("a")) != [None]
        assert await look_up(cache, key("a")) != [None]


async def test_unfinished_file_that_a_stranger_removed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sweep does where locks do not work, or a cleaner of old files."""
    async with opened(tmp_path) as cache:
        await publish(cache, b"first", key("a"))
        for path in owners(tmp_path):
            shutil.rmtree(path)
        assert (await publish(cache, b"second", key("b"))).stored
        for path in owners(tmp_path):
            shutil.rmtree(path)
        assert (await publish(cache, NOISE, key("c"))).stored
        rename = files.rename

        def stolen(source: str, target: str) -> None:
            monkeypatch.setattr(files, "rename", rename)
            files.remove(source)
            rename(source, target)

        monkeypatch.setattr(files, "rename", stolen)
        assert (await publish(cache, b"third", key("d"))).stored
        assert all(await look_up(cache, *map(key, "abcd")))
    check_blobs(tmp_path)
    assert not owners(tmp_path)


async def test_directory_that_was_removed_under_the_cache_is_an_error_not_a_hang(tmp_path: Path) -> None:
    async with opened(tmp_path / "cache") as cache:
        await publish(cache, b"first", key("a"))
        shutil.rmtree(tmp_path / "cache")
        assert await look_up(cache, key("a")) == [None]
        with pytest.raises(CacheUnusable, match="removed while it was in use"):
            await publish(cache, b"second", key("b"))


def test_loop_that_is_closed_first_ends_the_thread_too(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    before = threading.active_count()
    cache = Cache.open(CachePolicy(cache_dir=tmp_path), loop=loop)
    loop.close()
    cache.look_up([key("a")], print)  # whose answer nobody can be told
    for thread in threading.enumerate():
        if thread.name == "asyncfetch-cache":
            thread.join()
    assert threading.active_count() == before
    assert not owners(tmp_path)
