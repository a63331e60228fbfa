"""An interrupt inside a callback of the loop, as a notebook's loop bears it: the stream goes on as before."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from asyncfetch import Fetcher
from asyncfetch.streams import work
from tests.decode.parts import photographs
from tests.interrupts import interrupted

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch import Image, Stream


def test_an_interrupt_as_what_has_landed_is_sent_on_costs_no_read_ahead(tmp_path: Path, cache_dir: Path) -> None:
    paths = photographs(tmp_path, 20, (32, 32))
    loop = asyncio.new_event_loop()
    opened = AsyncExitStack()
    try:
        fetcher = loop.run_until_complete(opened.enter_async_context(Fetcher(cache_dir=cache_dir, workers=1)))

        async def begin() -> tuple[Stream[Image], asyncio.Task[Image]]:
            stream = fetcher.images(paths, look_ahead=8)
            return stream, asyncio.ensure_future(anext(stream))

        stream, first = loop.run_until_complete(begin())
        assert interrupted(lambda: loop.run_until_complete(first), 1, work.__file__, function="_send_soon")

        async def go_on() -> list[int]:
            taken = [(await first).index, *[(await anext(stream)).index for _ in range(3)]]
            async with asyncio.timeout(10):
                while fetcher.stats().decoded < 12:  # the consumer is busy: the eight behind what it has are made
                    await asyncio.sleep(0.001)
            return taken + [image.index async for image in stream]

        assert loop.run_until_complete(go_on()) == list(range(20))
    finally:
        loop.run_until_complete(opened.aclose())
        loop.close()
