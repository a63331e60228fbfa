"""Memory within its budget: reused, refused, overdrawn, given back; and never a deadlock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from asyncfetch.errors import DecodeError
from tests.decode.parts import (
    Outcome,
    PlainBudget,
    decode,
    descriptors,
    encode,
    expected,
    photograph,
    photographs,
    pids,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asyncfetch.decode import DecodePool
    from tests.decode.parts import OpenPool

MIB = 1 << 20


async def test_memory_is_reused_and_none_is_left_charged_when_the_pool_is_closed(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    budget = PlainBudget()
    pool = open_pool(2, budget)
    paths = photographs(tmp_path, 8)
    for _ in range(20):
        for outcome in [Outcome(pool, path) for path in paths]:
            await outcome.get()
    statistics = pool.statistics()
    assert statistics.slots <= 2 * 16
    assert budget.held == statistics.slot_bytes + statistics.scratch_bytes
    await pool.aclose()
    await until(lambda: budget.grants == [])


@pytest.mark.parametrize("total", [1, MIB, 3 * MIB])
async def test_everything_wanted_at_once_on_a_budget_of_one_image_or_less_never_hangs(
    open_pool: OpenPool, tmp_path: Path, total: int
) -> None:
    budget = PlainBudget(total)
    pool = open_pool(2, budget)
    loop = asyncio.get_running_loop()
    budget.came_back = lambda: loop.call_soon_threadsafe(pool.pump)
    paths = photographs(tmp_path, 10, (640, 480))
    outcomes = [Outcome(pool, path) for path in paths * 4]
    for index, outcome in enumerate(outcomes):
        pool.urge(outcome.job)  # as the head of a stream is
        np.testing.assert_array_equal(await outcome.get(), expected(paths[index % 10]))
    assert budget.refusals > 0
    assert budget.peak <= total + 5 * MIB  # the first guess, overdrawn
    await until(lambda: budget.held <= total)


async def test_a_user_who_keeps_every_image_still_gets_the_next_one(open_pool: OpenPool, tmp_path: Path) -> None:
    budget = PlainBudget(2 * MIB)
    pool = open_pool(2, budget)
    loop = asyncio.get_running_loop()
    budget.came_back = lambda: loop.call_soon_threadsafe(pool.pump)
    paths = photographs(tmp_path, 6, (640, 480))
    outcomes = [Outcome(pool, path) for path in paths * 3]
    kept = []
    for outcome in outcomes:
        pool.urge(outcome.job)
        kept.append(await outcome.get())
    assert budget.overdrafts > 10
    for pixels, path in zip(kept, paths * 3, strict=True):
        np.testing.assert_array_equal(pixels, expected(path))
    del pixels
    kept.clear()
    await until(lambda: budget.held <= budget.total)


async def test_images_that_are_held_cost_no_descriptors(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    await asyncio.gather(decode(pool, path), decode(pool, path))
    before = descriptors()
    held = [await decode(pool, path) for _ in range(20)]
    assert len(held) == 20
    assert descriptors() == before


async def test_a_job_that_is_not_urgent_waits_for_memory_until_pump(open_pool: OpenPool, tmp_path: Path) -> None:
    budget = PlainBudget()
    pool = open_pool(1, budget)
    path, other = photographs(tmp_path, 2)
    await decode(pool, path)
    await until(lambda: pool.reclaim(1 << 40) > 0)
    budget.total = 0
    outcome = Outcome(pool, other)
    await until(lambda: budget.refusals > 0)
    assert pool.statistics().waiting == 1
    budget.total = 1 << 30
    pool.pump()
    await outcome.get()


async def test_free_memory_goes_back_to_who_needs_it_and_the_worker_unmaps_it(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    budget = PlainBudget()
    pool = open_pool(1, budget)
    paths = photographs(tmp_path, 16)
    for outcome in [Outcome(pool, path) for path in paths]:
        await outcome.get()
    await until(lambda: pool.statistics().free_slot_bytes == pool.statistics().slot_bytes)
    assert pool.statistics().scratch_bytes > 0
    worker = psutil.Process(*pids(pool))
    held = budget.held
    assert pool.reclaim(1 << 40) == held
    assert budget.held == 0
    assert pool.statistics().slots == 0
    if sys.platform == "linux":  # which says what a process has mapped
        await until(lambda: sum("memfd:asyncfetch" in region.path for region in worker.memory_maps(grouped=False)) == 1)
    assert (await decode(pool, paths[0])).shape == (240, 320, 3)


async def test_free_slots_of_another_size_make_room_for_the_size_that_is_needed(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    budget = PlainBudget(32 * MIB)
    pool = open_pool(1, budget)
    small = photographs(tmp_path, 8)
    for outcome in [Outcome(pool, path) for path in small * 8]:
        await outcome.get()
    large = tmp_path / "large.png"
    large.write_bytes(encode(".png", photograph(size=(1800, 1400))))  # 7.6 MB of pixels
    np.testing.assert_array_equal(await decode(pool, large), expected(large))
    assert budget.overdrafts == 0


async def test_what_images_need_is_learned_at_once_and_forgotten_slowly(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(1)
    [small] = photographs(tmp_path, 1)
    large = tmp_path / "large.png"
    large.write_bytes(encode(".png", photograph(size=(1800, 1400))))

    async def slot_made_for(path: Path) -> int:
        await until(lambda: pool.reclaim(1 << 40) > 0)
        pixels = await decode(pool, path)
        assert pool.statistics().slots == 1
        del pixels
        return pool.statistics().slot_bytes

    await decode(pool, large)
    assert await slot_made_for(large) >= 1800 * 1400 * 3
    for _ in range(5):
        assert await slot_made_for(small) >= 1800 * 1400
    for _ in range(200):
        await decode(pool, small)
    assert await slot_made_for(small) < 2 * 320 * 240 * 3


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Lets this process open no more than `count` files."""
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_lack_of_descriptors_is_waited_out_while_there_is_work_under_way(
    pool: DecodePool, tmp_path: Path
) -> None:
    paths = photographs(tmp_path, 20)
    await asyncio.gather(decode(pool, paths[0]), decode(pool, paths[1]))
    with descriptors_left(1):
        outcomes = [Outcome(pool, path) for path in paths]
        held = [await outcome.get() for outcome in outcomes]
    assert len(held) == 20
    assert pool.statistics().failed == 0


async def test_an_image_that_can_have_no_memory_fails_and_says_why(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    await decode(pool, path)
    await until(lambda: pool.reclaim(1 << 40) > 0)
    with descriptors_left(0):
        error = await Outcome(pool, path).error()
    assert type(error) is DecodeError
    assert "there is no shared memory for its pixels: Too many open files" in str(error)
    assert (await decode(pool, path)).shape == (240, 320, 3)


async def test_an_idle_worker_gets_memory_that_another_one_keeps_free(open_pool: OpenPool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    budget = PlainBudget()
    pool = open_pool(2, budget)
    await decode(pool, path)
    await until(lambda: pool.reclaim(1 << 40) > 0)  # the first slot, whose size was a guess
    held = [await decode(pool, path) for _ in range(4)]
    [first] = pool._workers
    budget.total, budget.peak = budget.held, 0
    held.clear()
    while not any(slot.owner is not first for slot in pool._seating._arena._slots):
        for outcome in [Outcome(pool, path) for _ in range(40)]:
            await outcome.get()
    assert pool.statistics().workers == 2
    assert budget.peak <= budget.total


async def test_orders_that_the_socket_does_not_take_at_once_follow_in_pieces(
    open_pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncfetch.decode.process._SOCKET_BYTES", 1)  # as small as the system makes it
    folder = tmp_path.joinpath(*["x" * 200] * 4)
    folder.mkdir(parents=True)
    paths = photographs(folder, 16)
    pool = open_pool(1)
    held = [await decode(pool, path) for path in paths]
    held.clear()
    [worker] = pool._workers
    os.kill(worker.pid, signal.SIGSTOP)
    outcomes = [Outcome(pool, path) for path in paths]
    await until(lambda: worker._blocked)
    os.kill(worker.pid, signal.SIGCONT)
    for outcome, path in zip(outcomes, paths, strict=True):
        np.testing.assert_array_equal(await outcome.get(), expected(path))
    assert not worker._blocked


async def test_images_let_go_on_a_thread_come_back_to_the_loop(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    box = [await decode(pool, path)]
    assert pool.statistics().free_slot_bytes == 0
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    await until(lambda: pool.statistics().free_slot_bytes > 0)
