"""Long runs at flat memory: sources are read lazily, and what has passed is let go."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import psutil

from asyncfetch import Fetcher

URIS = 200_000


async def test_two_hundred_thousand_uris_from_a_generator(tmp_path: Path, cache_dir: Path) -> None:
    for index in range(100):
        (tmp_path / f"{index}.bin").write_bytes(b"x" * index)

    def uris() -> Iterator[tuple[str, int]]:
        for index in range(URIS):
            yield f"file://{tmp_path}/{index % 100}.bin", index

    process = psutil.Process()
    sizes = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        seen = 0
        async for entry in fetcher.entries(uris()):
            assert entry.payload == entry.index == seen
            assert entry.size == seen % 100
            seen += 1
            if seen % (URIS // 10) == 0:
                gc.collect()
                sizes.append(process.memory_info().rss)
    assert seen == URIS
    # The first tenth fills windows and pools; a list of these URIs alone would add 20 MB in the other nine.
    assert sizes[-1] - sizes[0] < 5 << 20
