"""Images that go to a worker in one order: each has its own outcome, whatever becomes of its neighbours."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from asyncfetch.decode import DecodeJob, DecodeOptions, Row
from asyncfetch.decode.arena import slot_capacity
from asyncfetch.decode.worker import _FLUSH_ANSWERS
from asyncfetch.errors import (
    CorruptImage,
    DecodeTimeout,
    EmptyObject,
    ObjectNotFound,
    Quarantined,
    UnsupportedFormat,
    WorkerDied,
)
from tests.decode.parts import Outcome, Seated, decode, encode, expected, make_slab, photograph, photographs, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from asyncfetch.decode import DecodePool, Settled, Slab
    from tests.decode.parts import OpenPool

SIDE = 320, 240


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return photographs(tmp_path, 6, SIDE)


def seat(pool: DecodePool, slab: Slab, paths: Sequence[Path]) -> list[Seated]:
    return [Seated(pool, path, Row(slab, index), order=index) for index, path in enumerate(paths)]


async def begun(pool: DecodePool, job: Seated) -> None:
    await until(lambda: any(worker.current() == job.job.number for worker in pool._workers))


async def test_what_waits_goes_to_a_worker_in_one_order(open_pool: OpenPool, paths: list[Path], endless: Path) -> None:
    pool = open_pool(1)
    one, other = (make_slab(pool, 6, 320 * 240 * 3) for _ in range(2))
    jobs = seat(pool, one, [endless, *paths[:3]])
    others = [Seated(pool, path, Row(other, index), order=10 + index) for index, path in enumerate(paths)]
    unlike = Seated(pool, paths[0], Row(one, 4), order=20, color="bgr")
    await begun(pool, jobs[0])
    [worker] = pool._workers
    assert [[job.number for job in sent.jobs] for sent in worker.sent] == [
        [job.job.number for job in group] for group in (jobs, others, [unlike])
    ]
    endless.open("wb").close()
    assert isinstance(await jobs[0].get(), EmptyObject)
    for job, path in zip([*jobs[1:], *others], paths[:3] + paths, strict=True):
        np.testing.assert_array_equal(await job.get(), expected(path))
    np.testing.assert_array_equal(await unlike.get(), expected(paths[0], "bgr"))
    assert (worker.load, worker.sent_bytes, len(worker.sent)) == (0, 0, 0)


async def test_each_of_the_workers_has_its_share_of_what_waits(open_pool: OpenPool, paths: list[Path]) -> None:
    pool = open_pool(2)
    for _ in range(2):
        slab = make_slab(pool, 6, 320 * 240 * 3)
        for job in seat(pool, slab, paths):  # until both are there
            await job.get()
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    held = [path.with_suffix(".held") for path in paths]
    for path in held:
        os.mkfifo(path)
    jobs = seat(pool, make_slab(pool, 6, 320 * 240 * 3), held)
    await until(lambda: sum(worker.current() > 0 for worker in pool._workers) == 2)
    assert [worker.load for worker in pool._workers] == [3, 3]
    await pool.aclose()
    assert {type(await job.get()).__name__ for job in jobs} == {"FetcherClosed"}


@pytest.mark.parametrize("seed", range(3))
async def test_every_image_of_a_group_has_its_own_outcome(open_pool: OpenPool, tmp_path: Path, seed: int) -> None:
    pool = open_pool(1)
    good = photographs(tmp_path, 4, SIDE)
    files = {
        "empty": b"",
        "text": b"Not an image, but words.",
        "cut": encode(".png", photograph(size=SIDE))[:500],
        "large.jpg": encode(".jpg", photograph(size=(1000, 700))),
        "small.jpg": encode(".jpg", photograph(size=(100, 70))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [*good, *(tmp_path / name for name in files), tmp_path / "nowhere"]
    random.Random(seed).shuffle(paths)
    slab = make_slab(pool, len(paths), 320 * 240 * 3)
    kinds = {"empty": EmptyObject, "text": UnsupportedFormat, "cut": CorruptImage, "nowhere": ObjectNotFound}
    for job, path in zip(seat(pool, slab, paths), paths, strict=True):
        outcome = await job.get()
        if path.name in kinds:
            assert type(outcome) is kinds[path.name]
            assert path.name in str(outcome)
        else:
            np.testing.assert_array_equal(outcome, expected(path))
            assert np.shares_memory(outcome, slab.ground) is (path.name != "large.jpg")
    statistics = pool.statistics()
    assert (statistics.decoded, statistics.failed, statistics.busy) == (6, 4, 0)


@pytest.mark.parametrize("at", [0, 3, 5])
async def test_of_a_group_whose_worker_is_killed_one_image_fails_and_the_others_come(
    open_pool: OpenPool, paths: list[Path], endless: Path, at: int
) -> None:
    pool = open_pool(1)
    files = [*paths[:at], endless, *paths[at:5]]
    jobs = seat(pool, make_slab(pool, 6, 320 * 240 * 3), files)
    await begun(pool, jobs[at])
    os.kill(pool._workers[0].pid, signal.SIGKILL)
    for job, path in zip(jobs, files, strict=True):
        outcome = await job.get()
        if path is endless:
            assert isinstance(outcome, WorkerDied)
            assert outcome.uri == str(endless)
        else:
            np.testing.assert_array_equal(outcome, expected(path))
    assert (pool.statistics().failed, pool.statistics().died) == (1, 1)


async def test_the_time_limit_is_that_of_each_image_of_a_group(
    open_pool: OpenPool, paths: list[Path], endless: Path
) -> None:
    pool = open_pool(1, timeout=0.5)
    files = [*paths[:3], endless, *paths[3:]]
    jobs = seat(pool, make_slab(pool, 7, 320 * 240 * 3), files)
    outcomes = [await job.get() for job in jobs]
    assert [isinstance(outcome, DecodeTimeout) for outcome in outcomes] == [path is endless for path in files]
    assert "was killed after 0.5 seconds" in str(outcomes[3])


async def test_cancelling_images_of_a_group_leaves_the_others(
    open_pool: OpenPool, paths: list[Path], endless: Path
) -> None:
    pool = open_pool(1)
    jobs = seat(pool, make_slab(pool, 7, 320 * 240 * 3), [endless, *paths])
    await begun(pool, jobs[0])
    for number in (0, 2, 6):
        pool.cancel(jobs[number].job)
    endless.open("wb").close()
    for number in (1, 3, 4, 5):
        np.testing.assert_array_equal(await jobs[number].get(), expected(paths[number - 1]))
    await decode(pool, paths[0])  # which comes behind all of them
    assert not any(jobs[number].came for number in (0, 2, 6))
    assert (pool.statistics().decoded, pool.statistics().failed) == (5, 0)


async def test_of_a_cancelled_group_whose_worker_is_killed_nothing_is_decoded_again(
    open_pool: OpenPool, paths: list[Path], endless: Path
) -> None:
    pool = open_pool(1)
    jobs = seat(pool, make_slab(pool, 7, 320 * 240 * 3), [endless, *paths])
    await begun(pool, jobs[0])
    for job in jobs:
        pool.cancel(job.job)
    os.kill(pool._workers[0].pid, signal.SIGKILL)
    await decode(pool, paths[0])
    assert not any(job.came for job in jobs)
    assert (pool.statistics().decoded, pool.statistics().failed) == (1, 0)


async def test_what_was_answered_together_is_heard_of_in_one_call(open_pool: OpenPool, paths: list[Path]) -> None:
    pool = open_pool(1)
    slab = make_slab(pool, 6, 320 * 240 * 3)
    calls: list[list[Settled]] = []
    jobs = [
        DecodeJob(str(path), str(path), DecodeOptions(), index, calls.append, index, row=Row(slab, index))
        for index, path in enumerate(paths)
    ]
    pool.submit(*jobs)
    await until(lambda: sum(map(len, calls)) == len(jobs))
    settled = [one for call in calls for one in call]
    assert [job for job, _ in settled] == jobs
    for job, pixels in settled:
        np.testing.assert_array_equal(pixels, expected(paths[job.holder]))
    assert len(calls) < len(jobs)


async def test_a_job_cancelled_by_a_neighbours_caller_is_not_heard_of(open_pool: OpenPool, paths: list[Path]) -> None:
    pool = open_pool(1)
    slab, heard = make_slab(pool, 6, 320 * 240 * 3), list[Any]()

    def cancel(settled: list[Settled]) -> None:
        heard.append(settled)
        pool.cancel(other)
        raise ValueError("a caller's mistake")

    one, other, last = (
        DecodeJob(str(path), str(path), DecodeOptions(), index, done, row=Row(slab, index))
        for index, (path, done) in enumerate(zip(paths, [cancel, heard.append, heard.append], strict=False))
    )
    reports = list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(str(context["exception"])))
    pool.submit(one, other, last)
    await until(lambda: len(heard) == 2)
    assert [[job for job, _ in settled] for settled in heard] == [[one], [last]]
    assert reports == ["a caller's mistake"]


async def test_of_images_that_take_long_a_worker_has_few(open_pool: OpenPool, paths: list[Path]) -> None:
    pool = open_pool(1)
    for job in seat(pool, make_slab(pool, 6, 320 * 240 * 3), paths):
        await job.get()
    [worker] = pool._workers
    assert worker._pace > 0, "it has heard of these"
    worker._pace = 0.0
    worker.learn(6, 6 * 0.03)
    assert worker.most == 4
    for _ in range(100):
        worker.learn(6, 6 * 0.001)
    assert worker.most == 40
    # Of photographs of 640x480, too: one that has answered all that it has waits for the loop.
    assert worker.room_for(slot_capacity(640 * 480 * 3)) > _FLUSH_ANSWERS


async def test_bytes_in_quarantine_are_left_out_of_a_group(open_pool: OpenPool, paths: list[Path]) -> None:
    pool = open_pool(1)
    for _ in range(3):
        pool._quarantine.strike("blake3:bad", "was killed")
    slab = make_slab(pool, 6, 320 * 240 * 3)
    jobs = [
        Seated(pool, path, Row(slab, index), order=index, digest="blake3:bad" if index == 2 else "blake3:good")
        for index, path in enumerate(paths)
    ]
    for index, job in enumerate(jobs):
        outcome = await job.get()
        if index == 2:
            assert isinstance(outcome, Quarantined)
        else:
            np.testing.assert_array_equal(outcome, expected(paths[index]))
    assert not slab.ground[2 * slab.size : 3 * slab.size].any(), "no worker was told of it"


async def slots(pool: DecodePool, paths: Sequence[Path]) -> None:
    """Has the pool's worker know a free slot for each of some images of one size, beside a larger one."""
    await decode(pool, paths[0])
    for outcome in [Outcome(pool, path) for path in paths]:
        await outcome.get()


async def all_free(pool: DecodePool) -> None:
    gc.collect()
    await until(lambda: pool.statistics().free_slot_bytes == pool.statistics().slot_bytes)


def groups(pool: DecodePool) -> list[list[int]]:
    return [[job.number for job in sent.jobs] for sent in pool._workers[0].sent]


def numbers(jobs: Sequence[Outcome]) -> list[int]:
    return [job.job.number for job in jobs]


async def test_images_with_slots_of_their_own_go_in_one_order_as_far_as_slots_are_free(
    open_pool: OpenPool, paths: list[Path], endless: Path
) -> None:
    pool = open_pool(1)
    await decode(pool, paths[0], color="bgr")
    await slots(pool, paths[:4])
    await all_free(pool)
    assert pool.statistics().slots == 5
    jobs = [Outcome(pool, path) for path in [endless, *paths]]
    unlike = Outcome(pool, paths[0], color="bgr")
    await until(lambda: pool._workers[0].current() == jobs[0].job.number)
    assert groups(pool)[0] == numbers(jobs[:4])
    assert [number for group in groups(pool) for number in group] == numbers([*jobs, unlike])
    endless.open("wb").close()
    assert isinstance(await jobs[0].error(), EmptyObject)
    arrays = [await job.get() for job in jobs[1:]]
    for pixels, path in zip(arrays, paths, strict=True):
        np.testing.assert_array_equal(pixels, expected(path))
    np.testing.assert_array_equal(await unlike.get(), expected(paths[0], "bgr"))
    assert (pool._workers[0].load, pool._workers[0].sent_bytes) == (0, 0)
    gc.collect()
    free, one = pool.statistics().free_slot_bytes, slot_capacity(arrays[0].nbytes)
    del pixels, arrays[2]
    assert pool.statistics().free_slot_bytes == free + one, "each comes back on its own"


async def test_of_a_group_with_slots_whose_worker_is_killed_one_image_fails_and_the_others_come(
    open_pool: OpenPool, paths: list[Path], endless: Path
) -> None:
    pool = open_pool(1)
    await slots(pool, paths)
    jobs = [Outcome(pool, path) for path in [*paths[:2], endless, *paths[2:5]]]
    await until(lambda: pool._workers[0].current() == jobs[2].job.number)
    pool.cancel(jobs[5].job)
    os.kill(pool._workers[0].pid, signal.SIGKILL)
    assert isinstance(await jobs[2].error(), WorkerDied)
    for job, path in zip([*jobs[:2], *jobs[3:5]], paths, strict=False):
        np.testing.assert_array_equal(await job.get(), expected(path))
    assert not jobs[5].came
    assert pool.statistics().died == 1
    await all_free(pool)


async def test_slots_of_images_cancelled_in_a_group_come_back(
    open_pool: OpenPool, paths: list[Path], endless: Path
) -> None:
    pool = open_pool(1)
    await slots(pool, paths)
    await all_free(pool)
    before = pool.statistics().slots
    jobs = [Outcome(pool, path) for path in [endless, *paths[:5]]]
    await until(lambda: pool._workers[0].current() == jobs[0].job.number)
    assert groups(pool) == [numbers(jobs)]
    for number in (0, 2, 5):
        pool.cancel(jobs[number].job)
    endless.open("wb").close()
    for number in (1, 3, 4):
        np.testing.assert_array_equal(await jobs[number].get(), expected(paths[number - 1]))
    await decode(pool, paths[0])
    assert not any(jobs[number].came for number in (0, 2, 5))
    await all_free(pool)
    assert pool.statistics().slots == before


async def test_an_image_of_unknown_size_in_a_group_goes_again_with_the_room_it_needs(
    open_pool: OpenPool, tmp_path: Path, paths: list[Path]
) -> None:
    pool = open_pool(1)
    await slots(pool, paths)
    large = tmp_path / "large.jpg"
    large.write_bytes(encode(".jpg", photograph(size=(1000, 700))))
    files = [*paths[:2], large, *paths[2:]]
    for job, path in zip([Outcome(pool, path) for path in files], files, strict=True):
        np.testing.assert_array_equal(await job.get(), expected(path))


async def test_workers_that_can_both_take_images_take_turns(open_pool: OpenPool, paths: list[Path]) -> None:
    pool = open_pool(2)
    await until_both_work(pool, paths)
    held = [path.with_suffix(".held") for path in paths]
    for path in held:
        os.mkfifo(path)
    jobs = [Outcome(pool, path) for path in held]
    await until(lambda: sum(worker.current() > 0 for worker in pool._workers) == 2)
    assert {worker.current() for worker in pool._workers} == set(numbers(jobs[:2]))
    await pool.aclose()
    assert {type(await job.error()).__name__ for job in jobs} == {"FetcherClosed"}


async def until_both_work(pool: DecodePool, paths: Sequence[Path]) -> None:
    pool.expect(2)
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    for _ in range(3):
        await slots(pool, paths)
