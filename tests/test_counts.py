"""Numbers that count something: whole ones of any type, and nothing that only looks like one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from asyncfetch import DecodePolicy, FailureLimit, Fetcher, NetworkPolicy
from asyncfetch.decode import DecodeOptions
from asyncfetch.errors import UsageError
from asyncfetch.settings import parse_size
from asyncfetch.streams import Shard
from asyncfetch.streams.plan import Epochs, Shuffle, Take

COUNTS: list[Callable[[Any], object]] = [
    lambda n: Fetcher(concurrency=n).settings.network.concurrency,
    lambda n: Fetcher(memory_budget=n).settings.memory_budget,
    lambda n: Fetcher(max_bytes=n).settings.cache.limits[0],
    lambda n: Fetcher(workers=n).settings.decode.workers,
    lambda n: NetworkPolicy(parts_from=n).parts_from,
    lambda n: DecodePolicy(max_pixels=n).max_pixels,
    lambda n: FailureLimit(count=n).count,
    lambda n: DecodeOptions(max_size=n).max_size,
    lambda n: DecodeOptions(size=(n, 4)).form.width,
    lambda n: sum(DecodeOptions(crop=(0, 0, n, 1)).crop or ()) - 1,
    lambda n: DecodeOptions(seed=n).seed,
    lambda n: Shuffle(n).seed,
    lambda n: Shard(0, n).count,
    lambda n: Take(n).count,
    lambda n: Epochs(n).count,
    lambda n: parse_size(n),
]


@pytest.mark.parametrize("take", COUNTS)
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array], ids=["int64", "uint8", "array"])
def test_whole_numbers_of_numpy_count(take: Callable[[Any], object], kind: Callable[[int], Any]) -> None:
    taken = take(kind(3))
    assert (taken, type(taken)) == (3, int)


@pytest.mark.parametrize("take", COUNTS)
@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), np.array([3, 3]), b"3"])
def test_what_only_looks_like_one_is_refused(take: Callable[[Any], object], value: object) -> None:
    with pytest.raises(UsageError):
        take(value)


async def test_a_stream_takes_them_all_the_way(tmp_path: Path, cache_dir: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "i.png"), np.zeros((48, 64, 3), np.uint8))
    n: Any = np.int64
    async with Fetcher(cache_dir=cache_dir, workers=n(1)) as fetcher:
        listed = [stat async for stat in fetcher.list(pictures, parallel=n(2))]
        sources = [str(pictures / "i.png")] * 5
        images = fetcher.images(iter(sources), look_ahead=n(2), crop=(n(0), n(0), n(32), n(16)), seed=n(1), page=n(0))
        shapes = [
            batch.pixels.shape
            async for batch in images.shuffle(n(1), window=n(2)).shard(n(0), n(1)).batch(n(2))
            if isinstance(batch.pixels, np.ndarray)
        ]
    assert len(listed) == 1
    assert shapes == [(2, 16, 32, 3), (2, 16, 32, 3), (1, 16, 32, 3)]
