"""What the commands of the cache do to what came of large objects that are not whole, also while a job brings one."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.cache import Begun
from asyncfetch.cache.owner import Owner
from asyncfetch.cache.sinks import PIECE
from tests.cache.helpers import begin, blobs, bring, check_unfinished, give_up, key, opened, unfinished
from tests.cache.test_owner import forsake
from tests.cache.upkeep.helpers import BODIES, BUCKET, ENDPOINT, fill
from tests.cli.kept import told
from tests.cli.terminal import asyncfetch

NOISE = random.Random(23).randbytes(4 * PIECE)
DAY = 86_400.0

# Two days ago a piece came of one, yesterday two of another; what is whole was used and written three, two and one and
# a half days ago.
CAME = {"films/a": (1, 2.0), "films/b": (2, 1.0)}
USED = {"one": 3.0, "two": 2.5, "three": 1.5}


def begun(name: str) -> Begun:
    return Begun(key(name), '"one"', len(NOISE))


def part(cache_dir: Path, name: str) -> Path:
    return cache_dir / "v1" / "partial" / begun(name).name


@pytest.fixture
async def kept(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of three whole objects and of two that are not."""
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    await fill(cache_dir)
    async with opened(cache_dir) as cache:
        for name, (pieces, _) in CAME.items():
            await give_up(cache, begun(name), NOISE, (0, pieces * PIECE))
    now = time.time()
    for name, (_, days) in CAME.items():
        os.utime(part(cache_dir, name) / "map", (now - days * DAY,) * 2)
    (database,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        for name, days in USED.items():
            size = len(BODIES[name])
            connection.execute("UPDATE blobs SET used = ? WHERE size = ?", (now - days * DAY, size))
            (path,) = [path for path in blobs(cache_dir).values() if path.stat().st_size == size]
            os.utime(path, (now - days * DAY,) * 2)
    return cache_dir


def left(cache_dir: Path) -> set[str]:
    """What is still there, whole or not; the maps of what is not are true."""
    check_unfinished(cache_dir, lambda _: NOISE)
    assert told("verify")[-1]["troubles"] == 0
    return {name for name in CAME if part(cache_dir, name).exists()} | {
        name
        for name, body in BODIES.items()
        if len(body) in {path.stat().st_size for path in blobs(cache_dir).values()}
    }


ALL = {*CAME, *BODIES}


def test_stats_counts_them_and_nothing_else_shows_them(kept: Path) -> None:
    (stats,) = told("stats", "--by", "prefix")
    assert (stats["unfinished"], stats["objects"], stats["blobs"]) == (2, 3, 3)
    assert 3 * PIECE <= stats["unfinished_bytes"] < 4 * PIECE
    assert stats["blob_bytes"] == stats["object_bytes"] == sum(map(len, BODIES.values()))
    assert [group["objects"] for group in stats["groups"]] == [3]
    assert b"\n2 unfinished large objects, 1.57 MB on disk\n" in asyncfetch("cache", "stats").out
    assert {item["uri"] for item in told("ls")} == {f"s3://{BUCKET}/{name}" for name in BODIES}


@pytest.mark.parametrize("arguments", [["verify"], ["verify", "--repair"]])
def test_verify_reads_past_them(kept: Path, arguments: list[str]) -> None:
    (part(kept, "films/a") / "body").write_bytes(b"damage, which the digest of the whole object will tell")
    done = told(*arguments)[-1]
    assert (done["blobs"], done["troubles"]) == (3, 0)
    assert len(unfinished(kept)) == 2


def test_an_export_leaves_them_out(kept: Path, tmp_path: Path) -> None:
    for archive, where in ((tmp_path / "seed.tar", []), (tmp_path / "closed", ["--directory"])):
        assert told("export", *where, archive)[-1]["blobs"] == 3
    told("import", tmp_path / "seed.tar", "--cache-dir", tmp_path / "other")
    for directory in (tmp_path / "closed", tmp_path / "other"):
        assert (len(blobs(directory)), unfinished(directory)) == (3, [])
    assert len(unfinished(kept)) == 2


CASES: list[tuple[list[str], set[str]]] = [
    (["rm", f"s3://{BUCKET}/films/"], {*BODIES}),
    (["rm", f"s3://{BUCKET}/films/a"], ALL - {"films/a"}),
    (["rm", "s3://" + BUCKET], set()),
    (["clear"], set()),
    (["clear", "--older-than", "36h"], {"films/b"}),
    (["clear", "--older-than", "65h"], ALL - {"one"}),
    (["prune", "--older-than", "36h"], {"films/b"}),
    (["prune", "--unused-for", "40h"], {"films/b", "three"}),
    (["prune", "--unused-for", "0s"], set()),
    (["prune", "--max-bytes", "10MB"], ALL),
    (["prune", "--max-bytes", "1.58MB"], ALL - {"one", "two"}),
    (["prune", "--max-bytes", "1.5MB"], {"films/b", "three"}),
    (["prune", "--max-bytes", "1MB"], set()),
    (["prune", "--max-bytes", "1"], set()),
    (["prune", "--older-than", "40h", "--max-bytes", "1.055MB"], {"films/b", "three"}),
    (["prune", "--older-than", "40h", "--unused-for", "60h", "--max-bytes", "1MB"], set()),
]


@pytest.mark.parametrize(("arguments", "stay"), CASES, ids=[" ".join(arguments) for arguments, _ in CASES])
def test_what_a_dry_run_foretells_is_what_goes(kept: Path, arguments: list[str], stay: set[str]) -> None:
    (before,) = told("stats")
    (foretold,) = told(*arguments, "--dry-run")
    assert left(kept) == ALL
    (done,) = told(*arguments)
    assert left(kept) == stay
    assert done == {**foretold, "dry_run": False}
    (after,) = told("stats")
    for count in ("blobs", "blob_bytes", "unfinished", "unfinished_bytes"):
        assert before[count] - done[count] == after[count]
    assert after["unfinished"] == len(stay & {*CAME})


def test_rm_of_one_that_is_only_unfinished_is_a_success_and_says_so(kept: Path) -> None:
    done = asyncfetch("cache", "rm", f"s3://{BUCKET}/films/a")
    assert done.code == 0
    assert done.err.endswith("removed 0 objects, 0 blobs, 0 B, and what came of 1 unfinished large objects, 524 kB\n")
    assert asyncfetch("cache", "rm", f"s3://{BUCKET}/films/a").code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [f"s3://{BUCKET}/fil"],
        [f"s3://{BUCKET}/films/a?versionId=7"],
        [f"s3://{BUCKET}/", "--endpoint-url", "http://[::1]"],
    ],
)
def test_rm_of_another_object_leaves_them(kept: Path, arguments: list[str]) -> None:
    assert told("rm", *arguments, code=1)[0]["unfinished"] == 0
    assert left(kept) == ALL


def test_a_pin_does_not_hold_what_is_not_whole(kept: Path) -> None:
    told("pin", f"s3://{BUCKET}/", "--endpoint-url", ENDPOINT)
    (done,) = told("prune", "--max-bytes", "1")
    assert (done["unfinished"], done["blobs"]) == (2, 0)
    assert left(kept) == {*BODIES}


PRUNE: list[list[str]] = [
    ["prune", "--max-bytes", "1"],
    ["prune", "--older-than", "0s"],
    ["prune", "--unused-for", "0s"],
]
OTHERS: list[list[str]] = [["rm", f"s3://{BUCKET}/"], ["clear"], ["clear", "--older-than", "0s"]]


@pytest.mark.parametrize("arguments", PRUNE + OTHERS, ids=" ".join)
async def test_what_is_being_brought_is_not_touched(kept: Path, arguments: list[str]) -> None:
    """No command: it has been taken out of what lies there, and goes on with what had come before."""
    async with opened(kept) as job:
        body = await begin(job, begun("films/b"))
        await bring(body, 2 * PIECE, 3 * PIECE, NOISE)
        assert told("stats")[0]["unfinished"] == 1
        assert told(*arguments)[0]["unfinished"] == 1
        await bring(body, 3 * PIECE, 4 * PIECE, NOISE)
        whole = await body.finish()
        assert Path(whole.path).read_bytes() == NOISE
        whole.release()


@pytest.mark.parametrize("arguments", PRUNE + OTHERS, ids=" ".join)
async def test_prune_spares_what_has_come_since_a_running_job_began(kept: Path, arguments: list[str]) -> None:
    """Exactly, also where the uses of blobs are noted to the day alone."""
    async with opened(kept, job_started=time.time() - 1.5 * DAY):
        done: dict[str, Any] = told(*arguments)[0]
    assert done["unfinished"] == (1 if arguments in PRUNE else 2)
    assert part(kept, "films/b").exists() == (arguments in PRUNE)


async def test_what_a_killed_job_was_bringing_is_foretold_too(kept: Path) -> None:
    """The command that finds the job dead leaves what it was bringing where the others lie."""
    dead = Owner(str(kept / "v1" / "tmp"))
    part(kept, "films/a").rename(f"{dead.directory}/7-{begun('films/a').name}")
    forsake(dead)
    (foretold,) = told("prune", "--max-bytes", "1", "--dry-run")
    assert foretold["unfinished"] == 2
    assert told("prune", "--max-bytes", "1") == [{**foretold, "dry_run": False}]
    assert left(kept) == set()
