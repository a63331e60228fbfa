"""Whether decoding keeps to its memory budget: `python -m bench.footprint --budget 3GiB --megapixels 50,100,200`.

Thumbnails and scans come in an order drawn by lot, in several formats, while a thread looks at the proportional memory
of the whole process tree. What is printed, as JSON, are bytes: the budget, what the tree held idle (workers started,
one thumbnail decoded by each), the most it held, the excess of that over both together, and the share of the budget.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import threading
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tree
from bench.ending import heed
from bench.report import hold_figures
from bench.targets import of_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMATS = "jpg,png,tiff,webp,gif,jp2,avif"
_LOOK_SECONDS = 0.005

TARGETS = (of_stage("footprint", "share", "memory above idle over its budget", most=1.1, unit="x"),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the images, decodes them, and prints what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", default="512MiB")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--thumbnails", type=int, default=400)
    parser.add_argument("--megapixels", default="12,24", help="of the scans, one of each size and format")
    parser.add_argument("--formats", default=_FORMATS, help="of the scans (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="hold the target against it; exit 1 on a miss")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [float(size) for size in options.megapixels.split(",")]
        thumbnails, scans = _write(Path(folder), options.thumbnails, sizes, options.formats.split(","))
        seen = asyncio.run(_decode(folder, thumbnails, scans * options.rounds, options.budget, options.workers))
    print(json.dumps(seen), flush=True)
    return 0 if not options.check or hold_figures(TARGETS, {"footprint": seen}) else 1


def _write(folder: Path, thumbnails: int, megapixels: list[float], formats: list[str]) -> tuple[list[str], list[str]]:
    import cv2

    from asyncfetch.testing import photographs

    paths = []
    for name, body in photographs(min(thumbnails, 50)):
        (folder / name).write_bytes(body)
        paths.append(str(folder / name))
    picture = cv2.imread(next(path for path in paths if path.endswith(".jpg")))
    assert picture is not None
    quick = {"png": (cv2.IMWRITE_PNG_COMPRESSION, 1), "avif": (cv2.IMWRITE_AVIF_SPEED, 10)}
    scans = []
    for size in megapixels:
        width = round((size * 1e6 * 4 / 3) ** 0.5)
        large = cv2.resize(picture, (width, width * 3 // 4), interpolation=cv2.INTER_CUBIC)
        for extension in formats:
            if extension == "webp" and width > 16_383:  # the format's own limit
                continue
            scans.append(str(folder / f"scan-{size}.{extension}"))
            cv2.imwrite(scans[-1], large, quick.get(extension, ()))
    return [paths[index % len(paths)] for index in range(thumbnails)], scans


async def _decode(folder: str, thumbnails: list[str], scans: list[str], budget: str, workers: int) -> dict[str, float]:
    from asyncfetch import Fetcher

    paths = thumbnails + scans
    random.Random(0).shuffle(paths)
    peak, over = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(_LOOK_SECONDS):
            peak = max(peak, tree.memory(getpid()))

    async with Fetcher(cache_dir=Path(folder, "cache"), memory_budget=budget, workers=workers) as fetcher:
        async for image in fetcher.images(thumbnails[: 8 * workers]):
            del image
        idle = tree.memory(getpid()) - fetcher.stats().memory
        watch = threading.Thread(target=look)
        watch.start()
        decoded = 0
        try:
            async for image in fetcher.images(paths):
                decoded += image.pixels.size > 0
                del image
        finally:
            over.set()
            watch.join()
        stats = fetcher.stats()
    return {
        "images": decoded,
        "budget": stats.memory_budget,
        "idle": idle,
        "peak": peak,
        "charged": stats.memory_peak,
        "excess": peak - idle - stats.memory_budget,
        "share": (peak - idle) / stats.memory_budget,
    }


if __name__ == "__main__":
    heed()
    sys.exit(main())
