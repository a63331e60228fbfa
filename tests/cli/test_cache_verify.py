"""`asyncfetch cache verify`: what it finds, how it ends, and that jobs may run beside it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.kept import told
from tests.cli.terminal import COMMAND, asyncfetch, environment, on_a_terminal
from tests.objects import Bucket


@pytest.fixture
def damaged(cached: Bucket, cache_dir: Path) -> Path:
    """The one blob of 3,000 bytes, a byte of which has turned."""
    (path,) = [path for path in cache_dir.glob("v1/blobs/*/*/*") if path.stat().st_size == 3000]
    path.write_bytes(b"y" + path.read_bytes()[1:])
    return path


def test_a_cache_that_is_well_ends_with_0(cached: Bucket) -> None:
    done = asyncfetch("cache", "verify")
    assert (done.code, done.out) == (0, b"")
    assert "4 blobs, 6.01 kB read" in done.err
    (found,) = told("verify")
    assert (found["blobs"], found["blob_bytes"], found["troubles"], found["kinds"]) == (4, 6006, 0, {})


def test_damage_ends_with_1_and_is_set_right_and_fetched_anew(cached: Bucket, damaged: Path, cache_dir: Path) -> None:
    done = asyncfetch("cache", "verify")
    assert done.code == 1
    assert done.out.decode().startswith(f"damaged: {damaged} holds other bytes")
    trouble, found = told("verify", "--repair", code=1)
    assert (trouble["kind"], trouble["name"], trouble["mended"]) == ("damaged", str(damaged), True)
    assert (found["troubles"], found["mended"], found["kinds"]) == (1, 1, {"damaged": 1})
    assert len(list((cache_dir / "v1" / "bad").iterdir())) == 1
    assert told("verify")[-1]["troubles"] == 0
    cached.server.reset_counts()
    assert asyncfetch("get", cached.uri("photos/2024/2.jpg"), "-o", "-").out == b"x" * 3000
    assert cached.bodies() == 1


def test_it_draws_a_bar_on_a_terminal(cached: Bucket, damaged: Path) -> None:
    drawn = on_a_terminal("cache", "verify")
    assert "━" in drawn
    assert "4/4" in drawn
    assert "damaged" in drawn


def test_its_help_lists_its_steps() -> None:
    shown = asyncfetch("cache", "verify", "--help").out.decode()
    assert all(f" {step}. " in shown for step in range(1, 6))


def test_jobs_that_fill_read_and_clear_meanwhile_are_no_trouble(cached: Bucket) -> None:
    for number in range(30):
        cached.put(f"more/{number}", os.urandom(5000))
    script = "for _ in 1 2; do {0} prefetch {1} -q; {0} cache clear -q; done; {0} prefetch {1} -q".format(
        " ".join(COMMAND), cached.uri()
    )
    with subprocess.Popen(["/bin/sh", "-e", "-c", script], env=environment(), stderr=subprocess.PIPE) as job:
        rounds = 0
        while job.poll() is None or not rounds:
            rounds += 1
            for repair in ([], ["--repair"]):
                found = told("verify", *repair)
                assert found[-1]["troubles"] == 0
        assert job.stderr is not None
        assert (job.returncode, job.stderr.read()) == (0, b"")
    assert told("stats")[0]["objects"] == 35
