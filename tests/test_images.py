"""Images through the whole engine: equal to OpenCV's own, in their places, within the budget, whatever breaks."""

from __future__ import annotations

import asyncio
import enum
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from asyncfetch import Failure, Fetcher, Image
from asyncfetch.decode import DecodeOptions
from asyncfetch.engine import Landed, decode
from asyncfetch.errors import CorruptImage, EmptyObject, UnsupportedFormat, WorkerDied
from asyncfetch.testing import demo_objects, photographs
from tests.objects import Bucket


def expected(data: bytes, color: str = "rgb") -> Any:
    buffer = np.frombuffer(data, np.uint8)
    if color == "gray":
        return cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE)
    if color == "unchanged":
        return cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    bgr = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    assert bgr is not None
    return bgr if color == "bgr" else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Photographs as local files: path -> bytes."""
    directory = tmp_path_factory.mktemp("photographs")
    made = {}
    for name, data in photographs(40):
        (directory / name).write_bytes(data)
        made[str(directory / name)] = data
    return made


async def test_the_demo_bucket_gives_every_image_in_order_and_its_two_bad_objects_as_failures(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    objects = dict(demo_objects(60))
    for key, body in objects.items():
        empty_bucket.put(key, body)
    uris = [empty_bucket.uri(key) for key in objects]
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        items = [item async for item in fetcher.images(uris, on_error="yield")]
    assert [item.uri for item in items] == uris
    assert [item.index for item in items] == list(range(62))
    for item, data in zip(items, objects.values(), strict=True):
        if isinstance(item, Image):
            np.testing.assert_array_equal(item.pixels, expected(data))
    failures = [item for item in items if isinstance(item, Failure)]
    assert {type(failure.exception) for failure in failures} == {EmptyObject, UnsupportedFormat}
    assert len(failures) == 2
    assert {failure.stage for failure in failures} == {"decode"}


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray", "unchanged"])
@pytest.mark.parametrize("order", ["input", "completion"])
async def test_colours_and_orders(cache_dir: Path, files: dict[str, bytes], color: Any, order: Any) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        seen = {}
        async for image in fetcher.images(files, color=color, order=order):
            np.testing.assert_array_equal(image.pixels, expected(files[image.uri], color))
            seen[image.index] = image.uri
    assert [seen[index] for index in sorted(seen)] == list(files)
    if order == "input":
        assert list(seen) == sorted(seen)


async def test_names_and_options_may_be_of_subclasses(cache_dir: Path, files: dict[str, bytes]) -> None:
    """As they come out of arrays and enumerations."""

    class Gray(enum.StrEnum):
        GRAY = "gray"

    class Side(enum.IntEnum):
        SMALL = 64

    path = next(iter(files))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        for name in (np.array([path])[0], type("Text", (str,), {})(path)):
            gray: Any = Gray.GRAY
            image = await fetcher.image(name, color=gray, max_size=Side.SMALL)
            assert max(image.pixels.shape[:2]) == 64
        plain = await fetcher.image(path)
        np.testing.assert_array_equal(plain.pixels, expected(files[path]))


async def test_a_single_image_and_max_size(cache_dir: Path, files: dict[str, bytes]) -> None:
    path = next(iter(files))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        image = await fetcher.image((path, "label"), max_size=100)
        assert image.pixels.shape == (75, 100, 3)
        assert image.payload == "label"
        assert image.entry.path == Path(path)
        assert (await fetcher.image(path)).pixels.shape == (480, 640, 3)


async def test_pixels_outlive_the_fetcher(cache_dir: Path, files: dict[str, bytes]) -> None:
    path, data = next(iter(files.items()))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        crop = (await fetcher.image(path)).pixels[10:20, 30:50]
    np.testing.assert_array_equal(crop, expected(data)[10:20, 30:50])


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda data: data[: len(data) // 2], CorruptImage),
        (lambda data: b"", EmptyObject),
        (lambda data: b"<html>", UnsupportedFormat),
    ],
)
async def test_damage_has_a_name(
    cache_dir: Path, tmp_path: Path, files: dict[str, bytes], damage: Any, kind: Any
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(damage(next(iter(files.values()))))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        with pytest.raises(kind, match="bad.jpg"):
            await fetcher.image(bad)
        assert (await fetcher.image(next(iter(files)))).pixels.size


async def test_a_png_with_a_broken_chunk_is_named(cache_dir: Path, tmp_path: Path, files: dict[str, bytes]) -> None:
    data = bytearray(next(body for path, body in files.items() if path.endswith(".png")))
    data[len(data) // 2] ^= 0xFF
    bad = tmp_path / "bad.png"
    bad.write_bytes(data)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        with pytest.raises(CorruptImage, match="PNG"):
            await fetcher.image(bad)


@pytest.mark.parametrize("budget", ["64KiB", "1MiB", "3MiB"])
async def test_a_budget_for_one_image_or_less_is_no_deadlock_when_everything_wants_it_at_once(
    empty_bucket: Bucket, cache_dir: Path, budget: str
) -> None:
    objects = dict(photographs(20))
    for key, body in objects.items():
        empty_bucket.put(key, body)
    uris = [empty_bucket.uri(key) for key in objects]

    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget=budget) as fetcher:

        async def stream(order: Any) -> int:
            return len([image.index async for image in fetcher.images(uris, order=order)])

        async def single(uri: str) -> bool:
            image = await fetcher.image(uri)
            return image.pixels.size > 0

        async with asyncio.timeout(50):
            results = await asyncio.gather(
                stream("input"), stream("completion"), *[single(uri) for uri in uris], fetcher.prefetch(uris)
            )
        assert results[:2] == [20, 20]
        assert all(results[2:-1])


async def test_a_consumer_that_keeps_every_image_may_ask_for_another_inside_the_loop(
    cache_dir: Path, files: dict[str, bytes]
) -> None:
    paths = list(files)
    kept = []
    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget="4MiB") as fetcher, asyncio.timeout(50):
        async for image in fetcher.images(paths):
            kept.append(image)
            kept.append(await fetcher.image(paths[-1 - image.index]))
        for image in kept:
            np.testing.assert_array_equal(image.pixels, expected(files[image.uri]))
        assert len(kept) == 2 * len(paths)
        kept.clear()
        del image
        while fetcher.stats().memory > 4 << 20:  # slots come back with the next turn of the loop
            await asyncio.sleep(0)


async def test_the_image_that_kills_a_worker_is_named_and_its_neighbours_are_decoded(
    cache_dir: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    # OpenCV reads what the worker opens; a FIFO in the place of a file that was there holds the worker at just that
    # image.
    paths = list(files)[:10]
    trap = tmp_path / "trap.jpg"
    trap.write_bytes(files[paths[0]])
    others = set(psutil.Process().children())
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        await fetcher.image(paths[0])
        (worker,) = set(psutil.Process().children()) - others
        size = trap.stat().st_size
        trap.unlink()
        os.mkfifo(trap)
        single = asyncio.create_task(_decode(fetcher, Landed(str(trap), size, None, None, from_cache=True)))
        stream = asyncio.create_task(_all(fetcher, paths))
        while worker.status() != psutil.STATUS_SLEEPING or not _holds(worker, trap):
            await asyncio.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
        with pytest.raises(WorkerDied, match="trap.jpg"):
            await single
        assert len(await stream) == 10


async def _decode(fetcher: Fetcher, landed: Landed) -> Any:
    return await decode(fetcher._engine(), landed.path, landed, DecodeOptions())


async def _all(fetcher: Fetcher, paths: list[str]) -> list[Image]:
    return [image async for image in fetcher.images(paths)]


def _holds(process: psutil.Process, path: Path) -> bool:
    """Whether a process waits in opening a FIFO: it does not have it open yet, so ask the kernel where it waits."""
    wait = Path(f"/proc/{process.pid}/wchan")
    return not wait.exists() or wait.read_text() in ("wait_for_partner", "fifo_open", "0", "")


@pytest.mark.parametrize("how", ["file", "stdin", "module-level"])
def test_scripts_without_a_main_guard_work(tmp_path: Path, files: dict[str, bytes], how: str) -> None:
    program = f"""
import asyncio, asyncfetch
async def main():
    async with asyncfetch.Fetcher(cache_dir={str(tmp_path / "cache")!r}, workers=2) as fetcher:
        print(sum([image.pixels.shape[0] async for image in fetcher.images({list(files)[:6]!r})]))
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if how == "stdin":
        command, given = [sys.executable, "-"], program
    else:
        script = tmp_path / "script.py"
        script.write_text(program)
        command, given = [sys.executable, str(script)], ""
        if how == "module-level":
            command = [sys.executable, "-c", f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=50, env=environment, check=False
    )
    assert done.stderr == ""
    assert int(done.stdout) == sum(expected(data).shape[0] for data in list(files.values())[:6])


@pytest.mark.parametrize("how", ["image", "images", "bytes"])
async def test_a_blob_cleared_behind_the_index_is_fetched_once_more(
    empty_bucket: Bucket, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Another process may clear the cache between a look-up and the reading of what it found."""
    data = next(body for key, body in photographs(1))
    uri = empty_bucket.put("photo.jpg", data)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        blob = (await fetcher.fetch(uri)).path
        engine = fetcher._engine()
        looked_up = engine.flights.land

        def cleared(flight: Any, landed: Any) -> None:
            monkeypatch.undo()
            blob.unlink()
            looked_up(flight, landed)

        monkeypatch.setattr(engine.flights, "land", cleared)
        if how == "bytes":
            monkeypatch.setattr(engine.flights.looks, "read_cached", _nothing)
            assert await fetcher.read_bytes(uri) == data
        elif how == "image":
            np.testing.assert_array_equal((await fetcher.image(uri)).pixels, expected(data))
        else:
            (image,) = [image async for image in fetcher.images([uri])]
            np.testing.assert_array_equal(image.pixels, expected(data))


async def _nothing(*_: object) -> None:
    return None
