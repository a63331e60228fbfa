"""Sinks: whatever way the bytes come, the body is what came, and nothing stays behind of one that was given up."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.cache import BODY_MEMORY, SMALL, Body, BodySink, MemorySink, files
from asyncfetch.cache.sinks import PIECE
from asyncfetch.cache.spill import PIECES
from asyncfetch.cache.writers import Writers
from asyncfetch.errors import CacheUnusable, FetcherClosed
from tests.soak import examples

from .helpers import HASHES, blobs, fill, leftovers, opened, owners, publish

if TYPE_CHECKING:
    from asyncfetch.settings import Digest

NOISE = random.Random(7).randbytes(3 * SMALL)

# Where a body changes the way it takes: a piece, what is kept in memory whole, all pieces at once.
THRESHOLDS = sorted(
    {n + d for n in (0, 1, 4096, PIECE, SMALL, BODY_MEMORY, BODY_MEMORY + PIECE) for d in (-1, 0, 1)} - {-1}
)


def content(body: Body) -> bytes:
    return bytes(body.view) if body.view is not None else Path(body.path).read_bytes()


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", THRESHOLDS)
async def test_body_is_what_came_at_every_threshold(tmp_path: Path, size: int, announced: bool) -> None:
    data = NOISE[:size]
    async with opened(tmp_path) as cache:
        body = await fill(cache.sink(), data, announced=announced)
        assert (body.size, body.digest) == (size, "blake3:" + HASHES["blake3"](data))
        assert content(body) == data
        assert (body.view is not None) == (size <= (SMALL if announced else PIECE))
        body.release()
        assert cache.statistics().buffer_bytes == 0
    assert not owners(tmp_path)


@settings(max_examples=examples(20), deadline=None)
@given(
    size=st.one_of(st.integers(0, 3 * SMALL), st.sampled_from(THRESHOLDS)),
    steps=st.lists(st.integers(0, 600_000), min_size=1, max_size=40),
    hints=st.lists(st.sampled_from(["rest", "none", "zero", "less", "more"]), min_size=1, max_size=5),
    digest=st.sampled_from(["blake3", "sha256"]),
)
def test_any_split_and_any_hint_give_the_same_body(
    tmp_path_factory: pytest.TempPathFactory, size: int, steps: list[int], hints: list[str], digest: Digest
) -> None:
    async def run() -> None:
        async with opened(tmp_path_factory.getbasetemp() / "any-split", digest) as cache:
            data, sink, turn = memoryview(NOISE)[:size], cache.sink(), 0
            while data:
                if (pause := sink.drain()) is not None:
                    await pause
                left = len(data)
                word = hints[turn % len(hints)]
                hint = {"rest": left, "none": -1, "zero": 0, "less": left // 2, "more": left * 3}[word]
                room = sink.get_buffer(hint)
                assert len(room) > 0
                # A turn may bring nothing, as a read that was interrupted does; not all of them, or there is no end.
                count = min(len(room), left, steps[turn % len(steps)] or (turn % 2))
                room[:count] = data[:count]
                sink.advance(count)
                data, turn = data[count:], turn + 1
            body = await sink.finish()
            assert (body.size, body.digest) == (size, f"{digest}:{HASHES[digest](NOISE[:size])}")
            assert content(body) == NOISE[:size]
            body.release()
            assert cache.statistics().buffer_bytes == 0

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 10, SMALL, SMALL + 1, 2 * SMALL])
@pytest.mark.parametrize("announced", [True, False])
async def test_length_is_told_once_and_as_soon_as_it_is_known(tmp_path: Path, size: int, announced: bool) -> None:
    told: list[int] = []
    async with opened(tmp_path) as cache:
        sink = cache.sink(on_length=told.append)
        sink.get_buffer(size if announced else -1)
        assert told == ([size] if announced else [])
        body = await fill(sink, NOISE[:size], announced=announced)
        assert told == [size]
        body.release()


async def test_length_can_be_refused_before_memory_is_taken(tmp_path: Path) -> None:
    def refuse(length: int) -> None:
        raise MemoryError(length)

    async with opened(tmp_path) as cache:
        for sink in (cache.sink(on_length=refuse), MemorySink(on_length=refuse)):
            with pytest.raises(MemoryError):
                sink.get_buffer(1 << 60)
        assert cache.statistics().buffer_bytes == 0


async def test_announced_length_takes_no_memory_beyond_the_bound(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        assert len(sink.get_buffer(1 << 60)) == PIECE
        assert cache.statistics().buffer_bytes == PIECE
        sink.abort()


async def test_more_than_was_given_room_for_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        with pytest.raises(ValueError, match="not written"):
            sink.advance(1)
        room = len(sink.get_buffer(-1))
        for count in (-1, room + 1):
            with pytest.raises(ValueError, match="not written"):
                sink.advance(count)
        sink.abort()


async def test_ended_sink_refuses_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        finished, aborted = cache.sink(), cache.sink()
        body = await fill(finished, b"bytes")
        aborted.get_buffer(5)
        aborted.abort()
        for sink in (finished, aborted):
            with pytest.raises(ValueError, match="ended"):
                sink.get_buffer(1)
            with pytest.raises(ValueError, match="ended"):
                await sink.finish()
            sink.abort()
        assert content(body) == b"bytes"  # to abort a finished sink takes nothing from its body
        body.release()
        body.release()
        assert cache.statistics().buffer_bytes == 0


class SlowDisk:
    """Holds every write at an offset up until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.removed = threading.Event()
        write_at, remove = files.write_at, files.remove

        def held_up(descriptor: int, data: memoryview, offset: int) -> None:
            self.entered.set()
            self.gate.wait()
            write_at(descriptor, data, offset)

        def noticed(path: str) -> bool:
            found = remove(path)
            if self.gate.is_set():  # else it is the index, which is made before any body comes
                self.removed.set()
            return found

        monkeypatch.setattr(files, "write_at", held_up)
        monkeypatch.setattr(files, "remove", noticed)


async def fill_until_paused(sink: BodySink) -> asyncio.Future[None]:
    for _ in range(PIECES + 1):
        if (pause := sink.drain()) is not None:
            return pause
        sink.advance(len(sink.get_buffer(-1)))
    raise AssertionError("it never had to wait")


async def test_body_that_outruns_the_disk_has_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        pause = await fill_until_paused(sink)
        assert cache.statistics().buffer_bytes == BODY_MEMORY
        assert not pause.done()
        disk.gate.set()
        await pause
        await fill_until_paused(sink)
        body = await sink.finish()
        assert body.size == len(content(body))
        assert cache.statistics().buffer_bytes == 0
        body.release()


async def test_memory_of_a_finished_body_is_back_even_if_threads_are_quicker_than_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writers, "submit", lambda self, work: work())
    async with opened(tmp_path) as cache:
        body = await fill(cache.sink(), NOISE[: 3 * PIECE])
        body_large = await fill(cache.sink(), NOISE[: 3 * PIECE], announced=False)
        assert body_large.path
        body.release()
        assert cache.statistics().buffer_bytes == 0
        body_large.release()


async def test_abort_in_the_middle_of_a_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        await fill_until_paused(sink)
        await asyncio.to_thread(disk.entered.wait)
        assert len(leftovers(tmp_path)) == 1
        sink.abort()
        sink.abort()
        disk.gate.set()
        await asyncio.to_thread(disk.removed.wait)
        assert not leftovers(tmp_path)
    assert cache.statistics().buffer_bytes == 0
    assert not blobs(tmp_path)


async def test_reader_cancelled_while_it_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    async with opened(tmp_path) as cache:
        sink = cache.sink()

        async def read() -> None:
            try:
                await fill(sink, NOISE)
            except asyncio.CancelledError:
                sink.abort()
                raise

        reader = asyncio.create_task(read())
        await asyncio.to_thread(disk.entered.wait)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        disk.gate.set()
        await asyncio.to_thread(disk.removed.wait)
        assert not leftovers(tmp_path)
    assert cache.statistics().buffer_bytes == 0


async def test_finish_cancelled_while_the_disk_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        sink.advance(len(sink.get_buffer(-1)))
        sink.advance(len(sink.get_buffer(-1)) // 2)
        finishing = asyncio.create_task(sink.finish())
        await asyncio.to_thread(disk.entered.wait)
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
        sink.abort()
        disk.gate.set()
        await asyncio.to_thread(disk.removed.wait)
        assert not leftovers(tmp_path)
    assert cache.statistics().buffer_bytes == 0


async def test_abort_when_the_file_is_whole_and_nobody_has_heard_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = threading.Event(), files.close

    def noticed(descriptor: int) -> None:
        close(descriptor)
        closed.set()

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "close", noticed)
        sink = cache.sink()
        for _ in range(2):
            sink.advance(len(sink.get_buffer(-1)))
        finishing = asyncio.create_task(sink.finish())
        await asyncio.sleep(0)
        closed.wait()  # on the loop itself, so that it cannot hear of the end before the task is cancelled
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
        sink.abort()
        await _gone(tmp_path)
    assert cache.statistics().buffer_bytes == 0


async def _gone(directory: Path) -> None:
    while leftovers(directory):
        await asyncio.sleep(0)


@settings(max_examples=examples(25), deadline=None)
@given(size=st.integers(0, 2 * SMALL), announced=st.booleans(), end=st.sampled_from(["abort", "finish", "leave"]))
def test_no_moment_of_giving_up_leaves_anything(
    tmp_path_factory: pytest.TempPathFactory, size: int, announced: bool, end: str
) -> None:
    directory = tmp_path_factory.getbasetemp() / "giving-up"

    async def run() -> None:
        async with opened(directory) as cache:
            sink, left = cache.sink(), size
            while left and sink.drain() is None:
                room = sink.get_buffer(left if announced else -1)
                sink.advance(min(len(room), left))
                left -= min(len(room), left)
            if end == "finish":
                finishing = asyncio.create_task(sink.finish())
                await asyncio.sleep(0)
                finishing.cancel()
                (body,) = await asyncio.gather(finishing, return_exceptions=True)
                if isinstance(body, Body):
                    body.release()
            if end != "leave":
                sink.abort()
        assert not owners(directory)
        if end != "leave":
            assert cache.statistics().buffer_bytes == 0

    asyncio.run(run())


async def test_disk_that_fails_is_told_at_the_next_pause_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, data: memoryview, offset: int) -> None:
        raise OSError(5, "Input/output error")

    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_at", broken)
            sink = cache.sink()
            pause = await fill_until_paused(sink)
            await pause
            with pytest.raises(CacheUnusable, match="Input/output error"):
                sink.drain()
            for _ in range(2):
                with pytest.raises(CacheUnusable, match="Input/output error"):
                    await sink.finish()
            sink.abort()
            assert not leftovers(tmp_path)
        assert (await publish(cache, NOISE)).size == len(NOISE)
        assert cache.statistics().buffer_bytes == 0


async def test_closing_the_cache_wakes_who_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        reader = asyncio.create_task(fill(sink, NOISE))
        await asyncio.to_thread(disk.entered.wait)
        closing = asyncio.create_task(cache.aclose())
        await asyncio.sleep(0)
        disk.gate.set()
        with pytest.raises(FetcherClosed):
            await reader
        sink.abort()
        await closing
    assert not owners(tmp_path)
