"""Batches: labels beside pixels, one array where the shapes allow it, and nothing lost at any end."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from asyncfetch import Failure, Fetcher, Image, Substitute
from asyncfetch.errors import EmptyObject, UsageError
from tests.leaks import temporary_files
from tests.objects import Bucket

Order = Literal["input", "completion"]


def picture(path: Path, number: int, shape: tuple[int, int] = (40, 60)) -> tuple[str, int]:
    """A lossless file whose pixels tell its number."""
    pixels = np.full((*shape, 3), (number % 251, number // 251, 7), np.uint8)
    assert cv2.imwrite(str(path), pixels[:, :, ::-1])
    return str(path), number


@pytest.fixture
def pictures(tmp_path: Path) -> list[tuple[str, int]]:
    return [picture(tmp_path / f"{number:04d}.png", number) for number in range(50)]


def check(batch: Any) -> None:
    """That every row of a batch is the picture that its label tells."""
    assert batch.pixels.shape == (len(batch), 40, 60, 3)
    assert batch.pixels.flags.c_contiguous
    assert batch.pixels.flags.writeable
    for row, label in zip(batch.pixels, batch.payloads, strict=True):
        assert (row == (label % 251, label // 251, 7)).all()
    assert [item.index for item in batch.items] == batch.indices
    assert [item.uri for item in batch.items] == batch.uris


@pytest.mark.parametrize("order", ["input", "completion"])
@pytest.mark.parametrize("size", [1, 7, 16, 50, 64])
async def test_every_picture_comes_once_with_its_label_beside_it(
    pictures: list[tuple[str, int]], cache_dir: Path, order: Order, size: int
) -> None:
    seen: list[int] = []
    sizes = []
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        async for batch in fetcher.images(pictures, order=order).shuffle(3).epochs(2).batch(size):
            check(batch)
            assert batch.indices == batch.payloads
            seen += batch.indices
            sizes.append(len(batch))
    assert Counter(seen) == Counter(dict.fromkeys(range(50), 2))
    assert sizes == [size] * (100 // size) + [100 % size] * (100 % size > 0)
    if order == "input":
        async with Fetcher(cache_dir=cache_dir) as fetcher:
            assert seen == [entry.index async for entry in fetcher.entries(pictures).shuffle(3).epochs(2)]


async def test_drop_last_leaves_out_what_makes_no_batch(pictures: list[tuple[str, int]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        batches = fetcher.images(pictures).batch(16, drop_last=True)
        assert [batch.indices[0] async for batch in batches] == [0, 16, 32]
        assert [len(batch) async for batch in fetcher.images(pictures[:3]).batch(5, drop_last=True)] == []


async def test_shapes_that_differ_are_a_list_and_what_follows_is_an_array_again(
    pictures: list[tuple[str, int]], tmp_path: Path, cache_dir: Path
) -> None:
    pictures[20] = picture(tmp_path / "large.png", 20, (90, 80))
    pictures[21] = picture(tmp_path / "small.png", 21, (10, 10))
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        batches = [batch async for batch in fetcher.images(pictures).batch(8)]
    for number, batch in enumerate(batches):
        if number != 2:
            check(batch)
    ragged = batches[2]
    assert [pixels.shape[:2] for pixels in ragged.pixels] == [(40, 60)] * 4 + [(90, 80), (10, 10)] + [(40, 60)] * 2
    for pixels, label in zip(ragged.pixels, ragged.payloads, strict=True):
        assert (pixels == (label, 0, 7)).all()


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_failures_that_are_left_out_make_no_gap(
    pictures: list[tuple[str, int]], cache_dir: Path, order: Order
) -> None:
    bad = {0, 9, 10, 30, 49}
    for number in bad:
        Path(pictures[number][0]).write_bytes(b"" if number % 2 else b"no picture")
    seen: list[int] = []
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        async for batch in fetcher.images(pictures, order=order, on_error="skip").batch(8):
            check(batch)
            assert len(batch) == 8 or len(seen) == 40
            seen += batch.indices
    assert sorted(seen) == sorted(set(range(50)) - bad)
    if order == "input":
        assert seen == sorted(seen)


async def test_failures_that_are_yielded_and_substitutes_have_their_places(
    pictures: list[tuple[str, int]], cache_dir: Path
) -> None:
    Path(pictures[2][0]).write_bytes(b"")
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        batch: Any = await anext(fetcher.images(pictures, on_error="yield").batch(4))
        assert isinstance(batch.items[2], Failure)
        assert [pixels is None for pixels in batch.pixels] == [False, False, True, False]
        assert batch.payloads == [0, 1, 2, 3]
        batch = await anext(fetcher.images(pictures, on_error=Substitute(blank_for)).batch(4))
        assert batch.pixels.shape == (4, 40, 60, 3)
        assert not batch.pixels[2].any()
        with pytest.raises(EmptyObject):
            await anext(fetcher.images(pictures).batch(4))


async def test_items_are_views_of_their_batch_also_when_they_are_asked_for_late(
    pictures: list[tuple[str, int]], cache_dir: Path
) -> None:
    Path(pictures[2][0]).write_bytes(b"")
    array = np.full((40, 60, 3), 7, np.uint8)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        batches = fetcher.images(pictures[:8], on_error=Substitute(lambda _: array)).batch(4)
        kept: list[Any] = [batch async for batch in batches]
    for batch in kept:
        assert batch.items is batch.items
        for at, item in enumerate(batch.items):
            if batch is kept[0] and at == 2:  # a substitute that is no image comes as it is
                item.fill(8)
                assert (batch.pixels[2] == 8).all()
                continue
            assert (item.uri, item.index, item.payload) == (batch.uris[at], batch.indices[at], batch.payloads[at])
            assert (item.entry.uri, item.entry.index, item.entry.payload) == (item.uri, item.index, item.payload)
            assert item.entry.size == Path(item.entry.filename).stat().st_size
            assert np.shares_memory(item.pixels, batch.pixels[at])


async def test_entries_come_in_batches_too_and_their_private_files_go_with_them(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    uris = [empty_bucket.put(f"{index}", b"body %d" % index) for index in range(10)]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        async with fetcher.entries(uris, cache=False).batch(4) as batches:
            first = await anext(batches)
            assert [entry.path.read_bytes() for entry in first.items] == [b"body %d" % index for index in range(4)]
            assert first.pixels is None
            assert first.uris == uris[:4]
            second = await anext(batches)
            assert [entry.path.read_bytes()[-1:] for entry in second.items] == [b"4", b"5", b"6", b"7"]
            async with asyncio.timeout(10):
                while any(entry.path.exists() for entry in first.items):
                    await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while temporary_files(cache_dir):
                await asyncio.sleep(0)


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_a_state_counts_whole_batches(pictures: list[tuple[str, int]], cache_dir: Path, order: Order) -> None:
    seen: list[int] = []
    state: Any = None
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        for size in (3, 8, 5):
            stream = fetcher.images(pictures, order=order).shuffle(1)
            if state is not None:
                stream = stream.resume(state)
            async with stream.batch(size) as batches:
                for _ in range(2):
                    seen += (await anext(batches)).indices
                state = batches.state()
        async for batch in fetcher.images(pictures).shuffle(1).resume(state).batch(64):
            seen += batch.indices
    assert sorted(seen) == list(range(50))


async def test_a_cancelled_step_loses_nothing(pictures: list[tuple[str, int]], cache_dir: Path) -> None:
    seen: list[int] = []
    batch: Any
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher, fetcher.images(pictures).batch(8) as batches:
        while True:
            step = asyncio.ensure_future(anext(batches))
            for _ in range(3):
                await asyncio.sleep(0)
            step.cancel()
            try:
                batch = await step
            except asyncio.CancelledError:
                batch = await anext(aiter(batches), None)
            except StopAsyncIteration:
                break
            if batch is None:
                break
            check(batch)
            seen += batch.indices
    assert seen == list(range(50))


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "8"])
async def test_a_batch_of_nonsense_is_refused(cache_dir: Path, size: Any) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(UsageError, match="1 item or more"):
            fetcher.images([]).batch(size)


async def test_batches_print_their_plan_and_a_batch_its_shape(pictures: list[tuple[str, int]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        batches = fetcher.images(pictures).shuffle(1).batch(4, drop_last=True)
        assert str(batches).splitlines() == [
            "Stream over a list of 50",
            "shuffle(1, epoch=0)",
            "batch(4, drop_last=True)",
        ]
        assert repr(await anext(batches)) == "<Batch of 4, pixels (4, 40, 60, 3)>"
        assert batches.report().objects >= 4
        await batches.aclose()
        assert [batch async for batch in batches] == []


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_pixels_lie_where_they_were_decoded_to(
    pictures: list[tuple[str, int]], cache_dir: Path, order: Order
) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        batches = fetcher.images(pictures * 6, order=order).batch(10)
        async for batch in batches:
            check(batch)
            assert batch.pixels.base is not None, "it is a view of shared memory"
            assert all(np.shares_memory(item.pixels, batch.pixels) for item in batch.items)
        run: Any = batches._stream._run
        # The first one comes before it is known how large the rows are, perhaps with the one that is waited for.
        assert run._seats.moved <= (2 if order == "input" else 12)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"dtype": "float32"}, (40, 60, 3)),
        ({"dtype": "uint16", "size": (33, 21), "fit": "exact"}, (21, 33, 3)),
        ({"layout": "chw"}, (3, 40, 60)),
        ({"layout": "chw", "dtype": "float32", "color": "gray"}, (1, 40, 60)),
        ({"color": "gray", "crop": (3, 5, 7, 9)}, (9, 7)),
        ({"transform": lambda pixels: pixels[::2, ::3].astype(np.int16) - 300}, (20, 20, 3)),
        ({"transform": lambda pixels: pixels.transpose(2, 0, 1) / 255, "layout": "hwc"}, (3, 40, 60)),
        ({"transform": lambda pixels: pixels.mean()}, ()),
    ],
    ids=["float32", "uint16", "chw", "chw-float32-gray", "crop", "int16", "larger", "number"],
)
async def test_rows_are_as_the_options_make_images(
    pictures: list[tuple[str, int]], cache_dir: Path, options: Any, shape: tuple[int, ...]
) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        alone = [image.pixels async for image in fetcher.images(pictures, **options)]
        batches = fetcher.images(pictures * 4, **options).batch(10)
        async for batch in batches:
            assert batch.pixels.shape == (10, *shape)
            assert batch.pixels.dtype == alone[0].dtype
            assert batch.pixels.flags.c_contiguous
            assert batch.pixels.flags.aligned
            for item, pixels, label in zip(batch.items, batch.pixels, batch.payloads, strict=True):
                np.testing.assert_array_equal(pixels, alone[label])
                np.testing.assert_array_equal(item.pixels, alone[label])
                assert np.shares_memory(item.pixels, batch.pixels)
        run: Any = batches._stream._run
        assert run._seats.moved <= 2


async def test_images_without_bytes_make_an_array_without_bytes(
    pictures: list[tuple[str, int]], cache_dir: Path
) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        async for batch in fetcher.images(pictures, transform=lambda pixels: pixels[:0]).batch(10):
            assert batch.pixels.shape == (10, 0, 60, 3)


async def test_images_of_other_samples_are_not_mistaken_for_their_neighbours(
    pictures: list[tuple[str, int]], cache_dir: Path
) -> None:
    def few_bytes_or_fewer(pixels: Any) -> Any:
        """Odd numbers of bytes, among which float32 have no place."""
        return np.float32(0.5) if pixels[0, 0, 0] in (9, 30) else pixels.ravel()[:7]

    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        async for batch in fetcher.images(pictures * 2, transform=few_bytes_or_fewer).batch(4):
            odd = {9, 30} & set(batch.payloads)
            assert isinstance(batch.pixels, list) == bool(odd)
            for pixels, label in zip(batch.pixels, batch.payloads, strict=True):
                assert pixels.flags.aligned
                assert pixels.tolist() == (0.5 if label in odd else [label, 0, 7, label, 0, 7, label])


async def test_after_failures_batches_lie_in_place_again(pictures: list[tuple[str, int]], cache_dir: Path) -> None:
    Path(pictures[35][0]).write_bytes(b"")
    seen: list[int] = []
    moved = []
    sources = [*pictures, *(pictures[:30] * 20)]
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        batches = fetcher.images(sources, on_error="skip").batch(10)
        async for batch in batches:
            check(batch)
            seen += batch.indices
            run: Any = batches._stream._run
            moved.append(run._seats.moved)
    assert seen == [index for index in range(650) if index != 35]
    assert moved[-10] == moved[-2], "the batches at the end, the last and smaller one aside, are not copied"


async def test_failures_before_the_first_image_are_not_kept(
    pictures: list[tuple[str, int]], tmp_path: Path, cache_dir: Path
) -> None:
    kept: list[int] = []

    def sources() -> Iterator[tuple[str, int]]:
        for _ in range(2000):
            yield str(tmp_path / "missing.png"), 0
        run: Any = batches._stream._run
        kept.append(len(run._standing))
        yield from pictures

    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        batches = fetcher.images(sources(), on_error="skip").batch(10)
        async for batch in batches:
            check(batch)
    assert kept[0] < 1000, "only those that are under way"


@pytest.mark.parametrize("order", ["input", "completion"])
@pytest.mark.parametrize("on_error", ["yield", Substitute(lambda failure: blank_for(failure))], ids=["yield", "blank"])
async def test_batches_with_failures_in_them_do_not_move_the_others(
    pictures: list[tuple[str, int]], cache_dir: Path, order: Order, on_error: Any
) -> None:
    for number in (7, 35):
        Path(pictures[number][0]).write_bytes(b"")
    sources = [*pictures, *(pictures[:7] * 40)]
    seen: list[int] = []
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        batches = fetcher.images(sources, order=order, on_error=on_error).batch(10)
        async for batch in batches:
            seen += batch.indices
            for item, pixels, label in zip(batch.items, batch.pixels, batch.payloads, strict=True):
                if isinstance(item, Failure):
                    assert pixels is None
                else:
                    assert (pixels == (0 if label in (7, 35) else (label, 0, 7))).all()
        run: Any = batches._stream._run
    assert sorted(seen) == list(range(330))
    assert run._seats.moved <= (4 if order == "input" else 24)


def blank_for(failure: Failure) -> Image:
    blank = np.zeros((40, 60, 3), np.uint8)
    return Image(failure.uri, blank, None, failure.index, failure.payload)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", ["16KiB", "100KiB", "1MiB"])
async def test_a_budget_for_a_batch_or_less_is_no_deadlock_also_when_batches_are_kept(
    pictures: list[tuple[str, int]], cache_dir: Path, budget: str
) -> None:
    kept = []
    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget=budget) as fetcher, asyncio.timeout(50):
        async for batch in fetcher.images(pictures * 4).batch(8):
            kept.append(batch)
        for batch in kept:
            check(batch)
        assert sum(map(len, kept)) == 200
        assert fetcher.stats().memory >= 200 * 40 * 60 * 3, "what is kept is charged"
        kept.clear()
        del batch
        gc.collect()
        while fetcher.stats().memory > fetcher.stats().memory_budget:  # slots come back with the next turn of the loop
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["break", "close", "drop"])
async def test_leaving_batches_leaves_nothing_lent(pictures: list[tuple[str, int]], cache_dir: Path, how: str) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        batches = fetcher.images(pictures * 10).batch(8)
        async for batch in batches:
            if batch.indices[0] >= 80:
                break
        if how == "close":
            await batches.aclose()
        elif how == "drop":
            del batches
        else:
            await batches._stream.aclose()
        del batch
        async with asyncio.timeout(20):
            while (pool := fetcher._engine().pool.statistics()).slot_bytes > pool.free_slot_bytes:
                gc.collect()
                await asyncio.sleep(0)
