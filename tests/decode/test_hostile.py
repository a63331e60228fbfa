"""Images that mean harm: every one ends as pixels or as a failure with a name, and the pool goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch import DecodePolicy
from asyncfetch.errors import (
    CorruptImage,
    DecodeError,
    DecodeTimeout,
    ImageTooLarge,
    OutOfMemory,
    UnsupportedFormat,
    UsageError,
)
from tests.decode.parts import Outcome, PlainBudget, decode, encode, expected, photograph, photographs, until
from tests.decode.test_deaths import stuck_at
from tests.decode.written import four_channel_jpeg, interlaced_png, palette_png, tiff_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asyncfetch.decode import Pixels
    from tests.decode.parts import OpenPool

MIB = 1 << 20


def seeds() -> dict[str, bytes]:
    """A small image of every kind that is promised."""
    image: Pixels = photograph("chelsea.png", (96, 64))
    alpha = np.dstack([image, image[..., 0]])
    _, pages = cv2.imencodemulti(".tiff", [image, image[:32]])
    return {
        "jpeg": encode(".jpg", image),
        "progressive": encode(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "gray": encode(".jpg", image[..., 1]),
        "cmyk": four_channel_jpeg([(9, 80, 200, 30)] * 8, transform=0),
        "ycck": four_channel_jpeg([(9, 80, 200, 30)] * 8, transform=2),
        "png": encode(".png", image),
        "png16": encode(".png", alpha.astype(np.uint16) * 257),
        "interlaced": interlaced_png(image),
        "palette": palette_png(image[..., 0] % 4, [(1, 2, 3), (50, 60, 70), (9, 9, 9), (250, 0, 1)], b"\x01\x02"),
        "bmp": encode(".bmp", image),
        "webp": encode(".webp", alpha, cv2.IMWRITE_WEBP_QUALITY, 80),
        "lossless": encode(".webp", image),
        "tiff": pages.tobytes(),
        "tiff16": tiff_file(image.astype(np.uint16) * 257),
        "floats": tiff_file(image.astype(np.float32)),
        "gif": encode(".gif", image),
        "avif": encode(".avif", image, cv2.IMWRITE_AVIF_SPEED, 10),
        "jp2": encode(".jp2", image),
        "ppm": encode(".ppm", image),
        "hdr": encode(".hdr", image.astype(np.float32)),
    }


def broken(whole: bytes, chance: random.Random) -> Iterator[bytes]:
    """Truncations and flipped bits, most of them where headers are, since a few flips in pixels change little."""
    for share in (0.02, 0.1, 0.3, 0.6, 0.9, 0.99):
        yield whole[: int(len(whole) * share)]
    for index in range(18):
        data = bytearray(whole)
        for _ in range(1 + index % 3):
            at = chance.randrange(min(len(data), 200) if index % 2 else len(data))
            data[at] ^= 1 << chance.randrange(8)
        yield bytes(data)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "unchanged"},
        {"color": "unchanged"},
        {"dtype": "float32", "size": (24, 16), "fit": "fill"},  # which the decoder of JPEG does by itself
    ],
)
async def test_truncations_and_flipped_bits_end_as_pixels_or_as_a_named_failure(
    open_pool: OpenPool, tmp_path: Path, options: Any
) -> None:
    pool, chance = open_pool(2, timeout=10.0, max_pixels=1 << 22), random.Random(0)
    [good] = photographs(tmp_path, 1)
    outcomes = []
    for name, whole in seeds().items():
        for index, data in enumerate([whole, *broken(whole, chance)]):
            path = tmp_path / f"{name}-{index}"
            path.write_bytes(data)
            outcomes.append(Outcome(pool, path, **options))
            if index == 0:
                assert (await outcomes[-1].get()).size > 0, name
                outcomes.pop()
    ends = {"pixels": 0, "failures": 0}
    for outcome in outcomes:
        try:
            pool.urge(outcome.job)  # as the head of a stream is
            ends["pixels"] += (await outcome.get()).size > 0
        except (CorruptImage, UnsupportedFormat, ImageTooLarge, OutOfMemory):
            ends["failures"] += 1
    assert pool.statistics().died == 0
    assert sum(ends.values()) == 24 * len(seeds())
    assert min(ends.values()) > 20, ends
    np.testing.assert_array_equal(await decode(pool, good), expected(good))


# Time


async def test_an_image_that_takes_too_long_is_named_and_its_neighbours_are_decoded(
    open_pool: OpenPool, tmp_path: Path, endless: Path
) -> None:
    pool = open_pool(1, timeout=0.3)
    paths = photographs(tmp_path, 6)
    outcomes = [Outcome(pool, path) for path in [*paths[:3], endless, *paths[3:]]]
    culprit = outcomes.pop(3)
    error = await culprit.error()
    assert isinstance(error, DecodeTimeout)
    assert isinstance(error, TimeoutError)
    assert "endless.jpg: the decode worker that was at it was killed after 0.3 seconds" in str(error)
    for outcome, path in zip(outcomes, paths, strict=True):
        np.testing.assert_array_equal(await outcome.get(), expected(path))
    assert pool.statistics().died == 1


async def test_who_was_begun_just_before_the_end_of_a_late_worker_is_not_blamed(
    open_pool: OpenPool, tmp_path: Path, endless: Path
) -> None:
    pool = open_pool(1)
    late, innocent = Outcome(pool, endless), Outcome(pool, tmp_path / "soon.jpg")
    os.mkfifo(tmp_path / "soon.jpg")
    await stuck_at(pool, late)
    [worker] = pool._workers
    worker.overdue = late.job.number  # it was late when it was looked at,
    endless.write_bytes(b"no image")  # and went on before it was killed
    await stuck_at(pool, innocent)
    os.kill(worker.pid, signal.SIGKILL)
    assert isinstance(await late.error(), DecodeError)
    (tmp_path / "soon.jpg").unlink()
    (tmp_path / "soon.jpg").write_bytes(encode(".jpg", photograph(size=(64, 48))))
    assert (await innocent.get()).shape == (48, 64, 3)


async def test_nothing_is_watched_while_nothing_is_decoded(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(1)
    [path] = photographs(tmp_path, 1)
    await decode(pool, path)
    assert pool._watching is not None
    await until(lambda: pool._watching is None)


# Memory


async def test_an_image_that_would_take_more_than_its_worker_may_is_refused_by_its_header(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    pool = open_pool(1, worker_memory=64 * MIB)
    (tmp_path / "large.png").write_bytes(encode(".png", np.zeros((4000, 4000, 3), np.uint8)))
    error = await Outcome(pool, tmp_path / "large.png").error()
    assert isinstance(error, OutOfMemory)
    assert isinstance(error, MemoryError)
    assert "decoding this PNG image may take 91 MiB beside its pixels. A larger DecodePolicy(worker_memory" in str(
        error
    )
    assert (await Outcome(pool, tmp_path / "large.png", color="gray").get()).shape == (4000, 4000)
    assert pool.statistics().died == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its data limit")
@pytest.mark.parametrize(
    "size", [(4000, 2000), (2000, 2000)]
)  # too much for the image, and for what its decoder copies
async def test_an_image_whose_header_tells_nothing_is_held_to_its_memory_by_the_system(
    open_pool: OpenPool, tmp_path: Path, size: tuple[int, int]
) -> None:
    pool = open_pool(1, worker_memory=64 * MIB)
    path, (width, height) = tmp_path / "flat.hdr", size
    path.write_bytes(encode(".hdr", np.full((height, width, 3), 0.5, np.float32)))
    assert path.stat().st_size < MIB
    error = await Outcome(pool, path).error()
    assert isinstance(error, OutOfMemory)
    assert "flat.hdr: there was not enough memory to decode this Radiance HDR image. A larger Decode" in str(error)
    [good] = photographs(tmp_path, 1)
    np.testing.assert_array_equal(await decode(pool, good), expected(good))
    assert pool.statistics().died == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its data limit")
async def test_a_file_without_an_end_takes_no_more_than_the_memory_of_its_worker(
    open_pool: OpenPool, tmp_path: Path, endless: Path
) -> None:
    pool = open_pool(1, worker_memory=64 * MIB)
    [good] = photographs(tmp_path, 1)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), endless.open("wb", buffering=0) as file:
            file.write(good.read_bytes())
            while True:
                file.write(bytes(MIB))

    writer = threading.Thread(target=write)
    writer.start()
    error = await Outcome(pool, endless).error()
    writer.join()
    assert isinstance(error, OutOfMemory)
    assert "endless.jpg: there was not enough memory to decode it" in str(error)
    np.testing.assert_array_equal(await decode(pool, good), expected(good))
    assert pool.statistics().died == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its data limit")
async def test_slots_do_not_count_as_memory_of_a_worker(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(1, worker_memory=64 * MIB)
    [good] = photographs(tmp_path, 1)
    for size in 40, 50, 64:
        full = await decode(pool, good, transform=lambda _, size=size: np.broadcast_to(np.uint8(1), size * MIB))
        kept = await decode(pool, good, transform=lambda _: np.ones(30 * MIB, np.uint8))
        assert (full.nbytes, kept.nbytes) == (size * MIB, 30 * MIB)
    assert pool.statistics().died == 0


async def test_a_job_that_waits_for_its_slot_holds_no_memory_of_its_worker(open_pool: OpenPool, tmp_path: Path) -> None:
    budget = PlainBudget()
    pool = open_pool(1, budget)
    [small] = photographs(tmp_path, 1)
    (tmp_path / "large.png").write_bytes(encode(".png", np.zeros((2000, 2000, 3), np.uint8)))
    await decode(pool, small)
    budget.total = budget.held + 25 * MIB  # enough for the decoder, and not for the pixels too
    refused, waiting = budget.refusals, Outcome(pool, tmp_path / "large.png")
    await until(lambda: waiting.job.need > 0 and budget.refusals > refused)
    assert pool.statistics().waiting == 1
    assert pool.statistics().scratch_bytes < 10 * MIB
    pool.urge(waiting.job)
    assert (await waiting.get()).shape == (2000, 2000, 3)


# Limits


@pytest.mark.parametrize("policy", [{"timeout": 0}, {"worker_memory": 1}, {"max_pixels": 0}])
def test_limits_that_allow_nothing_are_refused(policy: Any) -> None:
    with pytest.raises(UsageError):
        DecodePolicy(**policy)
