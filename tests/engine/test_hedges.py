"""When an answer is late, and who gets a twin: from how long others have waited."""

from __future__ import annotations

import math

import pytest

from asyncfetch.engine.hedges import CROWD, LEAST, MOVED, RECENT, SAVED, SHARE, UNKNOWN, Hedges, size_class


def heard(waits: list[float], kind: int = 5) -> Hedges:
    hedges = Hedges()
    for waited in waits:
        hedges.heard(kind, waited)
    return hedges


def test_nothing_is_late_while_too_little_is_known() -> None:
    assert heard([0.1] * (RECENT - 1)).late_after(5) == math.inf
    assert heard([0.1] * RECENT).late_after(5) == 0.1
    assert heard([0.1] * RECENT).late_after(4) == math.inf, "of another size nothing is known"


def test_late_is_what_is_later_than_95_in_100_others_of_late() -> None:
    waits = [0.1 + place / 1000 for place in range(RECENT)]
    assert heard(waits).late_after(5) == pytest.approx(0.1 + RECENT * 0.95 / 1000, abs=0.001)
    assert heard([9.0] * 64 + [0.1] * 10 * RECENT).late_after(5) == 0.1


def test_a_fast_place_has_no_late_answers() -> None:
    assert heard([0.001] * RECENT).late_after(5) == LEAST


def test_stalls_of_one_in_a_hundred_do_not_move_what_is_late() -> None:
    waits = [2.0 if place % 100 == 7 else 0.1 for place in range(1000)]
    assert heard(waits).late_after(5) == 0.1


def test_it_is_suspended_when_the_median_moves_until_that_is_what_is_usual() -> None:
    hedges = heard([0.1] * 10 * RECENT)
    for _ in range(RECENT):
        hedges.heard(5, 0.1 * MOVED + 0.1)
    assert hedges.late_after(5) == math.inf
    for _ in range(20 * RECENT):
        hedges.heard(5, 0.1 * MOVED + 0.1)
    assert hedges.late_after(5) == pytest.approx(0.1 * MOVED + 0.1)


def test_twins_are_a_small_share_of_all_and_can_be_saved_up_a_little() -> None:
    hedges = heard([0.1] * 1000)
    assert hedges.grant(8, flying=64) == SAVED
    assert hedges.grant(8, flying=64) == 0
    granted = 0
    for _ in range(1000):
        hedges.heard(5, 0.1)
        granted += hedges.grant(1, flying=64)
    assert granted <= SHARE * 1000 + 1
    assert granted >= SHARE * 1000 - 1


def test_where_a_crowd_is_late_it_is_the_place_that_is_slow() -> None:
    hedges = heard([0.1] * 1000)
    assert hedges.grant(64 // CROWD + 1, flying=64) == 0
    assert hedges.grant(2, flying=2) == 0
    assert hedges.grant(1, flying=1) == 1


def test_sizes_are_told_apart_by_powers_of_sixteen() -> None:
    classes = [UNKNOWN, *(size_class(size) for size in (0, 1 << 10, 86_000, 1 << 20, 1 << 26))]
    assert classes == sorted(set(classes))
    assert size_class(70_000) == size_class(500_000)
