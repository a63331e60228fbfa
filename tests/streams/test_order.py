"""Plans over sources with an index and over those that only come: every item where it belongs."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import UsageError
from asyncfetch.streams.plan import Deal, Epochs, Plan, Shard, Shuffle, Step, Take, Uneven
from tests.streams.orders import Anew, ordered, placed, plan_of

lengths = st.integers(0, 200)
counts = st.integers(1, 12)
kinds = st.sampled_from([list, Anew])
unevens = st.sampled_from(get_args(Uneven))


def shuffle(sources: Any, seed: int, epoch: int = 0) -> Shuffle:
    return Shuffle(seed, epoch, None if isinstance(sources, list) else 16)


@given(kind=kinds, length=lengths, seed=st.integers())
def test_a_shuffle_gives_each_source_once_with_its_own_index(kind: Any, length: int, seed: int) -> None:
    sources = kind(range(length))
    found = placed(sources, shuffle(sources, seed))
    assert [place for place, _, _ in found] == list(range(length))
    assert sorted(source for _, _, source in found) == list(range(length))
    assert all(index == source for _, index, source in found)


@given(kind=kinds, length=lengths, count=counts, seed=st.integers(), shuffled_first=st.booleans())
def test_shards_that_keep_are_a_partition(kind: Any, length: int, count: int, seed: int, shuffled_first: bool) -> None:
    sources = kind(range(length))
    shares = []
    for index in range(count):
        steps: list[Step] = [shuffle(sources, seed), Shard(index, count)]
        shares.append(ordered(sources, *(steps if shuffled_first else reversed(steps))))
    assert sorted(source for share in shares for source in share) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(kind=kinds, length=lengths, count=counts, seed=st.integers())
def test_padded_shards_are_equally_long_and_repeat_no_more_than_they_must(
    kind: Any, length: int, count: int, seed: int
) -> None:
    sources = kind(range(length))
    shares = [ordered(sources, shuffle(sources, seed), Shard(index, count, "pad")) for index in range(count)]
    assert {len(share) for share in shares} == {-(-length // count)}
    seen = Counter(source for share in shares for source in share)
    assert set(seen) == set(range(length))
    assert sum(seen.values()) - length < count or not length


@given(kind=kinds, length=lengths, count=counts, seed=st.integers())
def test_shards_that_drop_are_equally_long_and_leave_out_no_more_than_they_must(
    kind: Any, length: int, count: int, seed: int
) -> None:
    sources = kind(range(length))
    shares = [ordered(sources, shuffle(sources, seed), Shard(index, count, "drop")) for index in range(count)]
    assert {len(share) for share in shares} == {length // count}
    assert max(Counter(source for share in shares for source in share).values(), default=1) == 1


@given(length=lengths, count=counts, index=st.integers(0, 11), uneven=unevens, take=st.integers(0, 100))
def test_a_shard_of_what_comes_is_the_shard_by_index(
    length: int, count: int, index: int, uneven: Uneven, take: int
) -> None:
    steps = (Take(take), Shard(index % count, count, uneven), Take(7), Epochs(2), Take(9))
    assert placed(Anew(range(length)), *steps) == placed(list(range(length)), *steps)


@given(kind=kinds, length=st.integers(1, 50), seed=st.integers(), epoch=st.integers(0, 3))
def test_each_epoch_is_the_shuffle_of_its_number(kind: Any, length: int, seed: int, epoch: int) -> None:
    sources = kind(range(length))
    found = ordered(sources, shuffle(sources, seed, epoch), Epochs(3))
    each = [ordered(sources, shuffle(sources, seed, epoch + number)) for number in range(3)]
    assert found == [source for one in each for source in one]


def test_epochs_differ_and_seeds_differ() -> None:
    orders = {tuple(ordered(list(range(50)), Shuffle(seed, epoch))) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_a_window_holds_an_item_back_no_further_than_it_must() -> None:
    found = ordered(Anew(range(1000)), Shuffle(3, window=50))
    assert found != sorted(found)
    assert all(place >= source - 50 for place, source in enumerate(found)), "nothing comes before it was read"


def test_take_counts_within_an_epoch_before_epochs_and_in_all_after_them() -> None:
    sources = list(range(5))
    assert ordered(sources, Take(2), Epochs(3)) == [0, 1, 0, 1, 0, 1]
    assert ordered(sources, Epochs(3), Take(7)) == [0, 1, 2, 3, 4, 0, 1]
    assert ordered(sources, Epochs(None), Take(7)) == [0, 1, 2, 3, 4, 0, 1]
    assert ordered(sources, Epochs(0)) == []


@pytest.mark.parametrize("kind", [list, Anew])
@pytest.mark.parametrize("steps", [(), (Take(0),), (Shard(3, 4),), (Shard(3, 4, "pad"),)])
def test_endless_epochs_over_nothing_end(kind: Any, steps: tuple[Step, ...]) -> None:
    sources = kind(range(3 if steps and not isinstance(steps[0], Shard) else 0))
    assert ordered(sources, *steps, Epochs(None)) == []


def test_what_take_leaves_is_not_read() -> None:
    def numbers() -> Any:
        yield from range(3)
        raise AssertionError

    assert ordered(numbers(), Take(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("sources", "steps", "what"),
    [
        ([], (Shuffle(1), Shuffle(2)), "two of shuffle"),
        ([], (Shard(0, 2), Shard(0, 2)), r"two of shard.*rank \* workers \+ worker"),
        ([], (Epochs(2), Epochs(2)), "epochs comes before epochs"),
        ([], (Epochs(2), Shuffle(1)), "shuffle comes before epochs"),
        ([], (Epochs(2), Shard(0, 2)), "shard comes before epochs"),
        (iter([]), (Shuffle(1),), "list_iterator has no index.*window="),
        ([], (Shuffle(1, window=5),), "list is shuffled whole"),
        (iter([]), (Epochs(2),), "can be read once"),
        (iter([]), (Epochs(None),), "can be read once"),
    ],
)
def test_what_means_nothing_is_refused_by_name(sources: Any, steps: tuple[Step, ...], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        plan_of(*steps, sources=sources)


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (lambda: Shard(4, 4), "no shard 4 of 4.*0 to 3"),
        (lambda: Shard(-1, 4), "index must be"),
        (lambda: Shard(0, 0), "count must be"),
        (lambda: Shard(0, 2, "even"), "'keep', 'pad' or 'drop'"),  # type: ignore[arg-type]
        (lambda: Take(-1), "n must be"),
        (lambda: Take(True), "n must be"),
        (lambda: Epochs(-1), "n must be"),
        (lambda: Shuffle(1.5), "seed must be"),  # type: ignore[arg-type]
        (lambda: Shuffle(1, -1), "epoch must be"),
        (lambda: Shuffle(1, window=0), "window must be"),
    ],
)
def test_numbers_out_of_range_are_refused(step: Any, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        step()


def test_a_plan_prints_one_line_a_step() -> None:
    plan = Plan().then(Shuffle(7)).then(Shard(1, 4, "pad")).then(Take(9)).then(Epochs(None))
    assert str(plan).splitlines() == ["shuffle(7, epoch=0)", 'shard(1, 4, uneven="pad")', "take(9)", "epochs()"]
    assert str(Shuffle(-1, 2, 5)) == "shuffle(-1, epoch=2, window=5)"


@pytest.mark.parametrize("kind", [list, Anew])
@given(length=st.integers(0, 60), count=st.integers(1, 5), n=st.integers(1, 7))
def test_hands_in_turn_give_the_runs_of_the_whole(kind: Any, length: int, count: int, n: int) -> None:
    whole = ordered(kind(range(length)))
    hands = [ordered(kind(range(length)), Deal(index, count, n)) for index in range(count)]
    assert [Deal(index, count, n).length(length) for index in range(count)] == [len(hand) for hand in hands]
    dealt = []
    for turn in range(-(-length // n)):
        hand = hands[turn % count]
        dealt += hand[turn // count * n : (turn // count + 1) * n]
    assert dealt == whole
    with pytest.raises(UsageError, match="no hand"):
        Deal(count, count, n)
