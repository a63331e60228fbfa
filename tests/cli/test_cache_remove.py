"""`asyncfetch cache prune`, `rm` and `clear`, as processes, also beside jobs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.kept import told
from tests.cli.terminal import COMMAND, asyncfetch, environment
from tests.objects import Bucket

READ = """
import asyncio, sys, asyncfetch

async def main():
    for _ in range(6):
        async with asyncfetch.Fetcher() as fetcher:
            async for stat in fetcher.list(sys.argv[1]):
                assert len(await fetcher.read_bytes(stat.uri)) == (await fetcher.fetch(stat.uri)).size == stat.size

asyncio.run(main())
"""


def uris() -> list[str]:
    return [item["uri"] for item in told("ls")]


def test_prune_by_size_removes_as_much_as_it_said(cached: Bucket, cache_dir: Path) -> None:
    (foretold,) = told("prune", "--max-bytes", "4kB", "--dry-run")
    assert len(uris()) == 5
    (done,) = told("prune", "--max-bytes", "4kB")
    assert {**foretold, "dry_run": False} == done
    assert done["blob_bytes"] > 0
    (stats,) = told("stats")
    assert stats["blob_bytes"] <= 4000
    assert stats["blob_bytes"] == sum(path.stat().st_size for path in cache_dir.glob("v1/blobs/*/*/*"))


def test_prune_by_age_and_use(cached: Bucket) -> None:
    for option in ("--older-than", "--unused-for"):
        assert told("prune", option, "1h")[0]["blobs"] == 0
    assert asyncfetch("cache", "prune", "--unused-for", "0s").err.endswith("removed 4 blobs, 6.01 kB\n")
    assert uris() == []


def test_rm_of_an_object_and_of_a_prefix(cached: Bucket) -> None:
    listed = asyncfetch("cache", "rm", cached.uri("photos/2024/"), "--dry-run")
    assert listed.out.decode().splitlines() == [
        f"{cached.uri(f'photos/2024/{index}.jpg')}  at {cached.server.endpoint_url}" for index in range(3)
    ]
    assert len(uris()) == 5
    (one,) = told("rm", cached.uri("top.txt"))
    assert (one["objects"], one["blobs"], one["blob_bytes"]) == (1, 1, 6)
    assert told("rm", cached.uri("photos/2024/"))[0]["objects"] == 3
    assert uris() == [cached.uri("photos/same.jpg")]
    again = asyncfetch("cache", "rm", cached.uri("top.txt"))
    assert again.code == 1
    assert cached.uri("top.txt") in again.err


def test_clear_all_or_what_is_old_and_pins_stay(cached: Bucket, cache_dir: Path) -> None:
    told("pin", cached.uri())
    assert told("clear", "--older-than", "1h")[0]["blobs"] == 0
    os.utime(next(path for path in cache_dir.glob("v1/blobs/*/*/*") if path.stat().st_size == 6), (1e9, 1e9))
    assert told("clear", "--older-than", "1h")[0]["blob_bytes"] == 6
    (foretold,) = told("clear", "--dry-run")
    assert (foretold["objects"], foretold["blobs"]) == (4, 3)
    (done,) = told("clear")
    assert (done["objects"], done["blobs"], done["blob_bytes"]) == (4, 3, 6000)
    assert uris() == []
    assert len(told("pins")) == 1
    assert asyncfetch("prefetch", cached.uri(), "-q").code == 0
    assert all(item["pinned"] for item in told("ls"))
    assert told("prune", "--unused-for", "0s")[0]["blobs"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune"],
        ["prune", "--max-bytes", "much"],
        ["prune", "--older-than", "7"],
        ["prune", "--unused-for", "soon"],
        ["clear", "--older-than", "-1d"],
        ["rm", "photos/"],
        ["rm", "/tmp/photos/"],
    ],
)
def test_wrong_use_is_one_line_and_removes_nothing(cached: Bucket, arguments: list[str]) -> None:
    done = asyncfetch("cache", *arguments)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, b"")
    assert len(uris()) == 5


def test_jobs_go_on_while_all_is_removed_under_them(cached: Bucket, cache_dir: Path) -> None:
    for number in range(30):
        cached.put(f"more/{number}", os.urandom(5000))
    with subprocess.Popen([*COMMAND[:3], "-c", READ, cached.uri()], env=environment(), stderr=subprocess.PIPE) as job:
        while job.poll() is None:
            assert asyncfetch("cache", "rm", cached.uri("more/"), "-q").code in (0, 1)
            assert asyncfetch("cache", "prune", "--unused-for", "0s", "-q").code == 0
            assert asyncfetch("cache", "clear", "--older-than", "0s", "-q").code == 0
        assert job.stderr is not None
        assert (job.stderr.read(), job.returncode) == (b"", 0)
    assert told("verify")[-1]["troubles"] == 0
