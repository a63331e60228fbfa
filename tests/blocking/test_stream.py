"""Streams without an event loop: the plans, states and batches of the awaited ones, and ends that leave nothing."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncfetch
from asyncfetch import Failure, blocking
from asyncfetch.blocking.supply import ROOM
from asyncfetch.errors import ObjectNotFound, PlanMismatch, UsageError
from asyncfetch.testing import photographs
from tests.blocking.scripts import program
from tests.interrupts import interrupted
from tests.streams.orders import Anew


@pytest.fixture(scope="module")
def fetcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[blocking.Fetcher]:
    with blocking.Fetcher(cache_dir=tmp_path_factory.mktemp("cache"), workers=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int]]:
    directory = tmp_path_factory.mktemp("files")
    made = []
    for number in range(30):
        (directory / f"{number:02}").write_text(str(number))
        made.append((directory / f"{number:02}", number))
    return made


def payloads(stream: Any) -> list[Any]:
    return [item.payload for item in stream]


def test_plans_are_those_of_the_awaited_streams(fetcher: blocking.Fetcher, paths: list[tuple[Path, int]]) -> None:
    whole = payloads(fetcher.entries(paths).shuffle(3))
    assert sorted(whole) == list(range(30))
    assert whole != sorted(whole)
    assert payloads(fetcher.entries(paths).shuffle(3).shard(1, 4)) == whole[1::4]
    assert payloads(fetcher.entries(paths).shuffle(3).take(5).epochs(2))[:5] == whole[:5]
    stream = fetcher.entries(paths).shuffle(3).shard(1, 4, uneven="pad").take(5).epochs(2)
    assert repr(stream).splitlines() == [
        "Stream over a list of 30",
        "shuffle(3, epoch=0)",
        'shard(1, 4, uneven="pad")',
        "take(5)",
        "epochs(2)",
    ]
    assert repr(stream.batch(2)).endswith("\nbatch(2)")


def test_sources_without_an_index_begin_anew_with_each_epoch(
    fetcher: blocking.Fetcher, paths: list[tuple[Path, int]]
) -> None:
    assert payloads(fetcher.entries(Anew(paths)).take(7).epochs(3)) == [*range(7)] * 3
    assert sorted(payloads(fetcher.entries(Anew(paths)).shuffle(1, window=8).epochs(2))) == sorted([*range(30)] * 2)
    many = Anew(paths * (3 * ROOM // 30))
    assert len(payloads(fetcher.entries(many, look_ahead=5).epochs(2))) == 2 * len(many.sources)
    assert repr(fetcher.entries(Anew(paths))) == "Stream over a Anew"
    with pytest.raises(UsageError, match="A list_iterator can be read once"):
        fetcher.entries(iter(paths)).epochs(2)
    with pytest.raises(UsageError, match="A list_iterator has no index"):
        fetcher.entries(iter(paths)).shuffle(1)


def test_sources_with_an_index_of_any_kind_are_read_by_number(
    fetcher: blocking.Fetcher, paths: list[tuple[Path, int]]
) -> None:
    class Manifest(Sequence[Any]):
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, index: Any) -> Any:
            return paths[index % 30]

        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("it is read by number")

    assert len(payloads(fetcher.entries(Manifest(), look_ahead=5).shuffle(1).take(20))) == 20


@pytest.mark.parametrize("kind", [list, Anew])
@pytest.mark.parametrize("order", ["input", "completion"])
def test_a_state_is_gone_on_from_exactly(
    fetcher: blocking.Fetcher, paths: list[tuple[Path, int]], kind: Any, order: Any
) -> None:
    def stream() -> blocking.Stream[Any]:
        return fetcher.entries(kind(paths), order=order).epochs(2)

    first = stream()
    seen = [next(first).payload for _ in range(41)]
    state = json.loads(json.dumps(first.state()))
    first.close()
    assert first.state() == state, "what is closed still tells it"
    seen += payloads(stream().resume(state))
    assert sorted(seen) == sorted([*range(30)] * 2)
    with pytest.raises(PlanMismatch):
        list(fetcher.entries(kind(paths[1:]), order=order).epochs(2).resume(state))


def test_batches_are_whole_arrays(fetcher: blocking.Fetcher, tmp_path: Path) -> None:
    _, photograph = next(photographs(1))
    (tmp_path / "a.jpg").write_bytes(photograph)
    rows: list[Any] = [(tmp_path / "a.jpg", number) for number in range(7)]
    rows[3] = (tmp_path / "missing.jpg", 3)
    stream = fetcher.images(rows, size=(32, 24), fit="exact", on_error="skip").batch(4)
    first = next(stream)
    assert (first.pixels.shape, first.payloads) == ((4, 24, 32, 3), [0, 1, 2, 4])
    state = stream.state()
    assert [batch.payloads for batch in stream] == [[5, 6]]
    assert (stream.report().objects, stream.report().failed) == (6, 1)
    again = fetcher.images(rows, size=(32, 24), fit="exact", on_error="yield").resume(state).batch(4)
    assert [batch.payloads for batch in again] == [[5, 6]]
    assert len(list(fetcher.images(rows, on_error="skip").batch(4, drop_last=True))) == 1
    assert np.array_equal(first.pixels[0], first.pixels[1])
    assert [type(item) is Failure for item in fetcher.images(rows, on_error="yield")].index(True) == 3


def test_an_error_ends_it_and_the_state_says_where(fetcher: blocking.Fetcher, paths: list[tuple[Path, int]]) -> None:
    broken: list[Any] = [*paths[:3], Path("/no/such/file"), *paths[3:]]
    stream = fetcher.entries(broken)
    with pytest.raises(ObjectNotFound, match="/no/such/file"):
        list(stream)
    assert list(stream) == []
    assert stream.state()["low"] == 3


def test_with_begins_and_ends_it(fetcher: blocking.Fetcher, paths: list[tuple[Path, int]]) -> None:
    with fetcher.entries(paths) as stream:
        assert next(stream).payload == 0
    assert list(stream) == []
    with fetcher.entries(Anew(paths)).batch(8) as batches:
        assert len(next(batches)) == 8
    assert list(batches) == []
    with pytest.raises(UsageError, match="has begun"):
        stream.take(1)


# An image hangs in the worker that sends the interrupt. What comes out is gathered by `extend`, which no interrupt can
# part from the iterator: a loop's own statements may come too late for an item that it was given.
INTERRUPTED = """
import os
from asyncfetch import blocking

photo = os.environ["PHOTO"]
count = 0

def hang(pixels):
    global count
    count += 1
    if count == 12:
        import os, signal, time
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(100)
    return pixels

def endless():
    while True:
        yield photo

with blocking.Fetcher(cache_dir="cache", workers=1) as fetcher:
    batches = fetcher.images(endless(), size=(16, 16), fit="exact", transform=hang).batch(4)
    seen = []
    try:
        seen.extend(batches)
    except KeyboardInterrupt:
        print(batches.state()["low"] == sum(map(len, seen)), len(seen) < 3, list(batches), flush=True)
print(repr(open(f"/proc/self/task/{os.getpid()}/children").read().strip()))
"""


def test_an_interrupt_ends_the_loop_and_says_what_was_handed_out(tmp_path: Path) -> None:
    _, photograph = next(photographs(1))
    (tmp_path / "a.jpg").write_bytes(photograph)
    assert program(INTERRUPTED, tmp_path, PHOTO=f"{tmp_path}/a.jpg") == ["True True []", "''"]


@pytest.mark.parametrize("form", [list, iter])
@pytest.mark.parametrize("batch", [0, 2])
def test_an_interrupt_at_any_moment_counts_what_the_consumer_got(
    fetcher: blocking.Fetcher, paths: list[tuple[Path, int]], form: Callable[[Any], Any], batch: int
) -> None:
    here = str(Path(blocking.__file__).parent), threading.__file__

    def opened() -> Any:
        return fetcher.entries(form(paths[:5]))

    def payloads_of(given: list[Any]) -> list[Any]:
        return [payload for one in given for payload in (one.payloads if batch else [one.payload])]

    at, over, ends = 0, False, set()
    while not over:
        at += 1
        stream = opened().batch(batch) if batch else opened()
        given: list[Any] = []
        over = not interrupted(partial(given.extend, stream), at, *here)
        got = payloads_of(given)
        ends.add(len(got))
        assert got + payloads(opened().resume(stream.state())) == [0, 1, 2, 3, 4], at
    assert ends == {*range(0, 5, batch or 1), 5}


def test_whole_bodies_and_what_a_function_makes_of_them(
    fetcher: blocking.Fetcher, paths: list[tuple[Path, int]]
) -> None:
    assert [int(body.data) for body in fetcher.bytes(paths)] == [number for _, number in paths]
    with fetcher.bytes(paths[:5]).map(lambda data: int(data) + 1) as mapped:
        assert [(item.payload, item.value) for item in mapped] == [(number, number + 1) for number in range(5)]


def test_all_steps_of_a_plan_are_there_with_the_same_parameters() -> None:
    for ours, theirs in ((blocking.Stream, asyncfetch.Stream), (blocking.Batches, asyncfetch.Batches)):
        public = {name for name in dir(theirs) if not name.startswith("_")} - {"aclose"}
        assert public <= {*dir(ours)}
        for name in public:
            assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name)), name


def parameters(function: object) -> dict[str, inspect.Parameter]:
    return {name: one.replace(annotation=None) for name, one in inspect.signature(function).parameters.items()}  # type: ignore[arg-type]
