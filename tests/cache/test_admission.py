"""How much may be added, and how much must go for it: a table, and what holds whatever the numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache.admission import SLACK, Level, Limits, room, to_free

NONE = Limits(None, None)
BOTH = Limits(6400, 1000)


@pytest.mark.parametrize(
    ("limits", "level", "expected"),
    [
        (NONE, Level(10**15), math.inf),
        (Limits(6400, None), Level(0), 6400),
        (Limits(6400, None), Level(6400), 0),
        (Limits(6400, None), Level(7000), -600),
        (Limits(None, 1000), Level(10**15, 1500), 500),
        (Limits(None, 1000), Level(0, 400), -600),
        (BOTH, Level(6000, 1200), 200),
        (BOTH, Level(6300, 5000), 100),
    ],
)
def test_room_is_what_the_tighter_limit_leaves(limits: Limits, level: Level, expected: float) -> None:
    assert room(limits, level) == expected


@pytest.mark.parametrize(
    ("limits", "level", "sizes", "expected"),
    [
        (NONE, Level(10**15), [10**15], 0),
        (Limits(6400, None), Level(0), [6400], 0),
        (Limits(6400, None), Level(6400), [1], 101),
        (Limits(6400, None), Level(6400), [], 0),
        (Limits(6400, None), Level(6500), [], 200),
        (Limits(6400, None), Level(6400), [6401], 0),  # would never fit, so nothing goes for it
        (Limits(6400, None), Level(6400), [6401, 50], 150),
        (Limits(6400, None), Level(6400), [4000, 4000], 6500),  # not both: no more than all
        (Limits(None, 1000), Level(0, 900), [50], 150),
        (BOTH, Level(100, 900), [50], 250),
    ],
)
def test_what_must_go(limits: Limits, level: Level, sizes: list[int], expected: int) -> None:
    assert to_free(limits, level, sizes) == expected


sizes = st.integers(0, 10**12)


@given(st.builds(Limits, st.none() | sizes, st.none() | sizes), sizes, sizes, st.lists(sizes, max_size=5))
def test_after_it_went_all_that_can_fit_does(limits: Limits, held: int, free: int, bodies: list[int]) -> None:
    freed = to_free(limits, Level(held, free), bodies)
    assert freed >= 0
    after = room(limits, Level(held - freed, free + freed))
    fitting = [size for size in bodies if limits.max_bytes is None or size <= limits.max_bytes]
    wanted = sum(fitting) if limits.max_bytes is None else min(limits.max_bytes, sum(fitting))
    assert after >= wanted
    if freed:
        before = room(limits, Level(held, free))
        assert before < wanted
        assert freed <= wanted - before + (limits.max_bytes or 0) * SLACK
