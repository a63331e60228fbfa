"""Several processes in one cache, some of them killed: what can be read is whole, what was promised is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.soak import SECONDS, Soak

from .helpers import blobs, check_blobs

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]


def zygotes(commands: Sequence[Sequence[object]], *, seconds: float) -> Counter[str]:
    """Runs programs beside each other, each in a cache of its own, and sums up what they told."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.cache.zygote", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in commands
    ]
    told: Counter[str] = Counter()
    until = time.monotonic() + seconds
    try:
        for one in started:
            printed, _ = one.communicate(timeout=until - time.monotonic())
            assert one.returncode == 0
            told.update(json.loads(printed))
    finally:
        for one in started:
            one.kill()
            one.communicate()
    return told


@pytest.mark.timeout(120)
def test_killed_at_any_moment_nothing_read_is_torn_and_nothing_promised_is_lost(tmp_path: Path, soak: Soak) -> None:
    rounds = soak.kills // soak.lanes
    lanes = [("kill", tmp_path / f"cache-{lane}", rounds, 20240607 + lane) for lane in range(soak.lanes)]
    result = zygotes(lanes, seconds=max(110, SECONDS * soak.kills / 3000))
    assert result["killed"] > soak.kills / 3
    assert result["objects"] > soak.kills


@pytest.mark.timeout(120)
def test_killed_at_each_file_operation_what_is_left_is_whole_and_accounted_for(tmp_path: Path, soak: Soak) -> None:
    """Publish, evict, clear, prune, change the index: with one in so many of their calls, or with all of them."""
    stride, first = soak.kill_stride * soak.lanes, soak.kill_stride // 2
    lanes = [
        ("each", tmp_path / f"cache-{lane}", stride, first + lane * soak.kill_stride) for lane in range(soak.lanes)
    ]
    result = zygotes(lanes, seconds=max(110, SECONDS / soak.kill_stride))
    assert result["killed"] > 300 / soak.kill_stride


@pytest.mark.timeout(120)
def test_eight_that_jostle_in_a_small_cache_read_only_what_is_right(tmp_path: Path, soak: Soak) -> None:
    # One lane: the eight take all cores.
    result = zygotes([("stress", tmp_path / "cache", soak.jostles, 7)], seconds=max(110, 5 * soak.jostles))
    assert result["killed"] <= soak.jostles


@pytest.mark.timeout(120)
def test_processes_that_start_together_share_one_cache(tmp_path: Path) -> None:
    result = zygotes([("together", tmp_path / "cache", 4)], seconds=110)
    assert result == {"failed": 0, "objects": 76}
    check_blobs(tmp_path / "cache")
    assert len(blobs(tmp_path / "cache")) <= 76
    assert len(list((tmp_path / "cache" / "v1" / "index").glob("index-*.sqlite"))) == 1
