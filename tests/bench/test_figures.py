"""The targets of programs with stages of their own: which hold, what is said of each, and how the program ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import cache, footprint, together
from bench.report import hold_figures
from bench.targets import Figures, Target
from tests.cli.terminal import environment

PROGRAMS = {"cache": cache.TARGETS, "together": together.TARGETS, "footprint": footprint.TARGETS}
HELD: Figures = {
    "look": {"open_seconds": 0.5, "look_up_us": 20, "stats_seconds": 1, "memory_mb": 50},
    "recover": {"recover_seconds": 1},
    "evict": {"evict_seconds": 15, "hits_slower_by": 0.1},
    "prune": {"prune_seconds": 15, "hits_slower_by": 0.1},
    "half": {"hit_rate_at_half_size": 0.5},
    "together": {"surplus": 0.01, "ratio": 1.5},
    "footprint": {"share": 1.1},
}


def held_by(targets: tuple[Target[Figures], ...]) -> Figures:
    return {stage: HELD[stage] for target in targets for stage in target.scenarios}


@pytest.mark.parametrize("targets", PROGRAMS.values(), ids=PROGRAMS)
def test_what_the_issues_want_holds_and_more_of_any_figure_does_not(
    targets: tuple[Target[Figures], ...], capsys: pytest.CaptureFixture[str]
) -> None:
    held = held_by(targets)
    assert hold_figures(targets, held)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count(" OK") == len(targets) == sum(map(len, held.values()))
    for stage, figures in held.items():
        for name, value in figures.items():
            assert not hold_figures(targets, held | {stage: figures | {name: value * 1.03}})
            assert capsys.readouterr().err.count("MISSED") == 1
            assert not hold_figures(targets, held | {stage: {key: figures[key] for key in figures.keys() - {name}}})
            assert capsys.readouterr().err.count("NOT MEASURED") == 1


def test_a_hit_rate_is_between_two_limits_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert not hold_figures(cache.TARGETS, {"half": {"hit_rate_at_half_size": 0.48}})
    assert "49 to 51 %" in capsys.readouterr().err
    assert not hold_figures(cache.TARGETS, {}), "of nothing no target holds"


def test_a_cache_is_measured_and_held_to_its_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"ENTRIES": 128, "VICTIMS": 64, "ROUNDS": 1, "OBJECTS": 50, "ALONE_SECONDS": 0.01, "TURN_SECONDS": 0.1}
    for name, value in few.items():
        monkeypatch.setattr(cache, name, value)
    arguments = [str(tmp_path), "--only", "look,evict,prune,half"]
    code = cache.main([*arguments, "--check"])
    told = capsys.readouterr().err
    assert code == ("MISSED" in told)
    assert "NOT MEASURED" not in told
    assert "hits at half size" in told
    assert list(tmp_path.iterdir()) == []


def test_of_a_smaller_cache_no_target_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cache.main(["--entries", "10000", "--victims", "1000", "--check"])
    assert left.value.code == 2
    assert "--check is of 1,000,000 entries" in capsys.readouterr().err


def test_processes_together_are_measured_and_held_to_their_targets(tmp_path: Path) -> None:
    program = f"""
import sys
from bench import together
together.PROCESSES, together.OBJECTS, together.ROUNDS = 2, 50, 1
downloads, ratio = together.TARGETS
together.TARGETS = downloads, ratio._replace(most=0)
sys.exit(together.main([{str(tmp_path)!r}, "--check"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment()
    )
    assert (done.returncode, done.stderr.count("MISSED"), done.stderr.count(" OK")) == (1, 1, 1), done.stderr
    assert "0.00% downloaded twice" in done.stdout
