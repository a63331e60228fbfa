"""Slabs: many workers write one piece of shared memory, row by row, and it lives as long as anything looks at it."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from asyncfetch.decode import Row
from asyncfetch.errors import Quarantined, WorkerDied
from tests.decode.parts import PlainBudget, Seated, expected, make_slab, photographs, until

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.decode import DecodePool
    from tests.decode.parts import OpenPool


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return photographs(tmp_path, 1)[0]


async def test_several_workers_write_one_array(pool: DecodePool, image: Path) -> None:
    right = expected(image)
    slab = make_slab(pool, 40, right.nbytes)
    jobs = [Seated(pool, image, Row(slab, index), order=index) for index in range(40)]
    for job in jobs:
        np.testing.assert_array_equal(await job.get(), right)
    assert pool.statistics().workers == 2
    array = slab.array(40, right.shape, right.dtype)
    assert (array == right).all()
    assert array.flags.c_contiguous
    assert array.flags.writeable


async def test_a_slab_serves_again_when_nothing_looks_at_it_and_not_before(pool: DecodePool, image: Path) -> None:
    right = expected(image)
    slab = make_slab(pool, 2, right.nbytes)
    pixels = await Seated(pool, image, Row(slab, 0)).get()
    crop, number = pixels[5:9, 3:7], slab.slot.number
    del slab, pixels
    gc.collect()
    assert make_slab(pool, 2, right.nbytes).slot.number != number, "a crop is still looked at"
    np.testing.assert_array_equal(crop, right[5:9, 3:7])
    del crop
    gc.collect()
    both = make_slab(pool, 2, right.nbytes), make_slab(pool, 2, right.nbytes)
    assert number in {slab.slot.number for slab in both}
    assert pool.statistics().slots == 2
    np.testing.assert_array_equal(await Seated(pool, image, Row(both[0], 1)).get(), right)


async def test_what_has_no_room_in_its_row_comes_in_a_slot_of_its_own(pool: DecodePool, image: Path) -> None:
    right = expected(image)
    slab = make_slab(pool, 2, right.nbytes - 1)
    job = Seated(pool, image, Row(slab, 0))
    np.testing.assert_array_equal(await job.get(), right)
    assert job.job.row is None
    assert not slab.ground[: slab.size].any()


async def test_what_needs_more_memory_beside_its_row_is_decoded_there_all_the_same(
    pool: DecodePool, tmp_path: Path
) -> None:
    [large] = photographs(tmp_path, 1, (2000, 1500))
    right = expected(large)
    slab = make_slab(pool, 2, right.nbytes)
    job = Seated(pool, large, Row(slab, 1))
    assert np.shares_memory(await job.get(), slab.ground)
    np.testing.assert_array_equal(slab.array(2, right.shape, right.dtype)[1], right)
    assert job.job.scratch > right.nbytes, "the first try was not enough"
    assert pool.statistics().scratch_bytes >= job.job.scratch, "and it is charged"


async def test_a_row_without_memory_beside_it_is_waited_for_and_given_up_for_what_is_urgent(
    open_pool: OpenPool, image: Path
) -> None:
    right = expected(image)
    budget = PlainBudget()
    pool = open_pool(1, budget)
    slab = make_slab(pool, 2, right.nbytes)
    budget.total = budget.held + 1000
    waiting = Seated(pool, image, Row(slab, 0))
    await until(lambda: budget.refusals > 0)
    assert waiting.job.state == "waiting"
    pool.urge(waiting.job)
    pixels = await waiting.get()
    np.testing.assert_array_equal(pixels, right)
    assert waiting.job.row is None
    assert not np.shares_memory(pixels, slab.ground)
    assert budget.overdrafts == 1


async def test_a_result_that_would_lie_askew_in_its_row_comes_in_a_slot_of_its_own(
    pool: DecodePool, image: Path
) -> None:
    slab = make_slab(pool, 4, 4001)
    other = Seated(pool, image, Row(slab, 2), transform=lambda pixels: pixels.ravel()[:4001])
    job = Seated(pool, image, Row(slab, 1), transform=lambda pixels: pixels.ravel()[:500].astype(np.float64))
    assert np.shares_memory(await other.get(), slab.ground)
    pixels = await job.get()
    assert pixels.flags.aligned
    assert not np.shares_memory(pixels, slab.ground)
    np.testing.assert_array_equal(pixels, expected(image).ravel()[:500])


async def test_a_row_does_not_help_bytes_in_quarantine(pool: DecodePool, image: Path) -> None:
    for _ in range(3):
        pool._quarantine.strike("blake3:bad", "was killed")
    slab = make_slab(pool, 1, expected(image).nbytes)
    assert isinstance(await Seated(pool, image, Row(slab, 0), digest="blake3:bad").get(), Quarantined)
    assert not slab.ground.any()


async def test_a_row_of_a_worker_that_died_is_written_by_the_next(
    open_pool: OpenPool, image: Path, tmp_path: Path
) -> None:
    pool = open_pool(1)
    os.mkfifo(tmp_path / "endless.jpg")
    right = expected(image)
    slab = make_slab(pool, 3, right.nbytes)
    jobs = [
        Seated(pool, path, Row(slab, index), order=index)
        for index, path in enumerate([image, tmp_path / "endless.jpg", image])
    ]
    await until(lambda: any(worker.current() == jobs[1].job.number for worker in pool._workers))
    os.kill(pool._workers[0].pid, signal.SIGKILL)
    assert isinstance(await jobs[1].get(), WorkerDied)
    await jobs[2].get()
    array = slab.array(3, right.shape, right.dtype)
    assert (array[0] == right).all()
    assert (array[2] == right).all()


async def test_a_cancelled_row_keeps_its_slab_until_the_worker_is_done_with_it(
    open_pool: OpenPool, image: Path, tmp_path: Path
) -> None:
    pool = open_pool(1)
    os.mkfifo(tmp_path / "endless.jpg")
    right = expected(image)
    slab = make_slab(pool, 2, right.nbytes)
    number = slab.slot.number
    job = Seated(pool, tmp_path / "endless.jpg", Row(slab, 0)).job
    await until(lambda: any(worker.current() for worker in pool._workers))
    pool.cancel(job)
    del job, slab
    gc.collect()
    assert make_slab(pool, 2, right.nbytes).slot.number != number, "a worker may still write there"
    with (tmp_path / "endless.jpg").open("wb") as writer:
        writer.write(image.read_bytes())
    await until(lambda: not any(worker.sent for worker in pool._workers))
    gc.collect()
    both = make_slab(pool, 2, right.nbytes), make_slab(pool, 2, right.nbytes)
    assert number in {slab.slot.number for slab in both}


async def test_slabs_are_charged_to_the_budget_and_come_back_to_it(open_pool: OpenPool, image: Path) -> None:
    budget = PlainBudget(1 << 20)
    pool = open_pool(1, budget)
    assert pool.slab(10, 1 << 20) is None
    slab = pool.slab(10, 1 << 20, alone=True)
    assert slab is not None
    assert budget.held >= 10 << 20
    del slab
    gc.collect()
    pool.slab(1, 1000)
    assert pool.reclaim(10 << 20) >= 10 << 20
    assert budget.held <= 64 << 10


async def test_images_without_bytes_need_no_slab(pool: DecodePool) -> None:
    make_slab(pool, 2, 1000)
    gc.collect()
    assert pool.slab(3, 0) is None, "not even the free one"


async def test_kept_batches_do_not_keep_descriptors(pool: DecodePool) -> None:
    before = len(os.listdir("/dev/fd"))
    kept = []
    for _ in range(100):
        slab = make_slab(pool, 2, 1000)
        slab.written()
        kept.append(slab.array(2, [1000], "|u1"))
    assert len(os.listdir("/dev/fd")) - before < 50
    del slab
    kept.clear()
    gc.collect()
    assert make_slab(pool, 2, 1000).slot.descriptor is not None, "a worker can still be told of it"
