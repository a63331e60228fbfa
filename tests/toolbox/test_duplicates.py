"""Hashes that differ in few bits are found, all of them, and no others."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.toolbox.duplicates import MOST_DISTANCE, alike


def by_all_pairs(hashes: list[int], distance: int) -> list[int | None]:
    found: list[int | None] = []
    for index, one in enumerate(hashes):
        near = (at for at in range(index) if found[at] is None and (hashes[at] ^ one).bit_count() <= distance)
        found.append(next(near, None))
    return found


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=14)), max_size=30),
    st.integers(0, MOST_DISTANCE),
)
def test_it_says_what_comparing_all_pairs_would(
    seeds: list[int], changes: list[tuple[int, set[int]]], distance: int
) -> None:
    hashes = list(seeds)
    for index, bits in changes:
        if index < len(hashes):
            hashes.append(hashes[index] ^ sum(1 << bit for bit in bits))
    assert alike(hashes, distance) == by_all_pairs(hashes, distance)


def test_many_random_ones_are_alike_to_none() -> None:
    draw = random.Random(1)
    hashes = [draw.getrandbits(64) for _ in range(5000)]
    assert alike([*hashes, hashes[17] ^ 0b111], 3) == [None] * 5000 + [17]


def test_a_distance_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="distance"):
        alike([1], MOST_DISTANCE + 1)
