"""How sources are read: no further than there is room for, and nothing that was read waits for what was not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from asyncfetch import Fetcher


async def test_what_an_async_source_gave_does_not_wait_for_what_it_gives_next(tmp_path: Path, cache_dir: Path) -> None:
    paths = [tmp_path / f"{index}" for index in range(5)]
    for path in paths:
        path.touch()
    orders: asyncio.Queue[Path] = asyncio.Queue()

    async def as_ordered() -> AsyncIterator[Path]:
        while True:
            yield await orders.get()

    async with Fetcher(cache_dir=cache_dir) as fetcher, fetcher.entries(as_ordered()) as stream:
        for path in paths:
            step = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            orders.put_nowait(path)  # and nothing more until it has come
            assert (await asyncio.wait_for(step, 5)).path == path
