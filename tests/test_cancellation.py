"""Whatever ends a run, nothing of it is left: no task, socket, worker, shared memory, credit or temporary file."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from asyncfetch import Entry, Fetcher, Image, Stream
from asyncfetch.testing import photographs
from tests.leaks import Held, census, temporary_files
from tests.objects import Bucket
from tests.soak import Soak


@pytest.fixture
def bucket(empty_bucket: Bucket) -> Bucket:
    for key, body in photographs(30):
        empty_bucket.put(key, body)
    for index in range(2):
        empty_bucket.put(f"z/large-{index}", os.urandom(1 << 20) * 5)
    return empty_bucket


@pytest.fixture
def uris(bucket: Bucket) -> list[str]:
    keys = [item["Key"] for item in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]]
    return [bucket.uri(key) for key in keys]


class Mistake(Exception):
    """The user's own."""


async def breaks(fetcher: Fetcher, uris: list[str]) -> None:
    async for _ in fetcher.images(uris):
        break


async def drops(fetcher: Fetcher, uris: list[str]) -> None:
    stream = fetcher.entries(uris)
    await anext(stream)
    del stream
    gc.collect()


async def raises(fetcher: Fetcher, uris: list[str]) -> None:
    with pytest.raises(Mistake, match="in the body"):
        async for _ in fetcher.images(uris):
            raise Mistake("in the body")


async def is_cancelled(fetcher: Fetcher, uris: list[str]) -> None:
    taken = asyncio.Event()

    async def consume() -> None:
        async for _ in fetcher.entries(uris):
            taken.set()

    task = asyncio.create_task(consume())
    await taken.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancels_single_calls(fetcher: Fetcher, uris: list[str]) -> None:
    calls: list[asyncio.Task[object]] = [
        asyncio.create_task(call)
        for uri in uris
        for call in (
            fetcher.fetch(uri),
            fetcher.image(uri),
            fetcher.stat(uri),
            fetcher.read_bytes(uri, 5, 10, cache=False),
        )
    ]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for task in calls:
        task.cancel()
    await asyncio.wait(calls)


async def leaves_an_async_source(fetcher: Fetcher, uris: list[str]) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                for uri in uris:
                    yield uri
        finally:
            closed.set()

    async with fetcher.entries(endless(), order="completion") as stream:
        await anext(stream)
    assert closed.is_set(), "a generator given to a stream is closed with it"


async def leaves_a_listing(fetcher: Fetcher, uris: list[str]) -> None:
    prefix = uris[0].rpartition("/")[0] + "/"
    async for _ in fetcher.list(prefix):
        break
    async for _ in fetcher.entries(fetcher.list(prefix)):
        break


async def leaves_it_to_the_fetcher(fetcher: Fetcher, uris: list[str]) -> None:
    streams: list[Stream[Entry] | Stream[Image]] = [
        fetcher.entries(uris),
        fetcher.images(uris),
        fetcher.images(uris, cache=False),
    ]
    for stream in streams:
        await anext(stream)
    fetcher.streams = streams  # type: ignore[attr-defined] # still referenced when it closes


WAYS: list[Callable[[Fetcher, list[str]], Awaitable[None]]] = [
    breaks,
    drops,
    raises,
    is_cancelled,
    cancels_single_calls,
    leaves_an_async_source,
    leaves_a_listing,
    leaves_it_to_the_fetcher,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
async def test_nothing_is_left(
    leave: Callable[[Fetcher, list[str]], Awaitable[None]], uris: list[str], cache_dir: Path
) -> None:
    await _use(breaks, uris, cache_dir)  # whatever libraries keep for ever, they have by now
    before = census()
    await _use(leave, uris, cache_dir)
    await _settles_to(before)
    assert not temporary_files(cache_dir)


async def _use(leave: Callable[[Fetcher, list[str]], Awaitable[None]], uris: list[str], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, revalidate="always", workers=2, concurrency=8) as fetcher:
        await leave(fetcher, uris)


async def _settles_to(before: Held) -> None:
    """aiohttp closes its sockets a turn or two of the loop later; anything that is left after five seconds stays."""
    async with asyncio.timeout(5):
        while (after := census()) != before:
            await asyncio.sleep(0.01)
    assert after == before


@pytest.mark.parametrize("leave", WAYS[:-1], ids=lambda way: way.__name__)
async def test_an_open_fetcher_gets_its_lanes_credits_and_files_back(
    leave: Callable[[Fetcher, list[str]], Awaitable[None]], uris: list[str], cache_dir: Path
) -> None:
    async with Fetcher(cache_dir=cache_dir, revalidate="always", workers=2, concurrency=8) as fetcher:
        await leave(fetcher, uris)
        gc.collect()
        async with asyncio.timeout(10):
            while (stats := fetcher.stats()).lanes_busy or stats.waiting or temporary_files(cache_dir):
                await asyncio.sleep(0.01)
        report = await fetcher.prefetch(uris)
        assert (report.objects, report.failed) == (len(uris), 0), "and works as before"


async def test_entering_and_leaving_in_different_tasks_works(uris: list[str], cache_dir: Path) -> None:
    fetcher = Fetcher(cache_dir=cache_dir, workers=1)
    await asyncio.create_task(fetcher.__aenter__())
    stream = fetcher.images(uris, on_error="skip")
    await asyncio.create_task(stream.__anext__())
    await anext(stream)
    await asyncio.create_task(fetcher.__aexit__(None, None, None))
    assert len(asyncio.all_tasks()) == 1


async def test_the_first_waiters_cancellation_hurts_no_other(uris: list[str], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        first = asyncio.create_task(fetcher.fetch(uris[-1]))
        second = asyncio.create_task(fetcher.fetch(uris[-1]))
        while not fetcher.stats().lanes_busy:
            await asyncio.sleep(0)
        first.cancel()
        entry = await second
        assert entry.size == 5 << 20
        assert first.cancelled()


async def test_a_cancelled_step_has_taken_nothing(uris: list[str], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, concurrency=1) as fetcher, fetcher.entries(uris) as stream:
        seen = []
        while True:
            step = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            step.cancel()
            try:
                seen.append((await step).index)
            except asyncio.CancelledError:
                try:
                    seen.append((await anext(stream)).index)
                except StopAsyncIteration:
                    break
            except StopAsyncIteration:
                break
    assert seen == list(range(len(uris)))


async def test_cancelling_the_leaving_still_leaves(uris: list[str], cache_dir: Path) -> None:
    before = census()
    inside = asyncio.Event()

    async def use() -> None:
        async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
            await anext(fetcher.images(uris))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _settles_to(before)


async def test_random_moments(uris: list[str], cache_dir: Path, soak: Soak) -> None:
    chance = random.Random(0)
    await _use(breaks, uris, cache_dir)
    before = census()
    async with Fetcher(cache_dir=cache_dir, revalidate="always", workers=2, concurrency=8) as fetcher:

        async def work() -> None:
            async for image in fetcher.images(uris, on_error="skip", order=chance.choice(["input", "completion"])):
                await fetcher.fetch(image.uri, cache=chance.random() < 0.5)

        for _ in range(soak.cancellations):
            task = asyncio.create_task(work())
            for _ in range(chance.randrange(200)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        report = await fetcher.prefetch(uris)
        assert report.failed == 0
    await _settles_to(before)
    assert not temporary_files(cache_dir)


INTERRUPTED = """
import asyncio, sys, asyncfetch
async def main():
    async with asyncfetch.Fetcher(cache_dir=sys.argv[1], workers=2, revalidate="always") as fetcher:
        while True:
            async for image in fetcher.images(sys.argv[2:], on_error="skip"):
                print("at work", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_a_program_that_is_ended_leaves_no_process_and_the_next_start_no_file(
    uris: list[str], cache_dir: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(cache_dir), *uris],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == "at work\n"
        workers = psutil.Process(program.pid).children(recursive=True)
        assert workers
        program.send_signal(number)
        program.stdout.read()
        said = program.stderr.read()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    if number == signal.SIGINT:
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert "ExceptionGroup" not in said
        assert not temporary_files(cache_dir)

    async def next_start() -> None:
        async with Fetcher(cache_dir=cache_dir):
            assert not temporary_files(cache_dir)

    asyncio.run(next_start())


@pytest.mark.timeout(180)  # each census collects garbage, of all tests that ran before
async def test_cancelling_the_opening_at_any_turn_leaves_nothing(cache_dir: Path) -> None:
    await _use_nothing(cache_dir)
    before = census()
    for turns in range(12):
        opening = asyncio.create_task(_use_nothing(cache_dir))
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # the supervisor too, as asyncio.run does at its end
        await asyncio.wait([opening])
        await _settles_to(before)
    assert not temporary_files(cache_dir)


async def _use_nothing(cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir):
        await asyncio.sleep(0)
