"""Images through the pool: equal to OpenCV's, errors by content, order, cancellation."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvloop

from asyncfetch.errors import (
    AccessDenied,
    CorruptImage,
    DecodeError,
    EmptyObject,
    FetcherClosed,
    ObjectNotFound,
    UnsupportedFormat,
    UsageError,
)
from tests.decode.parts import (
    Outcome,
    decode,
    encode,
    environment,
    expected,
    make_pool,
    photograph,
    photographs,
    pids,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.decode import DecodePool
    from tests.decode.parts import OpenPool

MIB = 1 << 20


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray", "unchanged"])
async def test_images_are_equal_to_opencvs_own(pool: DecodePool, tmp_path: Path, color: str) -> None:
    for extension in (".jpg", ".png", ".tiff", ".webp", ".gif", ".bmp", ".avif", ".jp2", ".ppm"):
        path = tmp_path / f"image{extension}"
        path.write_bytes(encode(extension, photograph("coffee.png")))
        pixels = await decode(pool, path, color=color)
        np.testing.assert_array_equal(pixels, expected(path, color))
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous


async def test_a_few_hundred_images_at_once_come_each_once_and_whole(pool: DecodePool, tmp_path: Path) -> None:
    paths = photographs(tmp_path, 12)
    wanted = [expected(path) for path in paths]
    outcomes = [Outcome(pool, path) for path in paths * 25]
    for index, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(await outcome.get(), wanted[index % 12])
    assert {outcome.calls for outcome in outcomes} == {1}
    statistics = pool.statistics()
    assert (statistics.decoded, statistics.failed, statistics.waiting, statistics.busy) == (300, 0, 0, 0)
    assert statistics.workers == 2
    assert statistics.busy_seconds > 0


async def test_images_of_all_sizes_in_turn_are_whole_though_slots_are_too_small(
    pool: DecodePool, tmp_path: Path
) -> None:
    paths = []
    for index, size in enumerate([(8, 8), (3000, 2000), (40, 30), (1200, 900), (2500, 1000), (1, 1)]):
        paths.append(tmp_path / f"{index}.png")
        paths[-1].write_bytes(encode(".png", photograph(size=size)))
    outcomes = [Outcome(pool, path) for path in paths * 4]
    for outcome, path in zip(outcomes, paths * 4, strict=True):
        np.testing.assert_array_equal(await outcome.get(), expected(path))


@pytest.mark.parametrize("options", [{"max_size": 60}, {"size": (60, 60)}])
async def test_an_image_whose_header_tells_no_size_shrinks_like_any_other(
    pool: DecodePool, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "map.sr"
    path.write_bytes(encode(path.suffix, photograph(size=(120, 80))))
    assert (await decode(pool, path, **options)).shape == (40, 60, 3)


async def test_max_size_bounds_the_longest_side(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1, (640, 480))
    assert (await decode(pool, path, max_size=100)).shape == (75, 100, 3)
    assert (await decode(pool, path, max_size=100, color="gray")).shape == (75, 100)
    assert (await decode(pool, path, max_size=10_000)).shape == (480, 640, 3)


async def test_pixels_of_one_image_are_not_touched_by_the_next(pool: DecodePool, tmp_path: Path) -> None:
    paths = photographs(tmp_path, 8)
    held = [await decode(pool, path) for path in paths]
    for path in paths * 5:
        await decode(pool, path)
    for pixels, path in zip(held, paths, strict=True):
        np.testing.assert_array_equal(pixels, expected(path))


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", EmptyObject, "the object is empty"),
        (b"<!DOCTYPE html><p>", UnsupportedFormat, "not an image but an HTML page"),
        (b"\0\0\0\x18ftypisom" + b"\0" * (2 * MIB), UnsupportedFormat, "an MP4 or QuickTime video"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, CorruptImage, "begins as a JPEG image"),
    ],
)
async def test_what_is_no_image_fails_with_what_was_found(
    pool: DecodePool, tmp_path: Path, content: bytes, kind: type[DecodeError], words: str
) -> None:
    (tmp_path / "bad").write_bytes(content)
    error = await Outcome(pool, tmp_path / "bad").error()
    assert type(error) is kind
    assert str(error).startswith("s3://bucket/bad: ")
    assert words in str(error)


async def test_a_truncated_jpeg_and_a_damaged_png_are_corrupt_and_stop_nothing(
    pool: DecodePool, tmp_path: Path
) -> None:
    [good] = photographs(tmp_path, 1)
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:4000])
    damaged = bytearray(encode(".png", photograph()))
    damaged[5000] ^= 0xFF
    (tmp_path / "damaged.png").write_bytes(damaged)
    outcomes = [Outcome(pool, path) for path in (tmp_path / "cut.jpg", tmp_path / "damaged.png", good)]
    cut, broken = await outcomes[0].error(), await outcomes[1].error()
    assert isinstance(cut, CorruptImage)
    assert "stops after 4000 bytes" in str(cut)
    assert isinstance(broken, CorruptImage)
    assert "chunk IDAT" in str(broken)
    np.testing.assert_array_equal(await outcomes[2].get(), expected(good))
    assert pool.statistics().died == 0


async def test_a_file_that_went_away_is_a_file_not_found(pool: DecodePool, tmp_path: Path) -> None:
    error = await Outcome(pool, tmp_path / "gone.jpg").error()
    assert isinstance(error, ObjectNotFound)
    assert isinstance(error, FileNotFoundError)
    assert str(tmp_path / "gone.jpg") in str(error)


async def test_a_file_that_may_not_be_read_is_an_access_denied(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    path.chmod(0)
    outcome = Outcome(pool, path)
    if os.geteuid() == 0:  # who may read everything
        assert (await outcome.get()).shape == (240, 320, 3)
    else:
        error = await outcome.error()
        assert isinstance(error, AccessDenied)
        assert str(path) in str(error)


async def test_a_directory_and_an_impossible_name_are_failures_of_that_image_alone(
    pool: DecodePool, tmp_path: Path
) -> None:
    [good] = photographs(tmp_path, 1)
    outcomes = [Outcome(pool, tmp_path), Outcome(pool, tmp_path / "nul\0byte"), Outcome(pool, good)]
    assert "Is a directory" in str(await outcomes[0].error())
    assert "null" in str(await outcomes[1].error())
    assert (await outcomes[2].get()).shape == (240, 320, 3)


async def test_a_file_name_that_is_no_unicode_is_read(pool: DecodePool, tmp_path: Path) -> None:
    [good] = photographs(tmp_path, 1)
    # The file systems of macOS have no such names.
    odd = tmp_path / ("café.jpg" if sys.platform == "darwin" else os.fsdecode(b"caf\xe9.jpg"))
    odd.write_bytes(good.read_bytes())
    assert (await decode(pool, odd)).shape == (240, 320, 3)


async def test_the_last_byte_of_a_file_counts_whatever_its_size(pool: DecodePool, tmp_path: Path) -> None:
    for extra in (0, 1, MIB):  # around the buffer that is read into at first
        image = encode(".png", photograph(size=(64, 48)))
        padding = MIB - len(image) + extra
        path = tmp_path / f"{extra}.png"
        path.write_bytes(image + b"\0" * padding)
        np.testing.assert_array_equal(await decode(pool, path), expected(path))


async def test_no_worker_is_started_before_there_is_a_job_and_no_more_than_there_are_jobs(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    pool = open_pool(4)
    [path] = photographs(tmp_path, 1)
    assert pool.statistics().workers == 0
    await decode(pool, path)
    await decode(pool, path)
    assert pool.statistics().workers == 1


async def test_workers_start_for_jobs_that_are_expected_once(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(4)
    [path] = photographs(tmp_path, 1)
    pool.expect(2)
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    await decode(pool, path)
    assert pool.statistics().workers == 2
    for pid in pids(pool):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: pool.statistics().died == 2)
    await asyncio.sleep(0)
    assert pool.statistics().workers == 0, "nobody waits for them"
    await decode(pool, path)
    assert pool.statistics().workers == 1
    await pool.aclose()
    pool.expect(2)
    await asyncio.sleep(0)
    assert pool.statistics().workers == 0


async def test_the_same_job_twice_is_refused(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    outcome = Outcome(pool, path)
    with pytest.raises(UsageError, match="once"):
        pool.submit(outcome.job)
    await outcome.get()


# Order and cancellation


async def test_waiting_jobs_start_in_plan_order_urgent_ones_first(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(1)
    paths = photographs(tmp_path, 6)
    ended: list[int] = []
    orders = [5, 3, 4, 1, 2, 0]

    def note(order: int, _: object) -> None:
        ended.append(order)

    outcomes = [Outcome(pool, path, order=order) for path, order in zip(paths, orders, strict=True)]
    for outcome in outcomes:
        outcome.job.done = partial(note, outcome.job.order)
    pool.urge(outcomes[0].job)
    await until(lambda: len(ended) == 6)
    assert ended == [5, 0, 1, 2, 3, 4]


async def test_a_cancelled_job_is_never_done_whether_it_waits_or_is_at_work(pool: DecodePool, tmp_path: Path) -> None:
    paths = photographs(tmp_path, 40)
    outcomes = [Outcome(pool, path) for path in paths]
    await until(lambda: any(outcome.job.state == "sent" for outcome in outcomes))
    at_work = [outcome for outcome in outcomes if outcome.job.state == "sent"]
    waiting = [outcome for outcome in outcomes if outcome.job.state == "waiting"]
    assert waiting
    dropped = at_work[::2] + waiting[::2]
    for outcome in dropped:
        pool.cancel(outcome.job)
        pool.cancel(outcome.job)
    kept = [outcome for outcome in outcomes if outcome not in dropped]
    for outcome in kept:
        await outcome.get()
    await until(lambda: pool.statistics().busy == 0)
    assert all(outcome.calls == 0 for outcome in dropped)
    gc.collect()
    await until(lambda: pool.statistics().free_slot_bytes == pool.statistics().slot_bytes)


async def test_cancelling_and_urging_what_is_done_changes_nothing(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    outcome = Outcome(pool, path)
    await outcome.get()
    pool.cancel(outcome.job)
    pool.urge(outcome.job)
    assert outcome.calls == 1
    assert (await decode(pool, path)).shape == (240, 320, 3)


async def test_a_callback_that_raises_is_reported_and_stops_no_other_job(pool: DecodePool, tmp_path: Path) -> None:
    paths = photographs(tmp_path, 3)
    reports: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
    outcomes = [Outcome(pool, path) for path in paths]

    def broken(_: object) -> None:
        raise RuntimeError("a mistake")

    outcomes[0].job.done = broken
    for outcome in outcomes[1:]:
        await outcome.get()
    await until(lambda: bool(reports))
    assert "s3://bucket/0000.jpg" in reports[0]


# Loops, closing, and what the parent loads


def test_the_pool_works_on_uvloop(tmp_path: Path) -> None:
    paths = photographs(tmp_path, 5)

    async def main() -> None:
        pool = make_pool(2)
        outcomes = [Outcome(pool, path) for path in paths * 10]
        for outcome, path in zip(outcomes, paths * 10, strict=True):
            np.testing.assert_array_equal(await outcome.get(), expected(path))
        await pool.aclose()

    uvloop.run(main())


async def test_a_closed_pool_refuses_jobs_and_may_be_closed_twice(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool()
    await pool.aclose()
    await pool.aclose()
    with pytest.raises(FetcherClosed):
        Outcome(pool, tmp_path / "a.jpg")


def test_the_parent_loads_neither_numpy_nor_opencv_by_import_and_never_opencv(tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    script = tmp_path / "script.py"
    script.write_text(f"""
import asyncio, sys
from asyncfetch.decode import DecodeJob, DecodeOptions, DecodePool
from asyncfetch.settings import DecodePolicy
assert not {{"numpy", "cv2"}} & {{*sys.modules}}
class Grant:
    amount = 1 << 40
    def correct(self, amount): pass
    def delivered(self): pass
    def release(self): pass
class Budget:
    excess = 0
    def take(self, amount, *, alone=False): return Grant()
async def main():
    pool = DecodePool(DecodePolicy(workers=1), Budget())
    assert not {{"numpy", "cv2"}} & {{*sys.modules}}
    future = asyncio.get_running_loop().create_future()
    pool.submit(DecodeJob(uri="u", path={str(path)!r}, options=DecodeOptions(), order=0, done=future.set_result))
    [(_, pixels)] = await future
    print(pixels.shape)
    await pool.aclose()
asyncio.run(main())
assert "numpy" in sys.modules and "cv2" not in sys.modules
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment())
    assert (done.stdout, done.stderr) == ("(240, 320, 3)\n", "")
