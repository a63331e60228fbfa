"""Interrupts of a loop that goes on afterwards, as a notebook's does: the stream goes on too, or says why not."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch import Fetcher, streams
from asyncfetch.decode import pool, waiting
from asyncfetch.engine import files
from asyncfetch.errors import ObjectNotFound, SourcesInterrupted
from asyncfetch.streams import work
from tests.decode.parts import photographs
from tests.interrupts import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncfetch import Image, Stream

STREAMS = str(Path(streams.__file__).parent)
COUNT = 11


class Loop:
    """An event loop that bears interrupts, a fetcher on it, and files of which two are missing."""

    def __init__(self, directory: Path) -> None:
        self.paths = [directory / f"{number}.bin" for number in range(COUNT)]
        for number, path in enumerate(self.paths):
            if number not in (2, 6):
                path.write_bytes(b"%d" % number)
        self._loop = asyncio.new_event_loop()
        self._opened = AsyncExitStack()
        self.fetcher = self._loop.run_until_complete(
            self._opened.enter_async_context(Fetcher(cache_dir=directory / "cache", workers=1))
        )

    def run(self, work: Any) -> Any:
        async def in_time() -> Any:
            async with asyncio.timeout(10):
                return await work

        return self._loop.run_until_complete(in_time())

    def make(self, make: Callable[[], Any]) -> Any:
        async def on_loop() -> Any:
            return make()

        return self.run(on_loop())

    def step(self, stream: Any, given: list[Any], at: int, function: str | None = None) -> bool:
        """Interrupts one step at a moment; False when it had fewer, but for those of callbacks while it waited."""

        async def step() -> None:
            given.append(await anext(stream))

        task = self._loop.create_task(step())
        hit = interrupted(lambda: self._loop.run_until_complete(task), at, STREAMS, function=function, closely=True)
        if not task.done():
            task.cancel()
            self._loop.run_until_complete(asyncio.wait([task]))
            return False
        return hit

    def close(self) -> None:
        self._loop.run_until_complete(self._opened.aclose())
        self._loop.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    yield loop
    loop.close()


async def rest(stream: Any, given: list[Any]) -> None:
    async for item in stream:
        given.append(item)


def indices(given: list[Any], batch: int) -> list[int]:
    return [index for one in given for index in (one.indices if batch else [one.index])]


async def begun(stream: Any, given: list[Any]) -> None:
    """The first items, until none is coming, while all the others come into their line."""
    given.append(await anext(stream))
    run = getattr(stream, "_stream", stream)._run
    while run.coming:
        given.append(await anext(stream))
    while any(slot.result is None and not slot.taken for slot in run._line):
        await asyncio.sleep(0)


PLANS: dict[str, tuple[Callable[[Loop], Any], int, list[int]]] = {
    "entries": (lambda loop: loop.fetcher.entries(loop.paths, on_error="skip", look_ahead=32), 0, [2, 6]),
    "yielded": (lambda loop: loop.fetcher.entries(loop.paths, on_error="yield", look_ahead=32), 0, []),
    "completion": (
        lambda loop: loop.fetcher.entries(loop.paths, on_error="skip", order="completion", look_ahead=32),
        0,
        [2, 6],
    ),
    "bytes": (lambda loop: loop.fetcher.bytes(loop.paths, on_error="skip", look_ahead=32), 0, [2, 6]),
    "batches": (lambda loop: loop.fetcher.entries(loop.paths, on_error="skip", look_ahead=32).batch(4), 4, [2, 6]),
}


@pytest.mark.parametrize("plan", PLANS)
def test_an_interrupt_at_any_moment_of_a_step_loses_and_doubles_nothing(loop: Loop, plan: str) -> None:
    """Neither in what comes afterwards nor in the state. The second step takes what has landed meanwhile."""
    make, batch, missing = PLANS[plan]
    there = [index for index in range(COUNT) if index not in missing]
    at, over = 0, False
    while not over:
        at += 1
        stream, given = loop.make(partial(make, loop)), list[Any]()
        loop.run(begun(stream, given))
        over = not loop.step(stream, given, at)
        state, got = stream.state(), indices(given, batch)
        loop.run(rest(stream, given))
        assert sorted(indices(given, batch)) == there, at
        assert stream.report().objects == len([path for path in loop.paths if path.exists()])
        resumed: list[Any] = []
        again = loop.make(partial(make, loop))
        loop.run(rest((again._stream if batch else again).resume(state), resumed))
        assert sorted(got + [item.index for item in resumed]) == there, at
    assert at > 10


@pytest.mark.parametrize(("form", "batch"), [(list, 0), (iter, 0), (list, 2)])
def test_an_interrupt_as_a_stream_begins_is_never_its_end(loop: Loop, form: Callable[[Any], Any], batch: int) -> None:
    """It begins nevertheless, or says that nobody knows what was read."""
    paths, there = loop.paths[:4], [0, 1, 3]
    stream: Any = None
    raised = 0
    for at in itertools.count(1):
        stream = loop.make(partial(loop.fetcher.entries, form(paths), on_error="skip"))
        stream = stream.batch(batch) if batch else stream
        given: list[Any] = []
        if not loop.step(stream, given, at):
            break
        try:
            loop.run(rest(stream, given))
        except SourcesInterrupted:
            raised += 1
            assert indices(given, batch) == there[: len(given)]
        else:
            assert indices(given, batch) == there, at
        loop.run(stream.aclose())
    assert 0 < raised < at - 10


@pytest.mark.parametrize("batch", [0, 2])
def test_an_interrupt_as_a_failure_ends_the_stream_does_not_hide_it(loop: Loop, batch: int) -> None:
    for at in itertools.count(1):
        stream = loop.make(partial(loop.fetcher.entries, loop.paths[2:3]))
        stream = stream.batch(batch) if batch else stream
        task: asyncio.Task[Any] = loop.make(lambda: asyncio.ensure_future(anext(stream)))  # noqa: B023 (called at once)
        hit = interrupted(
            lambda: loop.run(asyncio.wait([task])),  # noqa: B023
            at,
            STREAMS,
            function="aclose",
        )
        with pytest.raises(ObjectNotFound):
            loop.run(anext(stream) if hit else task)
        if not hit:
            break
        assert isinstance(task.exception(), KeyboardInterrupt)
    assert at > 1


def test_sources_that_an_interrupt_comes_to_are_not_taken_to_have_ended(loop: Loop) -> None:
    def broken(at: int) -> Iterator[Path]:
        for number, path in enumerate(loop.paths):
            if number == at:
                raise KeyboardInterrupt
            yield path

    for at in (0, 1):
        stream = loop.make(partial(loop.fetcher.entries, broken(at)))
        with pytest.raises(KeyboardInterrupt):
            loop.run(anext(stream))
        with pytest.raises(SourcesInterrupted, match=r"state\(\)"):
            loop.run(rest(stream, []))
        assert stream.state()["low"] == 0


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


@pytest.mark.parametrize(("place", "function"), [(pool.__file__, "submit"), (waiting.__file__, "add")])
def test_an_interrupt_as_jobs_go_to_the_pool_costs_no_image(
    tmp_path: Path, cache_dir: Path, place: str, function: str
) -> None:
    paths = photographs(tmp_path, 12, (32, 32))
    loop = asyncio.new_event_loop()
    opened = AsyncExitStack()
    try:
        fetcher = loop.run_until_complete(opened.enter_async_context(Fetcher(cache_dir=cache_dir, workers=1)))

        async def planned() -> Stream[Image]:
            return fetcher.images(paths)

        async def sent(stream: Stream[Image]) -> None:
            await stream.__aenter__()
            while stream._run is None or stream._run.exhausted or not stream._run._ahead:  # type: ignore[attr-defined]
                await asyncio.sleep(0)

        async def go_on(stream: Stream[Image]) -> list[int]:
            async with asyncio.timeout(10):
                return [image.index async for image in stream]

        for at in itertools.count(1):
            stream = loop.run_until_complete(planned())
            sending = loop.create_task(sent(stream))
            hit = interrupted(partial(loop.run_until_complete, sending), at, place, function=function, closely=True)
            sending.cancel()
            assert loop.run_until_complete(go_on(stream)) == list(range(12)), at
            if not hit:
                break
        assert at > 3
    finally:
        loop.run_until_complete(opened.aclose())
        loop.close()


@pytest.mark.parametrize(
    ("plan", "function"),
    [
        ("one", "_tell"),
        *itertools.product(["entries", "completion"], ["_tell", "land", "make", "came", "_wake", "crash"]),
        *itertools.product(["bytes"], ["_tell", "land", "make", "crash"]),
    ],
)
def test_an_interrupt_as_local_files_were_looked_at_leaves_no_item_out(loop: Loop, plan: str, function: str) -> None:
    """Whoever waits for one of them, then or later, gets it once."""
    there = [index for index in range(COUNT) if index not in (2, 6)]
    for at in itertools.count(1):
        stream: Any = None
        if plan != "one":
            stream = loop.make(partial(PLANS[plan][0], loop))
        wanted = partial(anext, stream) if stream else partial(loop.fetcher.fetch, loop.paths[0])
        task: asyncio.Task[Any] = loop.make(lambda: asyncio.ensure_future(wanted()))  # noqa: B023 (called at once)
        hit = interrupted(
            lambda: loop.run(asyncio.wait([task])),  # noqa: B023
            at,
            files.__file__,
            STREAMS,
            function=function,
            closely=True,
        )
        loop.run(asyncio.wait([task]))
        given = [task.result()]
        if stream is not None:
            loop.run(rest(stream, given))
            assert sorted(indices(given, 0)) == there, at
            assert getattr(stream._run, "_ahead", 0) == 0, at
        if not hit:
            break
    assert at > 2


def test_an_interrupt_as_the_waiter_for_images_is_woken_loses_none(loop: Loop, tmp_path: Path) -> None:
    """Nobody tells of decoded images again, as it is done with local files."""
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))
    for at in itertools.count(1):
        stream = loop.make(lambda: loop.fetcher.images(paths, order="completion", look_ahead=32))
        task: asyncio.Task[Any] = loop.make(lambda: asyncio.ensure_future(anext(stream)))  # noqa: B023 (called at once)
        hit = interrupted(
            lambda: loop.run(asyncio.wait([task])),  # noqa: B023
            at,
            STREAMS,
            function="_wake",
            closely=True,
        )
        loop.run(asyncio.wait([task]))
        given = [task.result()] if task.exception() is None else []
        loop.run(rest(stream, given))
        assert sorted(image.index for image in given) == list(range(6)), at
        if not hit:
            break
    assert at > 1
