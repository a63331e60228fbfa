"""States: small, JSON, and exactly once per item whatever was in hand, in both orders and in any number of shards."""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asyncfetch import Entry, Failure, Fetcher
from asyncfetch.errors import ObjectNotFound, PlanMismatch, UsageError
from asyncfetch.streams.order import AsyncReading, digest_of, has_index, read
from asyncfetch.streams.plan import Epochs, Plan, Shard, Shuffle, Take
from asyncfetch.streams.progress import Checkpoint, Progress
from asyncfetch.streams.state import from_state, point_of, to_state
from tests.soak import examples
from tests.streams.orders import Anew, plan_of, slowly

Order = Literal["input", "completion"]


def advance(sources: Any, plan: Plan, states: Any, chances: st.DataObject, window: int) -> tuple[list[Any], Any]:
    """Goes on from states, hands out some of what a window of look-ahead gives in any order; what, and the state."""
    digest = plan.digest(digest_of(sources))
    point = Checkpoint() if states is None else point_of(states, plan, digest, indexed=has_index(sources))
    progress = Progress(point)
    reading = read(plan, sources, point, progress)
    assert not isinstance(reading, AsyncReading)
    under_way: list[Any] = []
    seen = []
    for _ in range(chances.draw(st.integers(0, 60))):
        while len(under_way) < window and (placed := next(reading, "over")) != "over":
            if placed is not None:
                under_way.append(placed)
        if not under_way:
            break
        place, index, source, mark = under_way.pop(chances.draw(st.integers(0, len(under_way) - 1)))
        assert index == source
        progress.passed([(place, mark)])
        seen.append(source)
    state = to_state(progress.checkpoint(digest, plan.shard, point.left_by), plan)
    return seen, json.loads(json.dumps(state))


def rest_of(sources: Any, plan: Plan, states: Any) -> list[Any]:
    point = point_of(states, plan, plan.digest(digest_of(sources)), indexed=has_index(sources))
    reading = read(plan, sources, point, Progress(point))
    assert not isinstance(reading, AsyncReading)
    return [placed[2] for placed in reading if placed is not None]


@given(
    length=st.integers(0, 40),
    seed=st.integers(0, 5),
    epochs=st.integers(1, 3),
    kind=st.sampled_from([list, Anew]),
    shard=st.sampled_from([Shard(), Shard(1, 3), Shard(2, 3, "pad"), Shard(0, 3, "drop")]),
    window=st.integers(1, 9),
    stops=st.integers(1, 4),
    data=st.data(),
)
def test_every_item_comes_exactly_once_through_any_number_of_stops(
    length: int, seed: int, epochs: int, kind: Any, shard: Shard, window: int, stops: int, data: st.DataObject
) -> None:
    sources = kind(range(length))
    shuffle = Shuffle(seed, window=5 if kind is Anew else None)
    plan = Plan().then(shuffle).then(shard).then(Epochs(epochs)).then(Take(50))
    seen: list[Any] = []
    state = None
    for _ in range(stops):
        found, state = advance(sources, plan, state, data, window)
        seen += found
    whole = read(plan, sources, Checkpoint(), Progress(Checkpoint()))
    assert not isinstance(whole, AsyncReading)
    assert Counter(seen + rest_of(sources, plan, state)) == Counter(placed[2] for placed in whole if placed)


@settings(max_examples=examples(80))
@given(
    length=st.integers(0, 40),
    epochs=st.integers(1, 3),
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    window=st.integers(1, 9),
    data=st.data(),
)
def test_any_number_of_shards_goes_on_from_any_other_and_every_item_comes_exactly_once(
    length: int, epochs: int, counts: list[int], window: int, data: st.DataObject
) -> None:
    sources = list(range(length))
    plan = Plan().then(Shuffle(3))
    seen: list[int] = []
    states: Any = None
    for count in counts:
        plans = [plan.then(Shard(index, count)).then(Epochs(epochs)) for index in range(count)]
        found = [advance(sources, each, states, data, window) for each in plans]
        seen += [source for handed_out, _ in found for source in handed_out]
        states = [state for _, state in found]
    assert Counter(seen + rest_of(sources, plan.then(Epochs(epochs)), states)) == Counter(sources * epochs)


@given(length=st.integers(0, 40), counts=st.tuples(st.integers(1, 5), st.integers(1, 5)), data=st.data())
def test_dropping_shards_in_another_number_are_equally_long_and_repeat_nothing(
    length: int, counts: tuple[int, int], data: st.DataObject
) -> None:
    sources = list(range(length))
    before, after = ([Plan().then(Shard(index, count, "drop")) for index in range(count)] for count in counts)
    found = [advance(sources, plan, None, data, 4) for plan in before]
    rests = [rest_of(sources, plan, [state for _, state in found]) for plan in after]
    seen = Counter(source for part in (*(seen for seen, _ in found), *rests) for source in part)
    assert max(seen.values(), default=1) == 1
    if counts[0] != counts[1]:
        assert len({len(rest) for rest in rests}) == 1
        assert length - len(seen) < counts[1]


@given(
    length=st.integers(1, 30),
    epochs=st.integers(1, 3),
    shuffle=st.sampled_from([None, Shuffle(2, window=5)]),
    shard=st.sampled_from([Shard(), Shard(1, 3), Shard(2, 3, "pad"), Shard(0, 3, "drop")]),
    data=st.data(),
)
def test_other_sources_are_refused_wherever_they_differ_in_what_was_handed_out_of_an_epoch(
    length: int, epochs: int, shuffle: Shuffle | None, shard: Shard, data: st.DataObject
) -> None:
    steps = [step for step in (shuffle, shard, Epochs(epochs)) if step is not None]
    plan = plan_of(*steps, sources=Anew(()))
    progress = Progress(Checkpoint())
    reading = read(plan, Anew(range(length)), Checkpoint(), progress)
    assert not isinstance(reading, AsyncReading)
    under_way = [placed for placed in itertools.islice(reading, data.draw(st.integers(1, 90))) if placed]
    taken = [placed for placed in under_way if data.draw(st.booleans())]
    progress.passed([(place, mark) for place, _, _, mark in taken])
    point = progress.checkpoint("", shard, ())
    assume(any(place >= point.start for place, *_ in taken))
    changed = data.draw(st.sampled_from([source for place, _, source, _ in taken if place >= point.start]))
    others: list[Any] = list(range(length))
    how = data.draw(st.sampled_from(["changed", "missing", "none"]))
    others = {
        "changed": [*others[:changed], "another", *others[changed + 1 :]],
        "missing": [*others[:changed], *others[changed + 1 :]],
        "none": [],
    }[how]
    again = read(plan, Anew(others), point, Progress(point))
    assert not isinstance(again, AsyncReading)
    with pytest.raises(PlanMismatch):
        pytest.fail(f"{next(placed for placed in again if placed)} came")


@pytest.mark.parametrize("begin", [0, 4], ids=["the first epoch", "the second"])
@pytest.mark.parametrize("handed_out", [[], [1, 2, 3]], ids=["nothing", "all but the first"])
def test_other_sources_are_refused_at_the_beginning_of_an_epoch(begin: int, handed_out: list[int]) -> None:
    plan = Plan().then(Epochs(2))
    gone = [*range(begin), *(begin + place for place in handed_out)]
    progress = Progress(Checkpoint())
    reading = read(plan, Anew("abcd"), Checkpoint(), progress)
    assert not isinstance(reading, AsyncReading)
    marks = {placed[0]: placed[3] for placed in reading if placed}
    progress.passed([(place, marks[place]) for place in gone])
    state = json.loads(json.dumps(to_state(progress.checkpoint("", Shard(), ()), plan)))
    assert state["low"] == begin
    point = from_state(state)
    again = read(plan, Anew("wxyz"), point, Progress(point))
    assert not isinstance(again, AsyncReading)
    seen = []
    with pytest.raises(PlanMismatch) if gone else nullcontext():
        seen += [placed for placed in again if placed]
    assert len(seen) == (0 if gone else 8)
    again = read(plan, Anew("abcd"), point, Progress(point))
    assert not isinstance(again, AsyncReading)
    assert [placed[0] for placed in again if placed] == [place for place in range(8) if place not in gone]


def paths(directory: Path, count: int, *, missing: Sequence[int] = ()) -> list[str]:
    made = [str(directory / f"{index:05d}") for index in range(count)]
    for index, path in enumerate(made):
        if index not in missing:
            Path(path).touch()
    return made


@pytest.mark.parametrize("order", ["input", "completion"])
@pytest.mark.parametrize("kind", [list, iter, slowly])
async def test_a_stream_goes_on_exactly_with_failures_in_between(
    tmp_path: Path, cache_dir: Path, order: Order, kind: Any
) -> None:
    names = paths(tmp_path, 60, missing=range(0, 60, 7))
    window = None if kind is list else 10
    seen: list[int] = []
    state: Any = None
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        for stop in (7, 1, 30, 60):
            stream = fetcher.entries(kind(names), order=order, on_error="yield").shuffle(1, window=window)
            if state is not None:
                stream = stream.resume(state)
            async with stream:
                async for item in stream:
                    assert isinstance(item, Failure) == (item.index % 7 == 0)
                    seen.append(item.index)
                    stop -= 1
                    if not stop:
                        break
            state = json.loads(json.dumps(stream.state()))
    assert sorted(seen) == list(range(60))
    assert state["low"] == 60
    assert state["above"] == ""


async def test_what_was_left_out_counts_and_what_was_raised_comes_again(tmp_path: Path, cache_dir: Path) -> None:
    names = paths(tmp_path, 6, missing=[1, 2, 4])
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(names, on_error="skip")
        assert [(await anext(stream)).index for _ in range(2)] == [0, 3]
        again = fetcher.entries(names).resume(stream.state())
        for _ in range(2):
            with pytest.raises(ObjectNotFound, match="00004"):
                await anext(again)
            again = fetcher.entries(names).resume(again.state())
        Path(names[4]).touch()
        assert [entry.index async for entry in again] == [4, 5]


async def test_the_state_of_a_stream_that_has_not_begun_is_its_beginning(tmp_path: Path, cache_dir: Path) -> None:
    names = paths(tmp_path, 5)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(names).shuffle(1)
        assert len([_ async for _ in fetcher.entries(names).shuffle(1).resume(stream.state())]) == 5
        await anext(stream)
        state = stream.state()
        assert fetcher.entries(names).shuffle(1).resume(state).state() == state


async def test_all_shards_go_on_in_another_number(tmp_path: Path, cache_dir: Path) -> None:
    names = paths(tmp_path, 50)

    async def some(fetcher: Fetcher, shard: Shard, states: Any, most: int) -> tuple[list[int], Any]:
        stream = fetcher.entries(names, order="completion").shuffle(2).shard(shard.index, shard.count).epochs(2)
        if states is not None:
            stream = stream.resume(states)
        seen = []
        async with stream:
            async for entry in stream:
                seen.append(entry.index)
                if len(seen) == most:
                    break
        return seen, stream.state()

    async with Fetcher(cache_dir=cache_dir) as fetcher:
        first = [await some(fetcher, Shard(index, 4), None, 9 * index) for index in range(4)]
        states = [state for _, state in first]
        second = [await some(fetcher, Shard(index, 3), states, 5 + index) for index in range(3)]
        states = [state for _, state in second]
        third = [await some(fetcher, Shard(index, 3), states, 1000) for index in range(3)]
    seen = Counter(index for part in (first, second, third) for indices, _ in part for index in indices)
    assert seen == Counter(dict.fromkeys(range(50), 2))


async def test_a_state_is_small_also_when_one_item_is_waited_for(tmp_path: Path) -> None:
    progress = Progress(Checkpoint())
    for place in range(1, 60_000):
        progress.passed([(place, None)])
    state = to_state(progress.checkpoint("digest", Shard(), ()), Plan())
    assert len(json.dumps(state)) < 1000
    assert point_of(state, Plan(), "digest", indexed=True).above == frozenset(range(1, 60_000))


async def test_a_state_of_another_plan_is_refused_by_name(tmp_path: Path, cache_dir: Path) -> None:
    names = paths(tmp_path, 10)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(names).shuffle(1).take(8)
        await anext(stream)
        state = stream.state()
        others = [
            fetcher.entries(names).shuffle(2).take(8),
            fetcher.entries(names).shuffle(1, 1).take(8),
            fetcher.entries(names).shuffle(1).take(7),
            fetcher.entries(names).take(8).shuffle(1),
            fetcher.entries(names),
            fetcher.entries([*names[:-1], names[0]]).shuffle(1).take(8),
            fetcher.entries(names[:-1]).shuffle(1).take(8),
        ]
        for other in others:
            with pytest.raises(PlanMismatch, match="another plan"):
                other.resume(state)
        labelled = fetcher.images([(name, "label") for name in names], color="gray").shuffle(1).take(8)
        assert labelled.resume(state).state() == state, "payloads and decoding are no part of the plan"
        with pytest.raises(UsageError, match="Resume at last"):
            labelled.resume(state).take(3)


@pytest.mark.parametrize("kind", [iter, slowly])
async def test_other_sources_without_an_index_are_noticed_before_an_item_comes(
    tmp_path: Path, cache_dir: Path, kind: Any
) -> None:
    names = paths(tmp_path, 10)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(kind(names))
        for _ in range(4):
            await anext(stream)
        state = stream.state()
        await stream.aclose()
        for others in ([names[1], names[0], *names[2:]], names[:3], []):
            with pytest.raises(PlanMismatch):
                await anext(fetcher.entries(kind(others)).resume(state))
        changed_later = fetcher.entries(kind([*names[:4], names[0]])).resume(state)
        assert [entry.index async for entry in changed_later] == [4]


@pytest.mark.parametrize("kind", [iter, slowly])
async def test_what_was_overtaken_comes_once_the_sources_are_known_to_be_the_same(
    tmp_path: Path, cache_dir: Path, kind: Any
) -> None:
    names = paths(tmp_path, 10)
    progress = Progress(Checkpoint())
    reading = read(Plan(), iter(names), Checkpoint(), progress)
    assert not isinstance(reading, AsyncReading)
    progress.passed([(placed[0], placed[3]) for placed in reading if placed and placed[0] in (1, 3, 6)])
    state = to_state(progress.checkpoint(Plan().digest(digest_of(iter(()))), Shard(), ()), Plan())
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        same = fetcher.entries(kind(names), look_ahead=2).resume(state)
        assert [entry.index async for entry in same] == [0, 2, 4, 5, 7, 8, 9]
        with pytest.raises(PlanMismatch, match="not those that were read"):
            await anext(fetcher.entries(kind([*names[:5], names[0], *names[6:]])).resume(state))
        with pytest.raises(PlanMismatch, match="end before"):
            await anext(fetcher.entries(kind(names[:6])).resume(state))


async def test_shards_that_cannot_be_divided_anew_say_so(tmp_path: Path, cache_dir: Path) -> None:
    names = paths(tmp_path, 10)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        kept = [fetcher.entries(names).shard(index, 3).state() for index in range(3)]
        padded = [fetcher.entries(names).shard(index, 3, uneven="pad").state() for index in range(3)]
        coming = [fetcher.entries(iter(names)).shard(index, 3).state() for index in range(3)]
        halves = [fetcher.entries(names).shard(index, 2).state() for index in range(2)]
        half = fetcher.entries(names).shard(0, 2)
        with pytest.raises(UsageError, match="Padded shards"):
            fetcher.entries(names).shard(0, 2, uneven="pad").resume(padded)
        with pytest.raises(UsageError, match="Padded shards"):
            fetcher.entries(names).shard(0, 2, uneven="pad").resume(kept)
        with pytest.raises(UsageError, match="without an index"):
            fetcher.entries(iter(names)).shard(0, 2).resume(coming)
        for some in (kept[:2], kept[1:], kept[0]):
            with pytest.raises(UsageError, match="All 3 shards"):
                half.resume(some)
        with pytest.raises(UsageError, match="several kinds"):
            half.resume([*kept, *halves])
        later = fetcher.entries(names).shard(1, 3).resume(halves).state()
        with pytest.raises(UsageError, match="did not go on from the same"):
            half.resume([kept[0], later, kept[2]])
        assert fetcher.entries(names).shard(1, 3, uneven="pad").resume(padded).state() == padded[1]
        with pytest.raises(PlanMismatch):
            fetcher.entries(names).shard(0, 2).take(3).resume(kept)


async def test_two_states_of_one_shard_are_refused(tmp_path: Path, cache_dir: Path) -> None:
    names = paths(tmp_path, 10)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        whole, stream = fetcher.entries(names), fetcher.entries(names).shard(1, 3)
        states = [fetcher.entries(names).shard(index, 3).state() for index in range(3)]
        old = [whole.state(), states[1]]
        await anext(whole)
        await anext(stream)
        with pytest.raises(UsageError, match=r"2 states of shard\(0, 1"):
            fetcher.entries(names).resume([old[0], whole.state()])
        for index, count in ((1, 3), (0, 3), (0, 2)):
            with pytest.raises(UsageError, match=r"2 states of shard\(1, 3.*the latest of each"):
                fetcher.entries(names).shard(index, count).resume([*states, stream.state()])


@pytest.mark.parametrize(
    "change",
    [
        {"low": -1},
        {"low": "5"},
        {"start": 9},
        {"epoch": True},
        {"above": "%%%"},
        {"above": base64.b64encode(b"no zlib").decode()},
        {"above": base64.b64encode(zlib.compress(bytes(32 << 20))).decode()},
        {"shard": [3, 3, "keep"]},
        {"shard": None},
        {"prefix": "xyz"},
        {"left_by": [{}]},
        {"before": "xyz"},
        {"version": 1},
    ],
    ids=str,
)
async def test_a_damaged_state_is_refused(cache_dir: Path, change: dict[str, Any]) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(["/etc/hostname"])
        with pytest.raises(UsageError):
            stream.resume({**stream.state(), **change})


@pytest.mark.parametrize("state", [None, {}, [], "state", 7, [None]])
async def test_what_is_no_state_is_refused(cache_dir: Path, state: Any) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(UsageError):
            fetcher.entries([]).resume(state)


async def test_a_substitute_is_an_item_like_any_other_to_the_state(tmp_path: Path, cache_dir: Path) -> None:
    from asyncfetch import Substitute

    names = paths(tmp_path, 4, missing=[1])
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(names, on_error=Substitute(lambda failure: "blank"))
        assert isinstance(await anext(stream), Entry)
        assert await anext(stream) == "blank"
        assert stream.state()["low"] == 2
