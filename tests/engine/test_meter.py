"""The verdict, as a table of which stage was busy how long."""

from __future__ import annotations

import pytest

from asyncfetch.engine.meter import Gauge, Snapshot, judge

BEFORE = Snapshot(
    at=100.0,
    cpu=5.0,
    lanes=10,
    lane_seconds=50.0,
    budget_seconds=0.0,
    held_seconds=0.0,
    cache_seconds=1.0,
    workers=2,
    decode_seconds=3.0,
    objects=7,
)


def after(**change: float) -> Snapshot:
    """Ten seconds later, with a hundred objects more."""
    changed = {name: getattr(BEFORE, name) + by for name, by in change.items()}
    return BEFORE._replace(at=110.0, objects=107, **changed)


@pytest.mark.parametrize(
    ("change", "waits", "stage"),
    [
        ({"lane_seconds": 95.0}, {}, "network"),
        ({"decode_seconds": 19.0, "lane_seconds": 95.0}, {}, "decode"),
        ({"cpu": 9.5, "lane_seconds": 95.0}, {}, "cpu"),
        ({"cache_seconds": 9.0, "lane_seconds": 20.0}, {}, "cache"),
        ({"budget_seconds": 7.0, "lane_seconds": 95.0}, {}, "budget"),
        ({"held_seconds": 8.0, "lane_seconds": 10.0}, {}, "throttled"),
        ({"decode_seconds": 19.0}, {"consumer": 9.0}, "consumer"),
        ({"lane_seconds": 10.0}, {"source": 8.0}, "source"),
        ({"lane_seconds": 10.0}, {}, "none"),
    ],
)
def test_the_stage_that_was_full_is_named(change: dict[str, float], waits: dict[str, float], stage: str) -> None:
    verdict = judge(BEFORE, after(**change), **waits)
    assert verdict.stage == stage
    assert str(verdict) == verdict.sentence
    assert verdict.sentence.endswith(".")


def test_without_a_full_stage_the_busiest_is_named() -> None:
    assert "decoding, at 50%" in judge(BEFORE, after(decode_seconds=10.0)).sentence


@pytest.mark.parametrize(
    ("lane_seconds", "room", "told"),
    [
        (50.0, 8, "2 more workers or"),  # lanes half as busy as workers: twice as many objects fill them
        (75.0, 8, "1 more worker or"),
        (99.0, 8, "1 more worker or"),
        (50.0, 2, "2 more workers (with cores for them: here are 2) or"),
        (0.0, 64, "14 more workers or"),  # and no further, however idle all else was
    ],
)
def test_decoding_says_how_many_more_workers_it_wants(
    lane_seconds: float, room: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncfetch.engine.meter.cores", lambda: room)
    sentence = judge(BEFORE, after(decode_seconds=20.0, lane_seconds=lane_seconds)).sentence
    assert sentence == f"Decoding held it back: 2 workers were 100% busy; {told} a smaller max_size would help."


def test_a_run_of_nothing_has_no_verdict() -> None:
    assert judge(BEFORE, BEFORE._replace(at=101.0)).stage == "none"


def test_a_gauge_is_the_integral_of_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("asyncfetch.engine.meter.perf_counter", lambda: now)
    gauge = Gauge()
    gauge.add(2)
    now = 3.0
    gauge.add(-1)
    now = 5.0
    assert gauge.read() == 2 * 3.0 + 1 * 2.0
    gauge.set(True)
    assert gauge.level == 1
    gauge.set(False)
    now = 9.0
    assert gauge.read() == 8.0
