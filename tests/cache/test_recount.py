"""Blobs that a new index does not know are counted in the background, and go like others."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncfetch import bell
from asyncfetch.cache import files, recount
from asyncfetch.cache.recount import Recount
from tests.interrupts import interrupted

from .helpers import blobs, check_accounts, check_blobs, key, opened, publish, settled, totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.cache import Cache

SIZE, NUMBER = 1_000, 100
LATER = 4e9


class Counting:
    """Has caches count without delay; `ended` is set whenever a count has come to its end."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ended, self.runs = asyncio.Event(), 0
        loop, run = asyncio.get_running_loop(), Recount._run

        def watched(counting: Recount, first: int) -> None:
            self.runs += 1
            run(counting, first)
            loop.call_soon_threadsafe(self.ended.set)

        patch.setattr(recount, "DELAY_SECONDS", 0.0)
        patch.setattr(recount, "_REST", 0)
        patch.setattr(Recount, "_run", watched)


@pytest.fixture
async def lost(tmp_path: Path) -> Path:
    """A cache whose index is gone."""
    async with opened(tmp_path) as cache:
        for number in range(NUMBER):
            await publish(cache, body(number), key(str(number)))
    shutil.rmtree(tmp_path / "v1" / "index")
    return tmp_path


@pytest.fixture
async def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def body(number: int) -> bytes:
    return (b"%d " % number) * (SIZE // len(b"%d " % number)) + b"." * (SIZE % len(b"%d " % number))


def execute(directory: Path, statement: str) -> None:
    index = directory / "v1" / "index"
    path = index / f"index-{(index / 'CURRENT').read_text()}.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_blobs_of_a_lost_index_are_counted_and_not_trusted(lost: Path, counting: Counting) -> None:
    async with opened(lost) as cache:
        await counting.ended.wait()
        assert totals(lost) == (NUMBER, NUMBER * SIZE)
        path = next(iter(blobs(lost).values()))
        path.write_bytes(b"x" * SIZE)
        for number in range(NUMBER):
            await publish(cache, body(number), key(str(number)))
        await settled(cache)
    check_accounts(lost)
    check_blobs(lost)


async def test_limit_holds_for_what_no_job_has_met_again(lost: Path, counting: Counting) -> None:
    async with opened(lost, max_bytes=10 * SIZE, job_started=LATER) as cache:
        await publish(cache, b"new", key("new"))
        await counting.ended.wait()
        while (await settled(cache)).blob_bytes > 10 * SIZE:
            pass
    assert len(blobs(lost)) <= 10
    check_accounts(lost)


async def test_next_goes_on_where_one_has_left_off(
    lost: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(recount, "DELAY_SECONDS", 1e6)
        async with opened(lost):
            execute(lost, "INSERT INTO counters VALUES ('counted', 128)")
    async with opened(lost):
        await counting.ended.wait()
    left = [digest for digest in blobs(lost) if int(digest.partition(":")[2][:2], 16) >= 128]
    assert totals(lost) == (len(left), len(left) * SIZE)


async def test_counted_once_it_is_counted(lost: Path, counting: Counting) -> None:
    async with opened(lost):
        await counting.ended.wait()
    async with opened(lost) as cache:
        await settled(cache)
        await settled(cache)
    assert counting.runs == 1


async def test_blob_that_is_evicted_after_it_was_listed_is_not_counted(
    lost: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_done: Callable[..., bool] = Recount._has_done
    gone = next(iter(blobs(lost).values()))

    def evicted_first(self: Recount, work: Callable[[sqlite3.Connection], object]) -> bool:
        gone.unlink(missing_ok=True)
        return has_done(self, work)

    monkeypatch.setattr(Recount, "_has_done", evicted_first)
    async with opened(lost):
        await counting.ended.wait()
    check_accounts(lost)
    assert len(blobs(lost)) == NUMBER - 1


async def test_closed_amid_a_count_it_ends(lost: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount, "_REST", 1e9)
    async with opened(lost) as cache:
        while not await known(cache):
            pass
    assert 0 < totals(lost)[0] < NUMBER
    assert counting.runs == 1


async def test_an_interrupt_at_any_moment_of_closing_leaves_nobody_waiting(
    lost: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recount, "_REST", 1e9)
    at, over = 0, False
    while not over:
        at += 1
        async with opened(lost) as cache:  # it is closed once more as it is left
            while counting.runs < at:
                await settled(cache)
            over = not interrupted(cache._recount.close, at, recount.__file__, bell.__file__, threading.__file__)
    assert at > 3


async def test_disk_that_cannot_be_listed_is_told_and_ends_nothing_else(
    lost: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "listing", refused)
    async with opened(lost) as cache:
        await counting.ended.wait()
        await publish(cache, body(0), key("0"))
    assert "not all blobs could be counted" in caplog.text


async def known(cache: Cache) -> int:
    return (await settled(cache)).blobs
