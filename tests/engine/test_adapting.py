"""How many at once, and how many a second: window and pace against simulated places, of which all is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.engine.descriptors import EACH, OTHERS, free_descriptors, most_at_once
from asyncfetch.engine.pace import Pace
from asyncfetch.engine.places import Place
from asyncfetch.engine.window import LOOK_AGAIN, START, Window
from tests.engine.simulated import Model, Outcome, new, run, together
from tests.soak import examples


def fixed(model: Model, limit: int, seconds: float) -> float:
    """What a window that never moves brings."""
    place = Place("fixed", most=limit, patience=300.0, now=0.0)
    place.window.limit = limit
    return run(model, seconds, start=place).rate


@pytest.mark.parametrize("latency", [0.001, 0.01, 0.1, 0.5])
def test_where_latency_is_all_it_climbs_to_what_it_was_given(latency: float) -> None:
    assert run(Model(latency=latency), 10.0, most=64).limit == 64


@pytest.mark.parametrize("service", [0.00015, 0.001, 0.005])
@pytest.mark.parametrize("latency", [0.001, 0.03, 0.2])
def test_it_brings_what_the_best_fixed_number_would(service: float, latency: float) -> None:
    model = Model(latency=latency, service=service)
    best = max(fixed(model, limit, 4.0) for limit in (4, 16, 64, 256))  # as much in each second
    assert run(model, 20.0, most=256).rate >= 0.9 * best


def test_it_stops_climbing_where_more_bring_no_more() -> None:
    assert run(Model(latency=0.001, service=0.001), 10.0, most=10_000).limit <= 8 * START


def test_it_steps_back_from_what_makes_it_worse() -> None:
    model = Model(latency=0.01, service=0.001, thrash=40)
    assert run(model, 10.0, most=1000).limit <= 40


def test_it_climbs_to_64_in_the_first_tenth_of_a_second_of_a_fast_server() -> None:
    assert run(Model(latency=0.001, service=0.00015), 0.1, most=64).limit == 64


def test_each_answer_of_a_climb_brings_one_more_until_twice_as_many_are_out() -> None:
    window = Window(1000, 0.0)
    window.full = True
    assert all(window.answered(0.001) for _ in range(START))
    assert not window.answered(0.001), "a round is no shorter than packets can be told apart"
    assert window.limit == 2 * START
    window.answered(1.0)
    assert not window.answered(1.0), "a new round, of which nobody was kept waiting yet"
    window.full = True
    assert window.answered(1.0)


def test_a_fixed_window_is_what_it_was_given_from_its_first_request_to_its_last() -> None:
    window = Window(128, 0.0, fixed=True)
    assert window.limit == 128
    for turn in range(1, 1000):
        window.full = True
        assert not window.answered(turn * 10 * LOOK_AGAIN / 1000)
    window.throttled(11.0)
    assert window.limit == 128
    window.restart(12.0)
    assert window.limit == 128


def test_what_is_not_full_says_nothing() -> None:
    window = Window(64, 0.0)
    for turn in range(10_000):
        assert not window.answered(turn * 0.01)
    assert window.limit == START


def test_a_settled_window_looks_again_and_finds_what_has_become_possible() -> None:
    place = Place("simulated", most=256, patience=300.0, now=0.0)
    assert run(Model(latency=0.002, service=0.002), 5.0, start=place).limit < 256
    place.flying = 0
    outcome = run(Model(latency=0.2), 10 * LOOK_AGAIN, start=place)
    assert outcome.limit == 256


LATENCIES = [0.002, 0.02, 0.08]


@pytest.mark.parametrize("burst", [20, 50, 200])
@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("stalls", [0.0, 0.05])
@pytest.mark.parametrize("quick", [False, True])
def test_a_rate_limit_is_used_and_seldom_met(latency: float, burst: int, stalls: float, quick: bool) -> None:
    for seed in range(2):
        model = Model(latency=latency, service=0.0003, rate=500, burst=burst, stalls=stalls, quick=quick)
        outcome = run(model, 8.0, seed=seed)
        assert outcome.granted >= 0.9 * 500 * 8
        assert outcome.refused < 0.05 * (outcome.granted + outcome.refused)


@pytest.mark.parametrize("rate", [100, 1000, 5500])
@pytest.mark.parametrize("latency", [0.002, 0.02])
def test_whatever_the_limit_is(rate: int, latency: float) -> None:
    outcome = run(Model(latency=latency, service=0.0001, rate=rate), 20.0, most=256)
    assert outcome.granted >= 0.9 * rate * 20
    # With all that were out when it was met first, which is more than a slow one grants in a second.
    assert outcome.refused < 0.05 * (outcome.granted + outcome.refused) + 256


@pytest.mark.parametrize("rate", [500, 1000])
@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize(("later", "quick"), [(0.0, True), (3.0, False)])
def test_two_processes_share_a_limit(rate: int, latency: float, later: float, quick: bool) -> None:
    model = Model(latency=latency, service=0.0003, rate=rate, stalls=0.03, quick=quick)
    outcomes = together(model, 30.0, [new(), new()], begin=later)
    granted, refused = (sum(figures) for figures in list(zip(*outcomes, strict=True))[:2])
    assert granted >= 0.9 * rate * 30
    assert refused < 0.05 * (granted + refused)
    assert min(outcome.rate for outcome in outcomes) >= 0.2 * rate, "neither starves"


def test_it_brings_what_the_best_fixed_number_does_against_a_limit_too() -> None:
    model = Model(latency=0.02, service=0.0003, rate=500)
    best = max(fixed(model, limit, 20.0) for limit in (4, 8, 16, 64))
    assert run(model, 20.0).rate >= 0.9 * best


def test_a_limit_that_goes_away_is_forgotten() -> None:
    place = Place("simulated", most=64, patience=300.0, now=0.0)
    run(Model(latency=0.02, rate=300), 5.0, start=place)
    assert place.pace.rate < 400
    place.flying = 0
    place.restart(0.0)
    assert not place.pace.busy

    limited = Place("simulated", most=64, patience=300.0, now=0.0)
    first = run(Model(latency=0.02, rate=300), 5.0, start=limited)
    assert first.rate < 330
    limited.flying = 0
    assert _later(Model(latency=0.02), 25.0, limited).rate > 2000


def _later(model: Model, seconds: float, place: Place) -> Outcome:
    """Goes on with a place at time 0: what it remembers lies in the past."""
    place.pace.since -= 5.0
    place.pace.opens_at -= 5.0
    place.window._since -= 5.0
    place.window._look_at -= 5.0
    return run(model, seconds, start=place)


@pytest.mark.parametrize("share", [0.001, 0.005, 0.01])
def test_a_503_now_and_then_is_no_limit(share: float) -> None:
    outcome = run(Model(latency=0.01, hiccups=share), 20.0)
    assert outcome.rate >= 0.95 * 64 / 0.01


def test_it_halves_and_creeps_up_again() -> None:
    window = Window(64, 0.0)
    window.limit = 64
    window.throttled(1.0)
    assert window.limit == 32
    now, seen = 1.0, []
    for _ in range(2000):
        now += 0.01
        window.full = True
        if window.answered(now):
            seen.append(window.limit)
        if window.limit == 64:
            break
    assert seen[:3] == [36, 40, 45]


def test_a_pace_lets_through_what_it_says() -> None:
    pace = Pace()
    pace.keep(500.0, 10.0)
    rate = pace.rate
    assert 450 < rate < 500
    sent, now = 0, 10.0
    while now < 11.0:
        now += 0.0001
        while pace.opens_at <= now:
            pace.sent(now)
            sent += 1
    assert sent == pytest.approx(rate, rel=0.05)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0001, 5.0)), max_size=400), st.integers(1, 300))
@settings(max_examples=examples(40))
def test_whatever_is_answered_it_stays_in_its_bounds(answers: list[tuple[bool, float]], most: int) -> None:
    place, now = Place("any", most=most, patience=300.0, now=0.0), 0.0
    for granted, lasted in answers:
        place.window.full = True
        sent, now = now, now + lasted
        if granted:
            place.answered(now, sent, 1, "key")
        else:
            place.refused(now, sent, "key")
        assert 1 <= place.window.limit <= most
        assert place.pace.rate >= 1.0
        assert place.pace.opens_at <= now + 1.0, "it is never closed for more than a second"


@pytest.mark.parametrize(
    ("concurrency", "free", "most"),
    [(64, 1000, 64), (64, OTHERS + 20 * EACH, 20), (64, 10, 1), (10_000, 1 << 20, 10_000)],
)
def test_no_more_than_there_are_descriptors_for(concurrency: int, free: int, most: int) -> None:
    assert most_at_once(concurrency, free) == most


def test_this_process_may_open_some_files() -> None:
    before = free_descriptors()
    with open("/dev/null"):
        assert free_descriptors() == before - 1
