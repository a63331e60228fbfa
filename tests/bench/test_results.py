"""Medians, spreads, ratios and how rows fare, on made-up rounds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results import FIGURES, Measured, Round, from_json, ratio, spread, state, to_json, why
from tests.bench.made import done, measured, results


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=9))
def test_a_spread_is_the_middle_and_the_ends_of_the_rounds(seconds: list[float]) -> None:
    found = spread(measured("photos", us=[done(seconds=one) for one in seconds]), "us", "objects_per_s")
    rates = sorted(100 / one for one in seconds)
    assert found is not None
    assert (found.least, found.most) == (rates[0], rates[-1])
    middle = len(rates) // 2
    assert found.median == pytest.approx(rates[middle] if len(rates) % 2 else (rates[middle - 1] + rates[middle]) / 2)


def test_figures_are_in_the_units_of_their_names() -> None:
    figures = {name: figure(done(seconds=2.0)) for name, figure in FIGURES.items()}
    assert figures == pytest.approx(
        {
            "seconds": 2,
            "objects_per_s": 50,
            "mb_per_s": 0.05,
            "cpu_us_per_object": 1000,
            "cpu_s_per_gb": 1000,
            "own_cpu_us_per_object": 500,
            "server_cpu_us_per_object": 200,
            "peak_mb": 50,
        }
    )


def test_a_ratio_is_of_medians_and_to_us() -> None:
    one = measured(
        "photos", us=[done(seconds=1), done(seconds=2), done(seconds=4)], obstore=[done(seconds=4)] * 3, litdata=[]
    )
    assert ratio(one, "us", "objects_per_s") == 1
    assert ratio(one, "obstore", "objects_per_s") == 0.5
    assert ratio(one, "litdata", "objects_per_s") is None
    assert ratio(one, "s5cmd", "objects_per_s") is None
    assert ratio(measured("photos", obstore=[done()]), "obstore", "objects_per_s") is None


@pytest.mark.parametrize(
    ("rounds", "fared", "said"),
    [
        ([done(), done()], "done", ""),
        ([done(proof=None)], "nothing to show", ""),
        ([done(), done(proof=None)], "different work", "bytes"),
        ([done(), done(proof="other")], "different work", "bytes"),
        ([done(), done(objects=99)], "errors", "99 of 100"),
        ([done(errors=1, first_error="OSError()")], "errors", "OSError()"),
        ([done(), Round(1, failure="ImportError: x")], "failed", "ImportError: x"),
    ],
)
def test_a_row_has_figures_only_if_it_did_all_of_the_work(rounds: list[Round], fared: str, said: str) -> None:
    one = measured("photos", us=[done()], obstore=rounds)
    assert state(one, "obstore") == fared
    assert said in why(one, "obstore")
    assert (spread(one, "obstore", "peak_mb") is not None) == (fared in ("done", "nothing to show"))


def test_where_nobody_knows_the_proof_before_the_rows_are_held_against_most_of_them() -> None:
    rows = {"us": [done(), done()], "decoding": [done()], "dataloader": [done(proof="other")]}
    one = Measured("images-warm", "", 100, rows, None)
    assert [state(one, row) for row in rows] == ["done", "done", "different work"]


def test_what_the_objects_are_is_not_for_the_rows_to_vote_on() -> None:
    one = measured("photos", us=[done()], obstore=[done(proof="other")] * 3, boto3=[done(proof="other")] * 3)
    assert [state(one, row) for row in one.rows] == ["done", "different work", "different work"]


def test_json_gives_back_what_it_was_made_of_with_figures_beside() -> None:
    made = results(
        measured("photos", us=[done(0), done(1, seconds=3)], floor=[done(proof=None)]), measured("small", us=[])
    )
    value = json.loads(json.dumps(to_json(made)))
    assert from_json(value) == made
    us = value["scenarios"][0]["rows"]["us"]
    assert us["state"] == "done"
    assert us["figures"]["objects_per_s"] == pytest.approx(
        {"median": 66.667, "least": 33.333, "most": 100, "ratio_to_us": 1}, rel=1e-4
    )
    assert [one["seconds"] for one in us["rounds"]] == [1.0, 3.0]


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 99"):
        from_json(to_json(results()) | {"format": 99})
