"""A large object in parts when the disk fails it at any file operation: told by name or whole, and whole the next time.

A fault is one call that fails, or all of a kind from then on; each stage of such an object's life is gone through with
each, and what lies on the disk, what is open and what is served is looked at behind it.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from asyncfetch.cache import Begun, PartsLost, files
from asyncfetch.cache.owner import Owner
from asyncfetch.cache.sinks import PIECE
from asyncfetch.errors import CacheUnusable, StorageFull

from .helpers import (
    begin,
    blobs,
    check_blobs,
    check_unfinished,
    give_up,
    go_on,
    key,
    leftovers,
    opened,
    owners,
    publish,
    unfinished,
    whole,
)
from .test_owner import forsake

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from asyncfetch.cache import Cache

NOISE = random.Random(23).randbytes(2 * PIECE + 99)
BEGUN = Begun(key("large"), "one", len(NOISE))
FIRST, LATER = (0, PIECE), (2 * PIECE, 2 * PIECE + 50)

# What the system may say of each operation that such an object meets, in turn from call to call.
NUMBERS = {
    "make_directory": [errno.EIO, errno.ENOSPC, errno.EACCES],
    "create": [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE],
    "open_to_update": [errno.EIO, errno.EACCES, errno.EMFILE],
    "write_at": [errno.EIO, errno.ENOSPC],
    "read_at": [errno.EIO],
    "read": [errno.EIO, errno.EACCES, errno.EMFILE],
    "close": [errno.EIO, errno.ENOSPC],
    "rename": [errno.EIO, errno.ENOSPC, errno.EACCES],
    "remove": [errno.EIO, errno.EACCES],
    "size_of": [errno.EIO, errno.EACCES],
    "allocated": [errno.EIO, errno.EACCES],
    "stamp_of": [errno.EIO, errno.EACCES],
    "names": [errno.EIO, errno.EMFILE],
    "lock": [errno.EIO, errno.EMFILE],
}


class Fault(NamedTuple):
    """Which calls fail, and as what."""

    function: str
    number: int  # errno
    first: int  # the call of it that fails
    lasting: bool  # and all after it


@contextmanager
def failing(fault: Fault) -> Iterator[list[int]]:
    """Has calls fail meanwhile; gives a list of those that did."""
    real, failed, calls = getattr(files, fault.function), [], 0

    def fail(*args: Any, **options: Any) -> Any:
        nonlocal calls
        call, calls = calls, calls + 1
        if call == fault.first or (fault.lasting and call > fault.first):
            failed.append(call)
            if fault.function == "close":
                real(*args)  # close(2) of Linux has let go of it when it says so
            raise OSError(fault.number, os.strerror(fault.number))
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, fault.function, fail)
        yield failed


# The stages: each finds the cache as `prepare` left it.


async def prepare(directory: Path, *spans: tuple[int, int], dead: bool = False) -> None:
    """Leaves what came of the object; where its owner is `dead`, among that one's files."""
    async with opened(directory) as cache:
        if spans:
            await give_up(cache, BEGUN, NOISE, *spans)
    if dead:
        owner = Owner(str(directory / "v1" / "tmp"))
        (left,) = unfinished(directory)
        left.rename(f"{owner.directory}/7-{left.name}")
        forsake(owner)


async def bring_anew(directory: Path, fault: Fault) -> list[int]:
    await prepare(directory)
    return await _within(directory, fault, lambda cache: go_on(cache, BEGUN, NOISE))


async def leave(directory: Path, fault: Fault) -> list[int]:
    await prepare(directory)

    async def stage(cache: Cache) -> None:
        await give_up(cache, BEGUN, NOISE, FIRST, LATER)
        await go_on(cache, BEGUN, NOISE)

    return await _within(directory, fault, stage)


async def take_up(directory: Path, fault: Fault) -> list[int]:
    await prepare(directory, FIRST, LATER)
    return await _within(directory, fault, lambda cache: go_on(cache, BEGUN, NOISE))


async def take_up_of_the_dead(directory: Path, fault: Fault) -> list[int]:
    async with opened(directory) as cache:
        await prepare(directory, FIRST, LATER, dead=True)
        with failing(fault) as failed:
            await _tried(go_on(cache, BEGUN, NOISE), failed)
        await recover(cache)
    return failed


async def leave_beside_another(directory: Path, fault: Fault) -> list[int]:
    async with opened(directory) as cache:
        await prepare(directory)
        async with opened(directory) as other:
            await give_up(other, BEGUN, NOISE, FIRST)

            async def stage(cache: Cache) -> None:
                await give_up(cache, BEGUN, NOISE, FIRST, LATER)
                await go_on(cache, BEGUN, NOISE)

            with failing(fault) as failed:
                await _tried(stage(cache), failed)
        await recover(cache)
    return failed


async def evict(directory: Path, fault: Fault) -> list[int]:
    await prepare(directory, FIRST, LATER)
    async with opened(directory, max_bytes=100_000) as cache:
        with failing(fault) as failed:
            await _tried(publish(cache, b"n" * 1000, key("new")), failed)
        another = await publish(cache, b"m" * 1000, key("another"))  # private, where nothing could be evicted just now
        assert Path(another.path).read_bytes() == b"m" * 1000
    async with opened(directory) as cache:
        await recover(cache)
    return failed


async def clear(directory: Path, fault: Fault) -> list[int]:
    await prepare(directory, FIRST, LATER)

    async def stage(cache: Cache) -> None:
        await cache.clear()

    return await _within(directory, fault, stage)


async def open_after_the_dead(directory: Path, fault: Fault) -> list[int]:
    await prepare(directory, FIRST, LATER, dead=True)

    async def stage() -> None:
        async with opened(directory) as cache:
            await go_on(cache, BEGUN, NOISE)

    with failing(fault) as failed:
        await _tried(stage(), failed)
    async with opened(directory) as cache:
        await recover(cache)
    return failed


STAGES = [bring_anew, leave, take_up, take_up_of_the_dead, leave_beside_another, evict, clear, open_after_the_dead]


async def _within(directory: Path, fault: Fault, stage: Callable[[Cache], Coroutine[Any, Any, object]]) -> list[int]:
    async with opened(directory) as cache:
        with failing(fault) as failed:
            await _tried(stage(cache), failed)
        await recover(cache)
    return failed


async def _tried(stage: Coroutine[Any, Any, object], failed: list[int]) -> None:
    """Goes through a stage, which is to go well or to raise an error of ours."""
    try:
        await stage
    except (StorageFull, CacheUnusable, PartsLost):
        assert failed


async def recover(cache: Cache) -> None:
    """Without a fault the object comes whole, with what was left of it or without it."""
    served = await whole(cache, BEGUN.key)
    assert served in (None, NOISE)
    published = await go_on(cache, BEGUN, NOISE)
    assert Path(published.path).read_bytes() == NOISE
    assert await whole(cache, BEGUN.key) == NOISE
    assert cache.statistics().buffer_bytes == 0


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("function", NUMBERS)
@pytest.mark.parametrize("stage", STAGES)
async def test_a_fault_at_any_call_is_told_and_the_next_attempt_comes_whole(
    tmp_path: Path, stage: Callable[[Path, Fault], Coroutine[Any, Any, list[int]]], function: str, lasting: bool
) -> None:
    numbers = NUMBERS[function]
    for first in itertools.count():
        directory = tmp_path / str(first)
        before = len(os.listdir("/dev/fd"))
        failed = await stage(directory, Fault(function, numbers[first % len(numbers)], first, lasting))
        assert len(os.listdir("/dev/fd")) == before, first
        async with opened(directory):  # which sweeps what the dead have left
            assert not leftovers(directory), first
            check_unfinished(directory, lambda _: NOISE)
        assert not owners(directory), first
        check_blobs(directory)
        if not failed:
            return


async def test_parts_that_cannot_be_opened_and_closed_do_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever asked for the object would wait for ever."""
    await prepare(tmp_path, FIRST)
    open_to_update, close = files.open_to_update, files.close

    def open_the_body_only(path: str) -> int:
        if path.endswith("/map"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return open_to_update(path)

    def close_badly(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, "open_to_update", open_the_body_only)
            patch.setattr(files, "close", close_badly)
            body = await begin(cache, BEGUN)
            assert not body.present
            body.abort()
        await recover(cache)


async def test_parts_that_were_taken_and_cannot_be_read_do_not_stay_among_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare(tmp_path, FIRST)
    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, "read", refuse)
            body = await begin(cache, BEGUN)
        assert not body.present
        assert not leftovers(tmp_path)
        body.abort()
        await recover(cache)


OTHER = Begun(key("other"), "one", len(NOISE))


@pytest.fixture
async def two(tmp_path: Path) -> Path:
    """A cache in which of two objects something came: of this one, which fails, and of the other."""
    async with opened(tmp_path) as cache:
        for begun in (BEGUN, OTHER):
            await give_up(cache, begun, NOISE, FIRST)
    return tmp_path


def refuse(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def refuse_this_one(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Has one operation fail for what came of this object, wherever it lies."""
    real = getattr(files, function)

    def fail(path: str, *rest: object) -> object:
        if BEGUN.name in path:
            refuse()
        return real(path, *rest)

    monkeypatch.setattr(files, function, fail)


@pytest.mark.parametrize("function", ["read", "stamp_of", "allocated"])
async def test_parts_that_cannot_be_looked_at_do_not_hide_the_others(
    two: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    async with opened(two) as cache:
        refuse_this_one(monkeypatch, function)
        names = [one.name for one in cache._partials.unfinished()]
        assert OTHER.name in names
        assert (BEGUN.name in names) == (function == "read"), "its map is not needed to remove it"
    async with opened(two) as cache:
        assert len(unfinished(two)) == 2, "what cannot be read now may be of use later"
        monkeypatch.undo()
        await recover(cache)


@pytest.mark.parametrize("function", ["rename", "read"])
async def test_parts_that_cannot_be_evicted_do_not_hold_up_the_others(
    two: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    (this,) = [path for path in unfinished(two) if path.name == BEGUN.name]
    os.utime(this / "map", (1e9, 1e9))  # the first in turn
    refuse_this_one(monkeypatch, function)  # before the thread is there, which may evict at once
    async with opened(two, max_bytes=100_000, job_started=2e12) as cache:
        for number in range(3):
            await publish(cache, b"%d" % number * 1000, key(str(number)))
        while any(path.name == OTHER.name for path in unfinished(two)):
            await asyncio.sleep(0.001)
        assert [path.name for path in unfinished(two)] == ([BEGUN.name] if function == "rename" else [])
    assert len([one for one in caplog.records if BEGUN.name in one.getMessage()]) == (function == "rename")


@pytest.mark.parametrize("function", ["read", "size_of", "rename"])
async def test_of_a_dead_process_what_can_be_left_is_left(
    two: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    dead = Owner(str(two / "v1" / "tmp"))
    for left in unfinished(two):
        left.rename(f"{dead.directory}/7-{left.name}")
    forsake(dead)
    refuse_this_one(monkeypatch, function)
    async with opened(two):
        assert [path.name for path in unfinished(two)] == [OTHER.name]


async def test_a_clear_that_fails_has_cleared_the_rest_is_told_by_name_and_can_be_done_again(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(two) as cache:
        await publish(cache, b"whole", key("whole"))
        with monkeypatch.context() as patch:
            refuse_this_one(patch, "rename")
            with pytest.raises(CacheUnusable):
                await cache.clear()
            assert len(unfinished(two)) == 1
            assert blobs(two) == {}
        await cache.clear()
        assert not unfinished(two)
