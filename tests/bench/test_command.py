"""The command, run as its users run it, with few objects and the rows whose packages the tests bring."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.measure import Plan, measure
from bench.process import RowProcess
from bench.results import FIGURES, to_json
from bench.rows import Job
from bench.workloads import scenarios
from tests.bench.made import done, measured, results
from tests.cli import forks

ROOT = Path(__file__).parents[2]
ROWS = "us,aioboto3,boto3,floor-kept,floor"


def bench(*arguments: str | Path, without: tuple[str, ...] = ("matplotlib",)) -> subprocess.CompletedProcess[str]:
    """Runs it where some packages are not installed: most runs need no picture, whose package takes a second."""
    code = f"""if True:
        import runpy, sys
        sys.path.insert(0, {str(ROOT)!r})
        sys.modules.update(dict.fromkeys({without!r}))
        runpy.run_module("bench", run_name="__main__")
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    status, said, errors = forks.run(["-c", code, *map(str, arguments)], environment, b"")
    return subprocess.CompletedProcess(arguments, status, said.decode(), errors.decode())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def ran(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of one round of 16 photographs, and where they were written."""
    out, caches = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("caches")
    ended = bench(
        *("--workloads", "photos", "--plain", "--rows", ROWS, "--rounds", "1", "--scale", "0.004", "--json"),
        *("--server", "rclone", "--work", work, "--out", out, "--cache-on", caches, "--at-once", "4"),
        without=(),
    )
    assert ended.returncode == 0, ended.stderr
    assert list(caches.iterdir()) == []
    return json.loads(ended.stdout), out


def test_the_json_says_when_where_and_with_what(ran: Any) -> None:
    value, out = ran
    (written,) = out.glob("*.json")
    assert json.loads(written.read_text()) == value
    assert value["format"] == 1
    assert {"commit", "rounds", "seed", "server", "medium", "at_once"} <= value["settings"].keys()
    assert value["machine"]["cores"] >= 1
    assert {"cpu", "memory", "kernel"} <= value["machine"].keys()
    assert {"python", "uvloop", "aioboto3", "server"} <= value["versions"].keys()


def test_a_picture_lies_beside_the_json(ran: Any) -> None:
    _, out = ran
    pictures = [path.read_bytes()[:8] for path in out.glob("*.png")]
    assert pictures == ([b"\x89PNG\r\n\x1a\n"] if find_spec("matplotlib") else [])


def test_every_row_did_the_same_work_and_has_every_figure(ran: Any) -> None:
    (scenario,) = ran[0]["scenarios"]
    assert scenario["scenario"] == "photos"
    assert scenario["count"] == 16
    rows = scenario["rows"]
    assert list(rows) == ROWS.split(",")
    for name, row in rows.items():
        assert row["state"] == ("nothing to show" if name == "floor" else "done")
        (once,) = row["rounds"]
        assert once["proof"] == (None if name == "floor" else scenario["expected"])
        assert once["objects"] == 16
        assert once["bytes"] == rows["us"]["rounds"][0]["bytes"]
        assert row["figures"].keys() == FIGURES.keys()
        assert all(figure["median"] > 0 for figure in row["figures"].values())
        assert row["figures"]["peak_mb"]["median"] > 10  # a Python that has imported something


@pytest.mark.parametrize(
    "workloads", ["list,warm-entries,warm-bytes", "images-warm,images-cold,images-mixed,first-batch"]
)
def test_every_workload_of_ours_shows_what_it_must(work: Path, tmp_path: Path, workloads: str) -> None:
    rows = "us,us-files,us-boto,decoding"
    ended = bench(
        *("--workloads", workloads, "--plain", "--rows", rows, "--rounds", "1", "--scale", "0.01", "--json"),
        *("--server", "rclone", "--work", work, "--out", tmp_path, "--cache-on", tmp_path / "caches"),
    )
    assert ended.returncode == 0, ended.stderr
    found = {
        (scenario["scenario"], name): row["state"]
        for scenario in json.loads(ended.stdout)["scenarios"]
        for name, row in scenario["rows"].items()
    }
    assert set(found.values()) == {"done"}
    assert {(workload, "us") for workload in workloads.split(",")} <= found.keys()


def test_rounds_are_interleaved_and_each_has_a_directory_of_its_own(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that slows down would slow down one row, and a second round would find the first one's files."""
    started: list[tuple[str, str, list[str]]] = []

    class Watched(RowProcess):
        def __init__(self, row: str, job: Job, authority: Path) -> None:
            started.append((row, job.directory, os.listdir(job.directory)))
            super().__init__(row, job, authority)

    monkeypatch.setattr("bench.measure.RowProcess", Watched)
    rows, rounds = ["floor", "floor-kept"], 2
    plan = Plan(
        scenarios=scenarios(["small"], quick=False, scale=0.001, tls=False, disk=False),
        rows=rows,
        rounds=rounds,
        seed=1,
        server="rclone",
        work=work,
        medium=tmp_path,
        at_once=2,
    )
    measure(plan, lambda line: None, lambda results: None)
    orders = [[row for row, _, _ in started[first : first + 2]] for first in range(0, 2 * rounds, 2)]
    assert [sorted(order) for order in orders] == [rows] * rounds, "each round has every row, before the next begins"
    assert orders[0] != orders[1], "in an order that is drawn anew"
    assert len({directory for _, directory, _ in started}) == len(started) == 2 * rounds
    assert [left for _, _, left in started if left] == []
    assert list(tmp_path.iterdir()) == []


def test_over_tls_with_the_caches_on_disk_too(work: Path, tmp_path: Path) -> None:
    ended = bench(
        *("--workloads", "small", "--tls", "--disk", "--rows", "us,floor-kept", "--rounds", "1", "--scale", "0.002"),
        *("--server", "rclone", "--work", work, "--out", tmp_path, "--cache-on", tmp_path / "caches"),
    )
    assert ended.returncode == 0, ended.stderr
    assert "TLS" in ended.stdout
    assert "cache on disk" in ended.stdout
    assert "small-tls@disk" in ended.stderr


def test_what_is_not_installed_is_named(work: Path, tmp_path: Path) -> None:
    arguments = ["--workloads", "small", "--rows", "floor,aioboto3", "--rounds", "1", "--scale", "0", "--plain"]
    where = ("--server", "rclone", "--work", work, "--out", tmp_path)
    ended = bench(*arguments, *where, without=("aioboto3", "matplotlib"))
    assert ended.returncode == 0, ended.stderr
    assert "Not measured: aioboto3 (aioboto3 not installed)" in ended.stdout
    assert "no picture: matplotlib is not installed" in ended.stdout
    assert not list(tmp_path.glob("*.png"))


def test_the_targets_decide_the_exit_code(tmp_path: Path) -> None:
    good = results(measured("warm-entries", us=[done(seconds=100 / 16_000)]))
    bad = results(measured("warm-entries", us=[done(seconds=100 / 14_000)]))
    for made, code, verdict in ((good, 0, "OK"), (bad, 1, "MISSED"), (results(), 1, "What must hold")):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(to_json(made)))
        checked = bench("--from", path, "--check")
        assert (checked.returncode, verdict in checked.stdout) == (code, True)
        assert bench("--from", path).returncode == 0


def test_results_of_before_are_shown_with_their_failures(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    made = results(
        measured("photos", us=[done(), done(seconds=2)], obstore=[done(errors=2, first_error="OSError('x')")])
    )
    path.write_text(json.dumps(to_json(made)))
    shown = bench("--from", path)
    assert shown.returncode == 1
    assert "what photos is" in shown.stdout
    assert "75 50-100" in shown.stdout
    assert "obstore: errors: 100 of 100 objects; OSError('x')" in shown.stdout
    assert "s5cmd (s5cmd not installed)" in shown.stdout


def test_list_names_workloads_and_rows() -> None:
    listed = bench("--list")
    assert listed.returncode == 0
    for name in ("photos", "images-cold", "us", "s3torchconnector", "floor-kept"):
        assert name in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "us,nobody"], "no row is called 'nobody'"),
        (["--workloads", "nothing"], "no workload is called 'nothing'"),
        (["--server", "apache"], "apache is not installed"),
        (["--from", "/nonexistent/results.json"], "cannot be read as results"),
        (["--work", "/dev/null/x"], "Not a directory"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], said: str) -> None:
    ended = bench(*arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_terminated_it_keeps_what_is_complete_and_leaves_neither_process_nor_directory(
    work: Path, tmp_path: Path
) -> None:
    caches = tmp_path / "caches"
    arguments: list[str | Path] = [
        *(sys.executable, "-m", "bench", "--workloads", "small,list", "--plain", "--rows", "us,floor-kept"),
        *("--rounds", "2", "--scale", "0.01", "--server", "rclone"),
        *("--work", work, "--out", tmp_path / "out", "--cache-on", caches),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=environment) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if "list, round 2" in line:
                break
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        said = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert started
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    assert list(caches.iterdir()) == []
    assert not list(tmp_path.glob("asyncfetch-bench-*"))
    (written,) = (tmp_path / "out").iterdir()
    (scenario,) = json.loads(written.read_text())["scenarios"]
    assert scenario["scenario"] == "small"
    assert [len(row["rounds"]) for row in scenario["rows"].values()] == [2, 2]
    assert str(written) in said
    assert scenario["title"] in said
