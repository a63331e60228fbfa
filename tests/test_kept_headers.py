"""What headers say is kept with the blobs: a later pass knows the memory that each image takes before it is read."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import pytest

from asyncfetch import CachePolicy, Fetcher
from asyncfetch.decode.summary import expand, summarize

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects import Bucket

LARGE, SMALL = (1600, 1200), (96, 72)  # 5.8 MB of pixels, beyond the first guess, and 21 KB


class Pictures(NamedTuple):
    """Where images are, and what they are decoded to."""

    uris: list[str]
    pixels: list[Any]


def encode(extension: str, image: Any) -> bytes:
    done, data = cv2.imencode(extension, image)
    assert done
    return data.tobytes()


def picture(width: int, height: int, seed: int) -> Any:
    small = np.random.default_rng(seed).integers(0, 255, (height // 24, width // 24, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def mixed(empty_bucket: Bucket) -> Pictures:
    """Thumbnails, with a few photographs of other sizes among them."""
    sizes = [*[SMALL] * 34, *[LARGE] * 3, (LARGE[1], LARGE[0]), (800, 600), (600, 800)]
    random.Random(0).shuffle(sizes)
    made = Pictures([], [])
    for seed, size in enumerate(sizes):
        data = encode(".jpg", picture(*size, seed))
        made.uris.append(empty_bucket.put(f"{seed}.jpg", data))
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        made.pixels.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    return made


async def decode(fetcher: Fetcher, pictures: Pictures, **options: Any) -> int:
    """Sees that all pixels are right, and says how often more memory was asked for."""
    before = fetcher._engine().pool.statistics().asked
    place = 0
    async for image in fetcher.images(pictures.uris, **options):
        np.testing.assert_array_equal(image.pixels, pictures.pixels[place])
        place += 1
    assert place == len(pictures.uris)
    return fetcher._engine().pool.statistics().asked - before


def index_of(cache_dir: Path) -> Path:
    return max(cache_dir.glob("v1/index/*.sqlite"), key=lambda path: path.stat().st_mtime_ns)


def kept(cache_dir: Path) -> list[Any]:
    with closing(sqlite3.connect(index_of(cache_dir))) as connection:
        return [header for (header,) in connection.execute("SELECT header FROM blobs")]


def lie(cache_dir: Path, header: object) -> None:
    with closing(sqlite3.connect(index_of(cache_dir))) as connection:
        connection.execute("UPDATE blobs SET header = ?", (header,))
        connection.commit()


async def test_a_second_pass_never_asks_for_more_memory(mixed: Pictures, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        assert await decode(fetcher, mixed) > 0
        assert await decode(fetcher, mixed) == 0
        peak = fetcher.stats().memory_peak
    headers = [expand(number) for number in kept(cache_dir)]
    assert len(headers) == 40
    assert {found.header[:2] for found in headers if found is not None} == {
        LARGE,
        SMALL,
        (1200, 1600),
        (800, 600),
        (600, 800),
    }
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        assert await decode(fetcher, mixed) == 0
        assert fetcher.stats().memory_peak < peak  # no thumbnail has the slot of a photograph


@pytest.mark.parametrize("single", [False, True], ids=["stream", "single"])
async def test_of_what_stays_out_of_the_cache_nothing_is_told_to_its_index(
    mixed: Pictures, cache_dir: Path, *, single: bool
) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        if single:
            for uri in mixed.uris:
                await fetcher.image(uri, cache=False)
        else:
            await decode(fetcher, mixed, cache=False)
        assert fetcher._engine().pool.statistics().asked > 0, "which tells the header unasked"
        assert fetcher._engine().cache._work.headers.untold() == []


@pytest.mark.parametrize("form", [{}, {"size": (64, 64), "fit": "exact"}], ids=["whole", "resized"])
async def test_of_images_that_are_all_alike_nothing_is_kept(
    empty_bucket: Bucket, cache_dir: Path, form: dict[str, Any]
) -> None:
    uris = [empty_bucket.put(f"{seed}.jpg", encode(".jpg", picture(480, 360, seed))) for seed in range(40)]
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        assert [image.index async for image in fetcher.images(uris, **form)] == list(range(40))
    assert set(kept(cache_dir)) == {None}


@pytest.mark.parametrize(
    "options", [{"color": "gray"}, {"max_size": 700}, {"crop": (0, 0, 90, 70)}, {"dtype": "float32"}]
)
async def test_what_is_kept_serves_every_form(mixed: Pictures, cache_dir: Path, options: dict[str, Any]) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        await decode(fetcher, mixed)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        found = [image.pixels.shape async for image in fetcher.images(mixed.uris, **options)]
        assert fetcher._engine().pool.statistics().asked == 0
    assert len(found) == 40


async def test_single_images_and_batches_know_it_too(mixed: Pictures, cache_dir: Path) -> None:
    large = next(uri for uri, pixels in zip(*mixed, strict=True) if pixels.shape[:2] == (1200, 1600))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        await fetcher.image(large)
        assert fetcher._engine().pool.statistics().asked == 1
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        await fetcher.image(large)
        assert fetcher._engine().pool.statistics().asked == 0
        await decode(fetcher, mixed)
        asked = fetcher._engine().pool.statistics().asked
        batches = [batch async for batch in fetcher.images(mixed.uris).batch(8)]
        assert [len(batch.indices) for batch in batches] == [8] * 5
        assert fetcher._engine().pool.statistics().asked == asked


@pytest.mark.parametrize(
    "header",
    [
        0,
        -1,
        1 << 62,
        (1 << 63) - 1,
        3.5,
        "words",
        b"\0" * 9,
        summarize("JPEG", (1, 1, 1, 8, False), 0),  # type: ignore[arg-type]
        summarize("JPEG", (16_000, 16_000, 3, 8, True), 0),  # type: ignore[arg-type]
        summarize("AVIF", (9_000, 16_000, 4, 16, False), 0),  # type: ignore[arg-type]
        summarize("TIFF", (1 << 19, 1 << 19, 7, 64, False), 0),  # type: ignore[arg-type]
    ],
)
async def test_whatever_is_kept_the_pixels_are_right(mixed: Pictures, cache_dir: Path, header: object) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        await decode(fetcher, mixed)
    lie(cache_dir, header)
    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget="64MiB") as fetcher:
        await decode(fetcher, mixed)


async def test_a_size_that_was_too_small_is_corrected(mixed: Pictures, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        await decode(fetcher, mixed)
    lie(cache_dir, summarize("JPEG", (8, 8, 3, 8, False), 0))  # type: ignore[arg-type]
    for again in (True, False):
        async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
            asked = await decode(fetcher, mixed)
        assert (asked > 0) == again


async def test_pages_of_a_tiff_are_known_by_their_own_sizes(empty_bucket: Bucket, cache_dir: Path) -> None:
    pages = [picture(*SMALL, 1), picture(*LARGE, 2)]
    done, data = cv2.imencodemulti(".tiff", pages)
    assert done
    uris = [empty_bucket.put("scan.tiff", data.tobytes())]
    small, large = (Pictures(uris, [cv2.cvtColor(page, cv2.COLOR_BGR2RGB)]) for page in pages)
    for pictures, page, asked in ((small, 0, 0), (large, 1, 1), (large, 1, 0), (small, 0, 0)):
        async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
            assert await decode(fetcher, pictures, page=page) == asked


async def test_a_new_index_learns_again(mixed: Pictures, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        await decode(fetcher, mixed)
    (cache_dir / "v1/index/CURRENT").unlink()
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        assert await decode(fetcher, mixed) > 0
        assert await decode(fetcher, mixed) == 0
    assert None not in kept(cache_dir)


KILLED = """
import asyncio, os, signal, sys
from asyncfetch import Fetcher
async def main():
    async with Fetcher(cache_dir=sys.argv[1], workers=1) as fetcher:
        async for image in fetcher.images(sys.argv[2:]):
            if image.index == 30:
                os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_kill_takes_nothing_but_what_was_not_told(mixed: Pictures, cache_dir: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(cache_dir), *mixed.uris], check=False)
    assert killed.returncode == -signal.SIGKILL
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        await decode(fetcher, mixed)
        assert await decode(fetcher, mixed) == 0
    assert None not in kept(cache_dir)


async def test_a_cache_that_is_only_read_says_what_it_knows_and_learns_nothing(
    mixed: Pictures, cache_dir: Path
) -> None:
    known = Pictures(mixed.uris[:30], mixed.pixels[:30])
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        for _ in range(2):
            await decode(fetcher, known)
        async for _ in fetcher.entries(mixed.uris):
            pass
    before = sorted(kept(cache_dir), key=str)
    async with Fetcher(
        cache=CachePolicy(cache_dir=cache_dir, read_only=True, revalidate="never"), workers=1
    ) as fetcher:
        assert await decode(fetcher, known) == 0
        await decode(fetcher, mixed)
    assert sorted(kept(cache_dir), key=str) == before
    assert before.count(None) == 10
