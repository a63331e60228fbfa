"""The shuffle without a table: every place once, another order for every key, none preferred."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

from hypothesis import example, given
from hypothesis import strategies as st

from asyncfetch.streams.permutation import Permutation


@given(length=st.integers(0, 3000), seed=st.integers(), epoch=st.integers(0, 10))
@example(length=999, seed=0, epoch=0)
@example(length=1000, seed=0, epoch=0)
def test_every_place_leads_to_another_index(length: int, seed: int, epoch: int) -> None:
    permutation = Permutation(length, seed, epoch)
    assert sorted(map(permutation, range(length))) == list(range(length))


@given(length=st.integers(1, 10**18), seed=st.integers(), data=st.data())
def test_any_length_is_as_good(length: int, seed: int, data: st.DataObject) -> None:
    permutation = Permutation(length, seed)
    places = data.draw(st.lists(st.integers(0, length - 1), max_size=20, unique=True))
    indices = [permutation(place) for place in places]
    assert len(set(indices)) == len(places)
    assert all(0 <= index < length for index in indices)


def test_the_order_is_the_same_in_every_version_and_on_every_machine() -> None:
    assert [Permutation(10, 7, 0)(place) for place in range(10)] == [8, 7, 2, 4, 1, 9, 0, 6, 5, 3]
    assert [Permutation(10**6, 7, 0)(place) for place in range(5)] == [400929, 757770, 620208, 819295, 9182]


def test_every_order_of_a_few_is_as_frequent_as_the_others() -> None:
    count = Counter(tuple(map(Permutation(5, seed), range(5))) for seed in range(12_000))
    # Chi-squared with 119 degrees of freedom: above 200 is less than one in 100,000.
    assert sum((count[order] - 100) ** 2 / 100 for order in permutations(range(5))) < 200


def test_neighbours_are_torn_apart() -> None:
    length = 5000
    permutation = Permutation(length, 1)
    steps = Counter((permutation(place) - permutation(place + 1)) % length for place in range(length - 1))
    assert max(steps.values()) < 12, "no distance between neighbours is preferred"
