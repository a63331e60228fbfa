"""Several processes in one cache, some of them killed: what can be read is whole, what was promised is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak import SECONDS, Soak

from .helpers import blobs, check_blobs

ROOT = Path(__file__).parents[2]


def zygote(*arguments: object, seconds: float = 110) -> dict[str, int]:
    result = subprocess.run(
        [sys.executable, "-m", "tests.cache.zygote", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert result.returncode == 0
    told: dict[str, int] = json.loads(result.stdout)
    return told


@pytest.mark.timeout(120)
def test_killed_at_any_moment_nothing_read_is_torn_and_nothing_promised_is_lost(tmp_path: Path, soak: Soak) -> None:
    result = zygote("kill", tmp_path / "cache", soak.kills, 20240607, seconds=max(110, 1.5 * soak.kills))
    assert result["killed"] > soak.kills / 3
    assert result["objects"] > soak.kills


@pytest.mark.timeout(120)
def test_killed_at_each_file_operation_what_is_left_is_whole_and_accounted_for(tmp_path: Path, soak: Soak) -> None:
    """Publish, evict, clear, change the index: with one in so many of their calls, or with all of them."""
    stride = soak.kill_stride
    result = zygote("each", tmp_path / "cache", stride, stride // 2, seconds=max(110, SECONDS / stride))
    assert result["killed"] > 300 / stride


@pytest.mark.timeout(120)
def test_eight_that_jostle_in_a_small_cache_read_only_what_is_right(tmp_path: Path, soak: Soak) -> None:
    result = zygote("stress", tmp_path / "cache", soak.jostles, 7, seconds=max(110, 5 * soak.jostles))
    assert result["killed"] <= soak.jostles


@pytest.mark.timeout(120)
def test_processes_that_start_together_share_one_cache(tmp_path: Path) -> None:
    result = zygote("together", tmp_path / "cache", 4)
    assert result == {"failed": 0, "objects": 76}
    check_blobs(tmp_path / "cache")
    assert len(blobs(tmp_path / "cache")) <= 76
    assert len(list((tmp_path / "cache" / "v1" / "index").glob("index-*.sqlite"))) == 1
