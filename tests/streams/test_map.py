"""Functions of the user's over streams: on bytes, pixels or paths in the workers, replayed, every mistake named."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch import DecodePolicy, Failure, Fetcher, Mapped
from asyncfetch.errors import DecodeTimeout, OutOfMemory, TransformFailed, UsageError, WorkerDied
from tests.decode.parts import expected, photographs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.objects import Bucket


MIB = 1 << 20


@pytest.fixture
def arrays(tmp_path: Path) -> list[tuple[str, int]]:
    """NPY files of 20x30 floats that tell their number."""
    found = []
    for number in range(60):
        path = tmp_path / f"{number:03}.npy"
        np.save(path, np.full((20, 30), number, np.float32))
        found.append((str(path), number))
    return found


def by_value() -> tuple[Any, ...]:
    """Functions and a class that travel as code, so that workers need not import this module and what it rests on."""

    def load(data: bytes) -> Any:
        assert type(data) is bytes
        return np.load(io.BytesIO(data))

    def drawn(_: bytes) -> list[float]:
        numbers = np.zeros(2)
        cv2.randu(numbers, np.zeros(1), np.ones(1))
        return [random.random(), np.random.rand(), *numbers.ravel().tolist()]

    class Point:
        """A class whose instances are no plain data."""

        def __init__(self, x: float) -> None:
            self.x = x

    class Grudging:
        """What can be pickled and not be had again."""

        def __reduce__(self) -> tuple[Any, ...]:
            return int, ("never again",)

    return load, drawn, Point, Grudging


load, drawn, Point, Grudging = by_value()


async def test_arrays_of_npy_files_are_one_array_of_their_batch(arrays: list[tuple[str, int]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        seen = []
        async for batch in fetcher.bytes(arrays).map(load).shuffle(2).batch(16):
            assert batch.values.shape == (len(batch), 20, 30)
            assert batch.values.flags.writeable
            assert batch.values[:, 3, 3].tolist() == batch.payloads == batch.indices
            assert all(np.shares_memory(item.value, batch.values) for item in batch.items)
            assert batch.pixels is None
            seen += batch.indices
        assert sorted(seen) == list(range(60))
        lent = fetcher._engine().pool.statistics()
        assert lent.slots < 20  # in slabs, not one by one


async def test_any_value_comes_out_and_its_large_arrays_through_shared_memory(
    arrays: list[tuple[str, int]], cache_dir: Path
) -> None:
    def make(data: bytes) -> dict[str, Any]:
        array = load(data)
        return {"large": array.repeat(50), "small": array[0, :2], "point": Point(float(array[0, 0])), "none": None}

    async with Fetcher(cache_dir=cache_dir, workers=2) as fetcher:
        async for item in fetcher.bytes(arrays).map(make):
            assert item.value["large"].tolist() == [item.payload] * 30_000
            assert item.value["large"].flags.writeable
            assert not item.value["large"].flags.owndata
            assert item.value["small"].tolist() == [item.payload] * 2
            assert type(item.value["point"]) is Point
            assert item.value["point"].x == item.payload
        large = item.value.pop("large")
        del item
        pool = fetcher._engine().pool
        held = pool.statistics()
        assert held.slot_bytes - held.free_slot_bytes >= large.nbytes
        del large
        assert pool.statistics().slot_bytes == pool.statistics().free_slot_bytes


async def test_json_and_batches_of_values_that_are_no_arrays(tmp_path: Path, cache_dir: Path) -> None:
    paths = []
    for number in range(30):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(None if number == 3 else {"n": number, "list": list(range(number * 100))}))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        stream = fetcher.bytes(paths).map(json.loads)
        assert repr(stream) == "Stream over a list of 30\nmap(loads)"
        values = [item.value async for item in stream]
        assert values[3] is None
        assert [value["n"] for value in values if value] == [number for number in range(30) if number != 3]
        async for batch in fetcher.bytes(paths).map(json.loads).batch(7):
            assert batch.values == [item.value for item in batch.items]


async def test_functions_are_given_what_the_stream_yields_and_follow_one_another(
    arrays: list[tuple[str, int]], tmp_path: Path, cache_dir: Path
) -> None:
    photos = photographs(tmp_path, 3)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        means = fetcher.entries(arrays).map(np.load).map(np.mean).map(float)
        assert [item.value async for item in means] == [number for _, number in arrays]
        names = [item.value async for item in fetcher.entries(arrays).map(lambda path: path.name)]
        assert names == [f"{number:03}.npy" for _, number in arrays]
        halves = fetcher.images(photos, color="gray", transform=lambda pixels: pixels[:100]).map(lambda p: p // 2)
        for path, item in zip(photos, [item async for item in halves], strict=True):
            np.testing.assert_array_equal(item.value, expected(path, "gray")[:100] // 2)


async def test_draws_are_replayed_and_others_for_another_item_epoch_or_seed(
    arrays: list[tuple[str, int]], cache_dir: Path
) -> None:
    async def values(workers: int, seed: int) -> list[list[float]]:
        async with Fetcher(cache_dir=cache_dir, workers=workers) as fetcher:
            stream = fetcher.bytes(arrays[:10]).map(drawn, seed=seed).epochs(2)
            return [item.value async for item in stream]

    first = await values(1, 0)
    assert await values(2, 0) == first
    assert len({tuple(each) for each in first}) == 20
    assert not {tuple(each) for each in first} & {tuple(each) for each in await values(1, 1)}


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda _: 1 / 0, TransformFailed, "the mapped function raised ZeroDivisionError"),
        (lambda _: sys.exit(3), TransformFailed, "the mapped function raised SystemExit: 3"),
        (lambda _: (x for x in "ab"), TransformFailed, "a value of the type generator, which cannot be pickled"),
        (lambda _: threading.Lock(), TransformFailed, "a value of the type lock, which cannot be pickled"),
        (lambda _: Grudging(), TransformFailed, "cannot be unpickled here: ValueError: invalid literal"),
        (lambda _: time.sleep(60), DecodeTimeout, "at its mapped function was killed after {limit:g} seconds"),
        (lambda _: os._exit(7), WorkerDied, "at its mapped function ended with exit code 7"),
    ],
)
async def test_a_wrong_function_fails_its_item_by_name_and_the_others_come(
    arrays: list[tuple[str, int]], cache_dir: Path, function: Callable[[bytes], Any], error: type, words: str
) -> None:
    def one_is_wrong(data: bytes) -> Any:
        return function(data) if load(data)[0, 0] == 2 else 0

    # Loading all that the function needs takes its time, on a busy machine as long as a short limit.
    for limit in (1.0, 4.0, 16.0) if error is DecodeTimeout else (60.0,):
        async with Fetcher(cache_dir=cache_dir, workers=1, decode=DecodePolicy(timeout=limit)) as fetcher:
            items = [item async for item in fetcher.bytes(arrays[:5], on_error="yield").map(one_is_wrong)]
        if [type(item) for item in items].count(Failure) == 1:
            break
    assert [item.value if isinstance(item, Mapped) else item.index for item in items] == [0, 0, 2, 0, 0], items
    failure = items[2]
    assert isinstance(failure, Failure)
    assert (failure.index, failure.payload, failure.stage) == (2, 2, "decode")
    with pytest.raises(error, match=words.format(limit=limit)):
        raise failure.exception


async def test_values_of_a_bucket_are_made_of_what_was_downloaded(cache_dir: Path, empty_bucket: Bucket) -> None:
    bodies = {f"{number}.npy": io.BytesIO() for number in range(6)}
    for number, body in enumerate(bodies.values()):
        np.save(body, np.full((3, 4), number))
    rows = [(empty_bucket.put(key, body.getvalue()), key) for key, body in bodies.items()]
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        [batch] = [batch async for batch in fetcher.bytes(rows).map(load).batch(6)]
        sizes = [item.value async for item in fetcher.entries(rows).map(lambda path: path.stat().st_size)]
    assert batch.values.tolist() == [[[number] * 4] * 3 for number in range(6)]
    assert batch.payloads == list(bodies)
    assert sizes == [len(body.getvalue()) for body in bodies.values()]
    assert empty_bucket.bodies() == 6


async def test_memory_of_values_stays_within_the_budget_and_a_value_too_large_is_refused(
    tmp_path: Path, cache_dir: Path
) -> None:
    paths = []
    for number in range(24):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(bytes([number]) * MIB)

    def as_array(data: bytes) -> Any:
        return np.frombuffer(data, np.uint8)

    def as_value(data: bytes) -> Any:
        return {"data": np.frombuffer(data, np.uint8), "size": len(data)}

    def too_much(data: bytes) -> Any:
        return {"data": np.broadcast_to(np.uint8(1), 80 * MIB)} if data[0] == 3 else None

    def far_too_much(data: bytes) -> Any:
        return np.broadcast_to(np.uint8(1), 1 << 40) if data[0] == 3 else np.zeros(3)

    policy = DecodePolicy(workers=2, worker_memory=64 * MIB)
    async with Fetcher(cache_dir=cache_dir, decode=policy, memory_budget=24 * MIB) as fetcher:
        for function in as_array, as_value:
            kept: list[Any] = []
            async for item in fetcher.bytes(paths).map(function):
                array = item.value if function is as_array else item.value["data"]
                assert (array[0], array.size) == (item.index, MIB)
                kept.append(array)
                if len(kept) == 4:
                    kept.clear()
                del item, array
        assert fetcher.stats().memory_peak <= 24 * MIB
        for function in too_much, far_too_much:
            ends = [item async for item in fetcher.bytes(paths[:6], on_error="yield").map(function)]
            [failure] = [item for item in ends if isinstance(item, Failure)]
            assert failure.index == 3
            with pytest.raises(OutOfMemory, match="what the mapped function gave is too large to be handed over"):
                raise failure.exception
        assert fetcher.stats().memory_peak <= 24 * MIB


async def test_what_cannot_be_called_or_carried_is_refused_at_once(
    arrays: list[tuple[str, int]], cache_dir: Path
) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        stream = fetcher.bytes(arrays)
        with pytest.raises(UsageError, match="the function of map must be callable, not 3"):
            stream.map(3)  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="cannot be sent to a worker"):
            stream.map(fetcher.fetch)
        with pytest.raises(UsageError, match="seed must be a whole number"):
            stream.map(len, seed=-1)
        await anext(stream)
        with pytest.raises(UsageError, match="has begun"):
            stream.map(len)


async def test_a_stream_of_values_goes_on_from_its_state(arrays: list[tuple[str, int]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        stream = fetcher.bytes(arrays).map(load).shuffle(4)
        first = [(await anext(stream)).index for _ in range(7)]
        state = stream.state()
        await stream.aclose()
        rest = [item.index async for item in fetcher.bytes(arrays).map(load).shuffle(4).resume(state)]
    assert sorted(first + rest) == list(range(60))


async def test_a_program_that_a_function_starts_can_be_terminated(arrays: list[tuple[str, int]]) -> None:
    def start_and_end(_: bytes) -> int:
        program = subprocess.Popen(["sleep", "60"])
        program.terminate()
        return program.wait(20)

    async with Fetcher() as fetcher:
        assert [item.value async for item in fetcher.bytes(arrays[:1]).map(start_and_end)] == [-signal.SIGTERM]
