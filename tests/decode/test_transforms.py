"""The user's own function in the workers: any callable, replayed by its seeds, and every mistake named."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch import DecodePolicy, Fetcher
from asyncfetch.decode import DecodeOptions
from asyncfetch.errors import DecodeTimeout, OutOfMemory, TransformFailed, UsageError, WorkerDied
from tests.decode.parts import Outcome, PlainBudget, decode, environment, expected, photographs, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch import Image, Stream
    from asyncfetch.decode import DecodePool, Pixels
    from tests.decode.parts import OpenPool


def noisy(pixels: Pixels) -> Pixels:
    """Draws from all three generators that are seeded."""
    numbers = np.zeros((2, 3), np.float64)
    cv2.randu(numbers, np.zeros(1), np.ones(1))
    return np.array([random.random(), np.random.rand(), *numbers.ravel(), float(pixels.mean())])


class Scale:
    """A callable object with state, of a module that the workers can import."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, pixels: Pixels) -> Pixels:
        return pixels * np.float32(self.by)


class Augmentation:
    """What all transforms of Albumentations have in common: names in and out, and a generator of their own.

    The library is no part of the tests: with PyTorch beside it each process that imports it takes 5 s of CPU.
    """

    def __init__(self) -> None:
        self.set_random_seed(None)

    def set_random_seed(self, seed: int | None) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> dict[str, Any]:
        if args:
            raise KeyError("You have to pass data to augmentations as named arguments, for example: aug(image=image)")
        return {"image": np.roll(data["image"], int(self.random.integers(320)), axis=1)}


@pytest.mark.parametrize("with_file", [False, True])
async def test_what_augments_as_albumentations_does_is_seeded_for_each_item(
    pool: DecodePool, tmp_path: Path, with_file: bool
) -> None:
    paths = photographs(tmp_path, 4)
    options = {"transform": Augmentation(), "seed": 7, "with_file": with_file}
    first = {path: (await decode(pool, path, **options)).tobytes() for path in paths}
    again = {path: (await decode(pool, path, **options)).tobytes() for path in reversed(paths)}
    assert again == first
    assert all(made != expected(path).tobytes() for path, made in first.items())


async def test_a_closure_gets_an_array_of_its_own_and_its_result_comes_out(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    factor = 3

    def closure(pixels: Pixels) -> Pixels:
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous
        assert pixels.flags.owndata
        pixels[:10] = 0
        return pixels[:20].astype(np.int64) * factor

    result = await decode(pool, path, transform=closure)
    assert result.dtype == np.int64
    wanted = expected(path)[:20].astype(np.int64) * 3
    wanted[:10] = 0
    np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (240, 320, 3)), ({"layout": "chw"}, (3, 240, 320)), ({"color": "gray", "layout": "chw"}, (1, 240, 320))],
)
async def test_a_transform_is_given_what_would_be_handed_over(
    pool: DecodePool, tmp_path: Path, options: Any, shape: tuple[int, ...]
) -> None:
    [path] = photographs(tmp_path, 1)
    plain = await decode(pool, path, **options)
    assert plain.shape == shape
    np.testing.assert_array_equal(await decode(pool, path, transform=lambda pixels: pixels, **options), plain)
    half = await decode(pool, path, transform=Scale(0.5), **options)
    np.testing.assert_array_equal(half, plain * np.float32(0.5))


@pytest.mark.parametrize(
    "result",
    [np.float32(2.5), np.zeros((0, 3)), np.ones(3, ">i4"), np.ones((2, 2), bool), np.ones(2, "c16")],
)
async def test_arrays_of_any_shape_and_number_come_out(pool: DecodePool, tmp_path: Path, result: Pixels) -> None:
    [path] = photographs(tmp_path, 1)
    got = await decode(pool, path, transform=lambda _: result)
    assert got.dtype == result.dtype.newbyteorder("=")
    np.testing.assert_array_equal(got, result)


async def test_a_result_larger_than_its_image_is_made_room_for(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    tiled = await decode(pool, path, transform=lambda pixels: np.tile(pixels, (8, 8, 1)))
    np.testing.assert_array_equal(tiled, np.tile(expected(path), (8, 8, 1)))


async def test_the_first_image_may_be_a_large_one(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1, (2000, 1500))
    np.testing.assert_array_equal(await decode(pool, path, transform=lambda pixels: pixels[:9]), expected(path)[:9])


# Seeds


async def drawn(cache_dir: Path, paths: list[Path], workers: int, **options: Any) -> list[list[float]]:
    async with Fetcher(cache_dir=cache_dir, workers=workers) as fetcher:
        images = fetcher.images(paths, transform=noisy, **options)
        return [image.pixels.tolist() async for image in images]


async def test_a_run_replays_with_any_number_of_workers(cache_dir: Path, tmp_path: Path) -> None:
    paths = photographs(tmp_path, 12)
    first = await drawn(cache_dir, paths, 1)
    assert await drawn(cache_dir, paths, 2) == first
    assert len({tuple(numbers) for numbers in first}) == 12
    other = await drawn(cache_dir, paths, 2, seed=1)
    assert all(mine[0] != theirs[0] for mine, theirs in zip(first, other, strict=True))


async def test_the_same_object_at_another_index_or_in_another_epoch_is_drawn_anew(
    cache_dir: Path, pool: DecodePool, tmp_path: Path
) -> None:
    [path] = photographs(tmp_path, 1)
    one, two = await drawn(cache_dir, [path, path], 1)
    assert one[0] != two[0]
    again = Outcome(pool, path, transform=noisy)
    later = Outcome(pool, path, transform=noisy)
    later.job.epoch = 1
    assert (await again.get()).tolist() == one
    assert (await later.get()).tolist()[0] not in (one[0], two[0])


async def test_a_stream_of_epochs_draws_anew_in_each_and_the_same_again_where_it_is_resumed(
    cache_dir: Path, tmp_path: Path
) -> None:
    [path] = photographs(tmp_path, 1)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:

        def stream(epoch: int) -> Stream[Image]:
            return fetcher.images([path], transform=noisy).shuffle(7, epoch)

        drawn = [image.pixels.tolist() async for image in stream(0).epochs(3)]
        assert len({tuple(numbers) for numbers in drawn}) == 3
        assert [image.pixels.tolist() async for image in stream(2)] == drawn[2:]
        begun = stream(0).epochs(3)
        await anext(begun)
        state = begun.state()
        await begun.aclose()
        assert [image.pixels.tolist() async for image in stream(0).epochs(3).resume(state)] == drawn[1:]


async def test_torch_is_seeded_where_it_is_and_imported_by_nobody(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    assert not (await decode(pool, path, transform=lambda _: np.array("torch" in sys.modules))).item()


# Mistakes


def broken(pixels: Pixels) -> Pixels:
    raise ValueError("no\nsuch luck")


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (broken, r"the transform raised ValueError: no such luck \(test_transforms.py, line \d+\)"),
        (lambda _: None, "the transform gave None, not a NumPy array"),
        (lambda _: [1, 2], "the transform gave a value of the type list, not a NumPy array"),
        (lambda _: np.array([object()]), "the transform gave an array of object, not of numbers"),
        (lambda _: np.array(["text"]), "the transform gave an array of <U4, not of numbers"),
        (lambda _: sys.exit(3), "the transform raised SystemExit: 3"),
    ],
)
async def test_a_wrong_transform_fails_its_images_by_name_and_ends_no_worker(
    open_pool: OpenPool, tmp_path: Path, transform: Callable[[Pixels], Any], words: str
) -> None:
    pool = open_pool(1)
    paths = photographs(tmp_path, 3)
    for outcome in [Outcome(pool, path, transform=transform) for path in paths]:
        error = await outcome.error()
        assert isinstance(error, TransformFailed)
        assert str(error).startswith(outcome.job.uri)
        with pytest.raises(TransformFailed, match=words):
            raise error
    assert (await decode(pool, paths[0])).shape == (240, 320, 3)
    assert pool.statistics().died == 0


async def test_a_transform_that_kills_its_worker_is_to_blame_and_not_the_image(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    pool = open_pool(1)
    [path] = photographs(tmp_path, 1)
    for _ in range(3):
        error = await Outcome(pool, path, digest="blake3:good", transform=lambda _: os._exit(7)).error()
        assert isinstance(error, WorkerDied)
        assert "the decode worker that was at its transform ended with exit code 7" in str(error)
    assert (await Outcome(pool, path, digest="blake3:good").get()).shape == (240, 320, 3)


async def test_a_transform_that_hangs_is_ended(cache_dir: Path, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    async with Fetcher(cache_dir=cache_dir, workers=1, decode=DecodePolicy(timeout=0.5)) as fetcher:
        with pytest.raises(DecodeTimeout, match="was at its transform was killed after 0.5 seconds"):
            await fetcher.image(path, transform=forever)
        assert (await fetcher.image(path)).pixels.shape == (240, 320, 3)


def forever(pixels: Pixels) -> Pixels:
    threading.Event().wait()
    return pixels


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its data limit")
async def test_a_transform_that_takes_too_much_memory_is_refused_it(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(1, worker_memory=128 << 20)
    [path] = photographs(tmp_path, 1)
    error = await Outcome(pool, path, transform=lambda _: np.ones(1 << 28, np.uint8)).error()
    assert isinstance(error, TransformFailed)
    assert "MemoryError" in str(error)
    assert pool.statistics().died == 0


async def test_an_array_of_more_than_its_worker_may_have_is_never_given_room(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    budget = PlainBudget()
    pool = open_pool(1, budget, worker_memory=64 << 20)
    [path] = photographs(tmp_path, 1)
    endless = Outcome(pool, path, urgent=True, transform=lambda _: np.broadcast_to(np.uint8(1), 1 << 40))
    error = await endless.error()
    assert isinstance(error, OutOfMemory)
    assert "what the transform gave is too large to be handed over: it has 1048576 MiB. A larger DecodePolicy(" in str(
        error
    )
    assert budget.overdrafts == 0
    most = await decode(pool, path, transform=lambda _: np.broadcast_to(np.uint8(1), 64 << 20))
    assert most.shape == (64 << 20,)


def growing(times: int) -> Callable[[Pixels], Pixels]:
    """A transform whose results grow by a half each of its first calls."""
    calls: list[int] = []

    def grow(pixels: Pixels) -> Pixels:
        calls.append(0)
        return np.broadcast_to(pixels.ravel()[0], int(2e6 * 1.5 ** min(times, len(calls))))

    return grow


async def test_a_transform_whose_results_only_grow_is_not_called_for_ever(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(1)
    [path] = photographs(tmp_path, 1)
    assert (await decode(pool, path, transform=growing(4))).shape == (int(2e6 * 1.5**4),)
    error = await Outcome(pool, path, transform=growing(1000)).error()
    assert isinstance(error, TransformFailed)
    assert "what its transform gave was larger each of 8 times, and has no end: the last time it needed 48 MiB" in str(
        error
    )
    assert "It must give as much each time it is called for an item" in str(error)


async def test_a_module_that_workers_cannot_import_is_named(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = photographs(tmp_path, 1)
    await decode(pool, path)
    (tmp_path / "away.py").write_text("def double(pixels):\n    return pixels * 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    import away  # type: ignore[import-not-found]

    (tmp_path / "away.py").unlink()
    error = await Outcome(pool, path, transform=away.double).error()
    assert isinstance(error, TransformFailed)
    assert "could not be loaded in the worker: ModuleNotFoundError: No module named 'away'" in str(error)


@pytest.mark.parametrize("transform", [3, "double"])
def test_what_cannot_be_called_is_refused(transform: Any) -> None:
    with pytest.raises(UsageError, match="transform must be callable"):
        DecodeOptions(transform=transform)


def test_what_cannot_be_carried_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="cannot be sent to a worker"):
        DecodeOptions(transform=lambda pixels: (lock, pixels)[1])
    with pytest.raises(UsageError, match="seed must be"):
        DecodeOptions(seed=-1)


# Programs


def test_functions_of_the_main_script_and_modules_that_import_this_package_work(tmp_path: Path) -> None:
    paths = [str(path) for path in photographs(tmp_path, 4)]
    (tmp_path / "mine.py").write_text(
        "import asyncfetch\nfrom asyncfetch import Fetcher\nfrom asyncfetch.decode import DecodeOptions\n"
        "def crop(pixels, fetcher: asyncfetch.Fetcher = None):\n    return pixels[:5]\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio, asyncfetch, mine
        FACTOR = 2
        def double(pixels):
            return mine.crop(pixels).astype("uint16") * FACTOR
        async def main():
            async with asyncfetch.Fetcher(cache_dir={str(tmp_path / "cache")!r}, workers=2) as fetcher:
                async for image in fetcher.images({paths!r}, transform=double):
                    print(image.pixels.shape, image.pixels.dtype)
        asyncio.run(main())
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment(), check=False)
    assert (done.stdout, done.stderr) == ("(5, 320, 3) uint16\n" * 4, "")


async def test_transforms_that_differ_are_told_apart_and_forgotten_ones_told_again(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    pool = open_pool(1)
    [path] = photographs(tmp_path, 1)
    for number in [*range(70), 0, 69, 1]:
        result = await decode(pool, path, transform=lambda _, number=number: np.array(number))
        assert result.item() == number
    await until(lambda: pool.statistics().busy == 0)
