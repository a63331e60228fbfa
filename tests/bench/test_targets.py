"""The targets on made-up results: which are held, and when they hold."""

import pytest

from bench.results import Measured, Results
from bench.targets import TARGETS, Checked, check
from bench.workloads import WORKLOADS
from tests.bench.made import done, measured, results


def value(made: Results, text: str) -> Checked:
    (found,) = [one for one in check(made) if text in one.target.text]
    return found


def test_a_rate_is_ours_over_theirs_and_cpu_is_theirs_over_ours() -> None:
    rows = {"us": [done(seconds=0.5, cpu=0.01)], "aioboto3": [done(seconds=4, cpu=0.07)], "obstore": [done(cpu=0.02)]}
    made = results(measured("photos", **rows))
    assert value(made, "plain HTTP: objects/s against aioboto3").value == pytest.approx(8)
    assert value(made, "plain HTTP: objects/s against aioboto3").verdict == "OK"
    assert value(made, "plain HTTP: CPU per object against aioboto3").value == pytest.approx(7)
    assert value(made, "plain HTTP: CPU per object against aioboto3").verdict == "MISSED"
    assert value(made, "obstore").value == pytest.approx(2)


def test_the_engine_is_what_we_take_above_the_floor_that_keeps() -> None:
    made = results(measured("photos", us=[done(cpu=0.0135)], floor_kept=[done(cpu=0.010)], floor=[done(proof=None)]))
    assert value(made, "engine").value == pytest.approx(35)
    assert value(made, "engine").verdict == "OK"


def test_the_best_peer_is_the_fastest_that_does_all_of_the_work() -> None:
    peers = {"obstore": [done(seconds=2)], "boto3": [done(seconds=4)], "s5cmd": [done(seconds=0.1)]}
    floors = {"floor_kept": [done(seconds=0.2)], "floor": [done(seconds=0.2, proof=None)]}
    made = results(measured("large", us=[done(seconds=1, peak_memory=200_000_001)], **peers, **floors))
    assert value(made, "best peer").value == pytest.approx(2)
    assert value(made, "peak memory").verdict == "MISSED"


def test_cold_images_are_held_against_decoding_on_what_the_server_left_of_the_cores() -> None:
    # 100 images in 1 s, the server on a core for half of it: of 2 cores 75 % are left, and bare decoding does 200/s.
    rows = {"us": [done(seconds=1, server_cpu=0.5)], "decoding": [done(seconds=0.5)]}
    found = value(results(measured("images-cold", **rows)), "images, cold")
    assert found.value == pytest.approx(100 / 150)
    assert found.verdict == "MISSED"


def test_of_what_did_not_run_nothing_is_said_and_of_a_row_that_is_missing_that_it_was_not_measured() -> None:
    found = check(results(measured("warm-bytes", us=[done()], diskcache=[done(seconds=2)])))
    assert [(one.verdict, one.value) for one in found] == [("OK", 2.0), ("NOT MEASURED", None)]
    assert check(results()) == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.text)
def test_every_target_is_of_a_scenario_that_is_run_and_of_rows_there(target: object) -> None:
    every = {
        name: [done()]
        for name in ("us", "aioboto3", "obstore", "s3fs", "diskcache", "decoding", "dataloader", "spdl", "floor_kept")
    }
    names = [name for workload in WORKLOADS.values() for name in (workload.name, f"{workload.name}-tls")]
    everything: list[Measured] = [measured(name, **every) for name in names]
    (found,) = [one for one in check(results(*everything)) if one.target == target]
    assert found.value is not None
    assert found.verdict in ("OK", "MISSED")
