"""A batch, an eviction, a clear and a prune in which one file operation fails, each in turn: told, or done whole.

What is served is right, what is asked for again comes, and the next start finds nothing left and its accounts in order.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.cache import Cache, Found, Published, files
from asyncfetch.cache.upkeep import Stuck, prune
from asyncfetch.errors import CacheUnusable, StorageFull
from tests.cache.upkeep.helpers import keeping

from .helpers import (
    blobs,
    check_accounts,
    check_blobs,
    fill,
    key,
    leftovers,
    look_up,
    opened,
    owners,
    publish,
    taken,
    totals,
)

NUMBERS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE]
OPERATIONS = [name for name, one in inspect.getmembers(files, inspect.isfunction) if one.__module__ == files.__name__]
SIZE, OLD, NEW = 1000, range(2), range(10, 12)
ROW = 3  # as long as is gone through of calls of one operation one after the other: a prune has rows of 1,000
LATER = 2e12  # when a job starts that has used nothing yet


@contextmanager
def failing(number: int | None) -> Iterator[list[str]]:
    """Has the file operation with this number fail, of all that are called meanwhile. Gives those up to it, or all."""
    calls: list[str] = []

    def patched(name: str) -> Callable[..., Any]:
        real = getattr(files, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) - 1 != number:
                return real(*arguments, **options)
            if name == "close":
                real(*arguments)  # close(2) of Linux has let go of it when it says so
            code = NUMBERS[number % len(NUMBERS)]
            raise OSError(code, os.strerror(code))

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(files, name, patched(name))
        yield calls


def body(number: int) -> bytes:
    return b"%04d" % number * (SIZE // 4)


async def publish_all(cache: Cache, numbers: Sequence[int]) -> list[Published]:
    """In one batch. What fails is told as ours, and what does not can be read; gives that."""
    bodies = [await fill(cache.sink(), body(number)) for number in numbers]
    answers: list[Any] = await asyncio.gather(
        *(
            taken(lambda done, number=number, one=one: cache.publish(one, key(str(number)), done))  # type: ignore[misc]
            for number, one in zip(numbers, bodies, strict=True)
        ),
        return_exceptions=True,
    )
    for number, answer in zip(numbers, answers, strict=True):
        assert isinstance(answer, Published | StorageFull | CacheUnusable)
        if isinstance(answer, Published):
            assert Path(answer.path).read_bytes() == body(number)
    return [answer for answer in answers if isinstance(answer, Published)]


async def check_served(cache: Cache) -> None:
    for number, found in zip((*OLD, *NEW), await look_up(cache, *(key(str(one)) for one in (*OLD, *NEW))), strict=True):
        if isinstance(found, Found):
            assert Path(found.path).read_bytes() == body(number)


async def a_batch(directory: Path, fails: int | None) -> list[str]:
    async with opened(directory) as cache:
        with failing(fails) as calls:
            published = await publish_all(cache, [*NEW, *OLD])
            assert fails is not None or len(published) == len(OLD) + len(NEW)
        await check_served(cache)
        assert [one.private for one in await publish_all(cache, NEW)] == [False] * len(NEW)
        assert None not in await look_up(cache, *(key(str(number)) for number in NEW))
        assert cache.statistics().buffer_bytes == 0
    return calls


async def an_eviction(directory: Path, fails: int | None) -> list[str]:
    limit = 3 * SIZE
    async with opened(directory, max_bytes=limit, min_free=1, job_started=LATER) as cache:
        with failing(fails) as calls:
            await publish_all(cache, NEW)
        await check_served(cache)
        await publish_all(cache, [20])
        assert totals(directory)[1] <= limit
        assert cache.statistics().buffer_bytes == 0
    return calls


async def a_clear(directory: Path, fails: int | None) -> list[str]:
    async with opened(directory) as cache:
        with failing(fails) as calls:
            try:
                await cache.clear()
            except (CacheUnusable, StorageFull):
                assert fails is not None
        await check_served(cache)
        await cache.clear()
        assert blobs(directory) == {}
        assert len(await publish_all(cache, NEW)) == len(NEW)
    return calls


async def a_prune(directory: Path, fails: int | None) -> list[str]:
    with keeping(directory) as one:
        with failing(fails) as calls:
            try:
                gone = list(prune(one, max_bytes=SIZE))
            except (CacheUnusable, StorageFull):
                assert fails is not None
            else:
                assert fails is not None or not any(isinstance(step, Stuck) for step in gone)
        list(prune(one, max_bytes=SIZE))
        assert one.totals().blob_bytes <= SIZE
    return calls


def each(calls: Sequence[str]) -> Iterator[int]:
    """The numbers of calls, less those of a long row of one operation after its beginning."""
    for number, name in enumerate(calls):
        if number < ROW or set(calls[number - ROW : number]) != {name}:
            yield number


@pytest.mark.parametrize("stage", [a_batch, an_eviction, a_clear, a_prune])
async def test_whichever_call_fails_it_is_told_or_done_and_the_next_attempt_is_whole(
    tmp_path: Path, stage: Callable[[Path, int | None], Awaitable[list[str]]]
) -> None:
    async def go_through(fails: int | None) -> list[str]:
        directory = tmp_path / str(fails)
        shutil.copytree(tmp_path / "before", directory)
        before = len(os.listdir("/dev/fd"))
        calls = await stage(directory, fails)
        assert len(os.listdir("/dev/fd")) == before
        async with opened(directory) as cache:  # which sweeps what the dead have left
            await check_served(cache)
            await publish(cache, body(30), key("30"))
            assert not leftovers(directory)
        assert not owners(directory)
        check_blobs(directory)
        check_accounts(directory)
        return calls

    async with opened(tmp_path / "before") as cache:
        await publish_all(cache, OLD)
    calls = await go_through(None)
    assert {"stamp_of", "create", "truncate"} <= set(calls)
    for number in each(calls):
        await go_through(number)
