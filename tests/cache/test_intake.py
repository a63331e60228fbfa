"""Bodies received on threads: whoever brings which bytes, the body is what came, and nothing stays of one given up."""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.cache import SMALL, Body, BodySink, Cache, Intake, PartSink, files, parts, partsink, sinks, spill
from asyncfetch.cache import intake as intake_module
from asyncfetch.cache.sinks import PIECE
from asyncfetch.errors import FetcherClosed, IntegrityError, StorageFull
from asyncfetch.objects import ObjectStat
from tests.interrupts import interrupted
from tests.soak import examples

from .helpers import HASHES, leftovers, opened, owners

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NOISE = random.Random(17).randbytes(2 * SMALL + 777)
ROOM = [str(module.__file__) for module in (intake_module, parts, partsink, sinks, spill)]
DIGEST = "blake3:" + HASHES["blake3"](NOISE)


async def pour(sink: PartSink | BodySink, start: int, stop: int) -> int:
    """Puts some bytes into a sink on the loop, as many as there is room for. Gives their end."""
    while (pause := sink.drain()) is not None:
        await pause
    room = sink.get_buffer(len(NOISE) - start if isinstance(sink, BodySink) else stop - start)
    count = min(len(room), stop - start)
    room[:count] = NOISE[start : start + count]
    sink.advance(count)
    return start + count


def receive(intake: Intake, start: int, *, stop: int = len(NOISE), step: int = 1 << 30) -> int:
    """What a thread does: puts bytes from `start` on into an intake until it or they end. Gives their end."""
    try:
        while intake.left and start < stop:
            room = intake.get_buffer()
            assert 0 < len(room) <= min(intake.left, SMALL)  # the first buffer of what looked small is as large
            count = min(len(room), step, stop - start)
            room[:count] = NOISE[start : start + count]
            intake.advance(count)
            start += count
    finally:
        intake.close()
    return start


def content(body: Body) -> bytes:
    return Path(body.path).read_bytes()


@settings(max_examples=examples(20), deadline=None)
@given(
    cuts=st.lists(st.integers(1, len(NOISE) - 1), max_size=4, unique=True),
    turns=st.lists(st.tuples(st.booleans(), st.integers(100_000, 700_000)), min_size=1, max_size=12),
    seed=st.integers(0, 1 << 32),
)
def test_parts_that_come_now_this_way_now_that_make_the_same_body(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], turns: list[tuple[bool, int]], seed: int
) -> None:
    async def bring(sink: PartSink, order: random.Random) -> None:
        at = sink.at
        while at < sink.stop:
            lent, most = order.choice(turns)
            stop = min(at + most, sink.stop)
            if lent:  # sometimes cut short, as by a connection that ends
                at = await asyncio.to_thread(receive, sink.intake(len(NOISE) - at), at, stop=stop, step=most // 3 + 1)
            else:
                at = await pour(sink, at, stop)
            assert sink.at == at
        await sink.flush()

    async def run() -> None:
        async with opened(tmp_path_factory.getbasetemp() / "lent-parts") as cache:
            parted = cache.parted(len(NOISE))
            edges = [0, *sorted(cuts), len(NOISE)]
            sinks = [parted.part(start, stop) for start, stop in itertools.pairwise(edges)]
            await asyncio.gather(*(bring(sink, random.Random(seed + sink.stop)) for sink in sinks))
            body = await parted.finish()
            assert (body.size, body.digest) == (len(NOISE), DIGEST)
            assert content(body) == NOISE
            body.release()
            assert cache.statistics().buffer_bytes == 0

    asyncio.run(run())


@settings(max_examples=examples(20), deadline=None)
@given(turns=st.lists(st.tuples(st.booleans(), st.integers(100_000, 1_500_000)), min_size=1, max_size=12))
def test_a_body_that_comes_now_this_way_now_that_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[bool, int]]
) -> None:
    async def run() -> None:
        async with opened(tmp_path_factory.getbasetemp() / "lent-body") as cache:
            lengths: list[int] = []
            sink, at = cache.sink(on_length=lengths.append), 0
            for lent, most in itertools.cycle(turns):
                stop = min(at + most, len(NOISE))
                intake = sink.intake(len(NOISE) - at) if lent and sink.drain() is None else None
                if intake is not None:
                    at = await asyncio.to_thread(receive, intake, at, stop=stop, step=most // 3 + 1)
                else:
                    at = await pour(sink, at, stop)
                if at == len(NOISE):
                    break
            body = await sink.finish()
            assert (body.size, body.digest, lengths) == (len(NOISE), DIGEST, [len(NOISE)])
            assert content(body) == NOISE
            body.release()
            assert cache.statistics().buffer_bytes == 0

    asyncio.run(run())


async def test_a_body_that_stays_in_memory_is_not_for_a_thread(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        sink = cache.sink()
        assert sink.intake(SMALL) is None
        for at in (0, 500):
            await pour(sink, at, at + 500)
            assert sink.intake(SMALL - at - 500) is None
        assert not leftovers(tmp_path)
        sink.abort()


async def test_a_length_that_is_refused_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    def refuse(length: int) -> None:
        raise ValueError(f"{length} is too much")

    async with opened(tmp_path) as cache:
        sink = cache.sink(on_length=refuse)
        with pytest.raises(ValueError, match=f"{len(NOISE)} is too much"):
            sink.intake(len(NOISE))
        assert cache.statistics().buffer_bytes == 0
        sink.abort()


class Half(NamedTuple):
    """A sink on its way, how it ends, and how it is given up."""

    sink: PartSink | BodySink
    end: Callable[[], Coroutine[Any, Any, object]]
    abort: Callable[[], None]


def new_part(cache: Cache) -> Half:
    parted = cache.parted(len(NOISE))
    sink = parted.part(0, len(NOISE))
    return Half(sink, sink.flush, parted.abort)


def new_body(cache: Cache) -> Half:
    sink = cache.sink()
    return Half(sink, sink.finish, sink.abort)


@pytest.mark.parametrize("make", [new_part, new_body])
async def test_a_full_disk_ends_it_on_its_thread_and_is_told_to_the_loop_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Cache], Half]
) -> None:
    write_at, there = files.write_at, [2 * PIECE]

    def fill_up(descriptor: int, data: memoryview, offset: int) -> None:
        if len(data) >= PIECE:
            there[0] -= len(data)
        if there[0] < 0:
            raise OSError(errno.ENOSPC, "no space")
        write_at(descriptor, data, offset)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "write_at", fill_up)
        sink, end, abort = make(cache)
        intake = sink.intake(len(NOISE))
        assert intake is not None
        with pytest.raises(StorageFull):
            await asyncio.to_thread(receive, intake, 0)
        with pytest.raises(StorageFull):
            await end()
        abort()
        await gone(cache, tmp_path)
    assert not owners(tmp_path)


@pytest.mark.parametrize("make", [new_part, new_body])
async def test_given_up_while_its_thread_writes_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Cache], Half]
) -> None:
    entered, gate, write_at = threading.Event(), threading.Event(), files.write_at

    def held_up(descriptor: int, data: memoryview, offset: int) -> None:
        entered.set()
        gate.wait()
        write_at(descriptor, data, offset)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "write_at", held_up)
        sink, _, abort = make(cache)
        intake = sink.intake(len(NOISE))
        assert intake is not None
        receiving = asyncio.create_task(asyncio.to_thread(receive, intake, 0))
        await asyncio.to_thread(entered.wait)
        abort()
        abort()
        assert cache.statistics().buffer_bytes == PIECE, "the thread has its memory yet"
        gate.set()
        with pytest.raises(FetcherClosed):
            await receiving
        await gone(cache, tmp_path)
    assert not owners(tmp_path)


@pytest.mark.parametrize("make", [new_part, new_body])
@pytest.mark.parametrize("begun", [0, 100])
async def test_interrupted_as_it_is_lent_a_sink_goes_on_or_is_given_up(
    tmp_path: Path, make: Callable[[Cache], Half], begun: int
) -> None:
    at, over = 0, False
    async with opened(tmp_path) as cache:
        while not over:
            at += 1
            for given_up in (False, True):
                sink, end, abort = make(cache)
                if begun:
                    await pour(sink, 0, begun)
                lent: list[Intake | None] = []
                over = not interrupted(lambda: lent.append(sink.intake(len(NOISE) - begun)), at, *ROOM, closely=True)  # noqa: B023
                intake = lent.pop() if lent else None
                if given_up:
                    abort()
                    if isinstance(sink, PartSink):
                        sink.close()
                    if intake is not None:
                        with suppress(FetcherClosed):  # for what it had taken on the loop
                            intake.close()
                else:
                    intake = intake or sink.intake(len(NOISE) - begun)
                    assert intake is not None
                    await asyncio.to_thread(receive, intake, begun)
                    async with asyncio.timeout(10):
                        whole = await end()
                    if isinstance(whole, Body):
                        assert whole.digest == DIGEST
                        whole.release()
                    abort()
                await gone(cache, tmp_path)
    assert at > 3


async def test_a_part_that_is_whole_is_not_lent(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        body = cache.parted(len(NOISE))
        sink = body.part(0, 10)
        await pour(sink, 0, 10)
        with pytest.raises(ValueError, match="whole"):
            sink.intake(SMALL)
        body.abort()
        sink.close()
        await gone(cache, tmp_path)


async def test_what_came_on_a_thread_is_held_against_the_origins_checksum(tmp_path: Path) -> None:
    for right in (True, False):
        checksum = f"crc32:{zlib.crc32(NOISE if right else NOISE[1:]):08x}"
        async with opened(tmp_path) as cache:
            sink = cache.sink()
            sink.begin(ObjectStat("s3://bucket/a", len(NOISE), checksum=checksum), 0)
            intake = sink.intake(len(NOISE))
            assert intake is not None
            await asyncio.to_thread(receive, intake, 0)
            if right:
                (await sink.finish()).release()
            else:
                with pytest.raises(IntegrityError):
                    await sink.finish()
                sink.abort()


async def gone(cache: Cache, directory: Path) -> None:
    while leftovers(directory) or cache.statistics().buffer_bytes:
        await asyncio.sleep(0)
