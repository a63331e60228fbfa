"""The check of a whole cache: damage done by hand is found, and set right; what jobs do meanwhile is none."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from asyncfetch.cache import files
from asyncfetch.cache.opening import Parts, open_parts
from asyncfetch.cache.recovery import Intents, clear
from asyncfetch.cache.upkeep import Blob, Stale, Trouble, check, upkeep
from asyncfetch.cache.upkeep.checking import judge
from asyncfetch.settings import CachePolicy
from tests.cache.helpers import blobs, check_blobs, key, look_up, opened, publish
from tests.cache.upkeep import helpers
from tests.cache.upkeep.helpers import BODIES, blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from asyncfetch.settings import Digest


@pytest.fixture(params=["blake3", "sha256"])
async def filled(cache_dir: Path, request: pytest.FixtureRequest) -> Path:
    await fill(cache_dir, request.param)
    return cache_dir


async def fill(cache_dir: Path, digest: Digest = "blake3") -> None:
    await helpers.fill(cache_dir, digest)
    for path in blobs(cache_dir).values():
        os.utime(path, (1e9, 1e9))  # long settled: the check does not wait for their rows


def checked(cache_dir: Path, *, repair: bool = False) -> list[Trouble]:
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        return [item for item in check(keeping, repair=repair) if isinstance(item, Trouble)]


SUM_UP = "UPDATE totals SET (blobs, blob_bytes) = (SELECT count(*), coalesce(sum(size), 0) FROM blobs)"


def told_to(cache_dir: Path, statement: str) -> None:
    (path,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
        if statement.startswith("DELETE"):
            connection.execute(SUM_UP)


def flip(cache_dir: Path) -> None:
    path = blob(cache_dir, "three")
    data = bytearray(path.read_bytes())
    data[1234] ^= 1
    path.write_bytes(data)


def cut(cache_dir: Path) -> None:
    os.truncate(blob(cache_dir, "three"), 17)


def lengthen(cache_dir: Path) -> None:
    with blob(cache_dir, "three").open("ab") as file:
        file.write(b"more")


def remove(cache_dir: Path) -> None:
    blob(cache_dir, "three").unlink()


def misplace(cache_dir: Path) -> None:
    path = blob(cache_dir, "three")
    (path.parents[1] / "zz").mkdir()
    path.rename(path.parents[1] / "zz" / path.name)


def other_shard(cache_dir: Path) -> None:
    path = blob(cache_dir, "three")
    shard = path.parents[1] / ("00" if path.parent.name != "00" else "01")
    shard.mkdir(exist_ok=True)
    path.rename(shard / path.name)


def foreign(cache_dir: Path) -> None:
    (blob(cache_dir, "three").parent / "notes.txt").write_text("mine")


def directory(cache_dir: Path) -> None:
    path = blob(cache_dir, "three")
    path.unlink()
    path.mkdir()


def link(cache_dir: Path) -> None:
    path = blob(cache_dir, "three")
    path.unlink()
    path.symlink_to("/etc/hostname")


def algorithm(cache_dir: Path) -> None:
    (cache_dir / "v1" / "blobs" / "md5").mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "one bit": (flip, ["damaged"]),
    "cut": (cut, ["damaged"]),
    "longer": (lengthen, ["damaged"]),
    "gone": (remove, ["lost"]),
    "under no shard": (misplace, ["strange", "lost"]),
    "in another shard": (other_shard, ["lost", "strange"]),
    "a foreign file": (foreign, ["strange"]),
    "a directory": (directory, ["lost", "strange"]),
    "a link": (link, ["lost", "strange"]),
    "an unknown algorithm": (algorithm, ["strange"]),
    "no row": (lambda at: told_to(at, "DELETE FROM blobs WHERE size = 5000"), ["unknown"]),
    "a row of another size": (lambda at: told_to(at, "UPDATE blobs SET size = 7 WHERE size = 5000"), ["size"]),
    "a ref of another size": (lambda at: told_to(at, "UPDATE refs SET size = 7 WHERE size = 5000"), ["ref"]),
    "wrong sums": (lambda at: told_to(at, "UPDATE totals SET blob_bytes = blob_bytes - 1"), ["sums"]),
}


def test_a_cache_that_is_well_has_no_troubles(filled: Path) -> None:
    with upkeep(CachePolicy(cache_dir=filled)) as keeping:
        found = list(check(keeping, repair=True))
    assert sorted(found) == sorted(Blob(len(body)) for body in BODIES.values())


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_found_told_twice_and_set_right_once(filled: Path, damage: str) -> None:
    act, kinds = DAMAGES[damage]
    act(filled)
    for _ in range(2):
        found = checked(filled)
        assert sorted(trouble.kind for trouble in found if trouble.kind != "ref") == sorted(
            kind for kind in kinds if kind != "ref"
        ), "a check alone changes nothing"
        assert set(kinds) <= {trouble.kind for trouble in found}
        assert not any(trouble.mended for trouble in found)
    mended = checked(filled, repair=True)
    assert all(trouble.mended for trouble in mended)
    assert {trouble.kind for trouble in mended} >= set(kinds)
    with upkeep(CachePolicy(cache_dir=filled)) as keeping:
        assert [item for item in check(keeping) if not isinstance(item, Blob)] == []
    check_blobs(filled)
    digest: Digest = "sha256" if (filled / "v1/blobs/sha256").exists() else "blake3"
    async with opened(filled, digest) as cache:
        found_again = await look_up(cache, *map(key, BODIES))
        for name, found_one in zip(BODIES, found_again, strict=True):
            if found_one is not None:
                with open(found_one.path, "rb") as file:
                    assert file.read() == BODIES[name]
        assert sum(one is not None for one in found_again) >= 2
        await publish(cache, BODIES["three"], key("three"), etag="three")
        assert None not in await look_up(cache, *map(key, BODIES))
    for path in blobs(filled).values():
        os.utime(path, (1e9, 1e9))
    assert checked(filled) == []


def test_what_is_set_aside_is_kept_for_a_look(filled: Path) -> None:
    flip(filled)
    name = blob(filled, "three").name
    damaged = blob(filled, "three").read_bytes()
    (trouble,) = checked(filled, repair=True)
    assert trouble.name.endswith(name)
    (aside,) = (filled / "v1" / "bad").iterdir()
    assert aside.name.startswith(name)
    assert aside.read_bytes() == damaged


async def test_every_blob_of_a_lost_index_is_adopted_and_not_written_again(cache_dir: Path) -> None:
    await fill(cache_dir)
    for path in (cache_dir / "v1" / "index").iterdir():
        path.unlink()
    assert [trouble.kind for trouble in checked(cache_dir, repair=True)] == ["unknown"] * 3
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        assert keeping.index.totals() == (0, 0, 3, 12_000, 0, 0)
        assert {row.used for row in keeping.catalog.blobs("blake3", blob(cache_dir, "one").name[:2])} == {1e9}
    async with opened(cache_dir) as cache:
        assert not (await publish(cache, BODIES["one"], key("one"))).stored


async def test_objects_without_a_blob_are_no_trouble_and_forgotten_on_repair(cache_dir: Path) -> None:
    await fill(cache_dir)
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        told_to(cache_dir, "DELETE FROM blobs")
        for path in blobs(cache_dir).values():
            path.unlink()
        assert list(check(keeping)) == [Stale(3, False)]
        assert list(check(keeping, repair=True)) == [Stale(3, True)]
        assert list(check(keeping)) == []
        assert keeping.index.totals() == (0, 0, 0, 0, 0, 0)


async def test_a_blob_that_a_job_is_just_publishing_is_no_trouble(cache_dir: Path) -> None:
    await fill(cache_dir)
    (path,) = cache_dir.glob("v1/index/*.sqlite")
    new = blob(cache_dir, "three")
    os.utime(new)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as job:
        saved = job.execute("SELECT * FROM blobs WHERE size = 5000").fetchone()
        job.execute("DELETE FROM blobs WHERE size = 5000")
        job.execute(SUM_UP)
        with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping, pytest.MonkeyPatch.context() as patch:

            def wait(seconds: float) -> None:
                job.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?)", saved)
                job.execute(SUM_UP)

            patch.setattr(time, "sleep", wait)
            assert [item for item in check(keeping) if not isinstance(item, Blob)] == []
            patch.setattr(time, "sleep", lambda seconds: None)
            job.execute("DELETE FROM blobs WHERE size = 5000")
            job.execute(SUM_UP)
            assert [item.kind for item in check(keeping) if isinstance(item, Trouble)] == ["unknown"]


@contextmanager
def clearing(cache_dir: Path) -> Iterator[tuple[Parts, Intents]]:
    """A job in the midst of a clear: it has said so, and a blob has gone of which the index still tells."""
    job = open_parts(CachePolicy(cache_dir=cache_dir), None)
    intents = Intents(job.owner)
    intents.declare_clear()
    remove(cache_dir)
    try:
        yield job, intents
    finally:
        intents.close()
        for close in (job.index.close, job.owner.close, job.at_end):
            close()


@pytest.mark.parametrize("repair", [False, True])
async def test_blobs_that_a_clear_has_removed_before_the_index_are_no_trouble(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, repair: bool
) -> None:
    await fill(cache_dir)
    with clearing(cache_dir) as (job, intents), upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        waited: list[float] = []

        def goes_on(seconds: float) -> None:
            waited.append(seconds)
            assert keeping.index.totals().blobs == 3  # nothing was mended
            clear(job.index, job.blobs, job.partials)
            intents.fulfil()

        monkeypatch.setattr(time, "sleep", goes_on)
        # Blobs are read beside that, and may go before their turn.
        assert set(check(keeping, repair=repair)) <= {Blob(3000), Blob(4000)}
        assert len(waited) == 1


async def test_one_who_is_stopped_as_it_clears_is_not_waited_for_without_end(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache_dir)
    with clearing(cache_dir), upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        waited: list[float] = []
        monkeypatch.setattr(time, "sleep", waited.append)
        assert [one.kind for one in check(keeping) if isinstance(one, Trouble)] == ["lost"]
        assert sum(waited) == pytest.approx(60, abs=0.1)


async def test_rows_of_one_who_died_as_it_cleared_are_a_trouble(cache_dir: Path) -> None:
    await fill(cache_dir)
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        dead = cache_dir / "v1" / "tmp" / "0123456789abcdef"
        dead.mkdir()
        (dead / "intent").write_text("clear\n")
        (dead / "lock").touch()
        remove(cache_dir)
        assert [one.kind for one in check(keeping) if isinstance(one, Trouble)] == ["lost"]


async def test_a_blob_that_a_job_removes_meanwhile_is_no_trouble(cache_dir: Path) -> None:
    await fill(cache_dir)
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping, pytest.MonkeyPatch.context() as patch:
        read = files.open_to_read
        gone = str(blob(cache_dir, "three"))

        def evicted(path: str) -> int:
            if path == gone:
                files.remove(path)
                told_to(cache_dir, "DELETE FROM blobs WHERE size = 5000")
            return read(path)

        patch.setattr(files, "open_to_read", evicted)
        assert sorted(check(keeping), key=str) == [Blob(3000), Blob(4000), Stale(1, False)]


async def test_a_disk_that_cannot_be_read_is_told_and_nothing_else_is_touched(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache_dir)
    broken = str(blob(cache_dir, "three"))
    read = files.open_to_read

    def refuse(path: str, target: str = "") -> int:
        if path == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return read(path)

    monkeypatch.setattr(files, "open_to_read", refuse)
    (trouble,) = checked(cache_dir)
    assert (trouble.kind, trouble.name) == ("damaged", broken)
    assert "Input/output error" in trouble.detail
    monkeypatch.setattr(files, "rename", refuse)
    (trouble,) = checked(cache_dir, repair=True)
    assert not trouble.mended, "it could not be moved either"


async def test_left_early_it_leaves_no_thread(cache_dir: Path) -> None:
    await fill(cache_dir)
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        checking = check(keeping, threads=3)
        next(checking)
        await asyncio.to_thread(checking.close)  # type: ignore[attr-defined]  # an iterator here, a generator in fact
    assert [thread for thread in threading.enumerate() if thread.name == "asyncfetch-check"] == []


@pytest.mark.parametrize(
    ("row", "file", "kind"),
    [(None, None, None), (5, 5, None), (None, 5, "unknown"), (None, 0, "unknown"), (5, None, "lost"), (5, 6, "size")],
)
def test_what_is_wrong_between_a_row_and_its_file(row: int | None, file: int | None, kind: str | None) -> None:
    assert judge(row, file)[0] == kind
