"""Removing from a cache: what goes, what is spared, and what is told."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.cache import Begun, files
from asyncfetch.cache.changes import limited, lost
from asyncfetch.cache.owner import Owner
from asyncfetch.cache.upkeep import Gone, Listed, Pin, Stuck, check, clear_old, pin, prune, removal, remove, select
from asyncfetch.cache.upkeep.checking import Blob, Stale
from tests.cache.helpers import blobs, check_blobs, give_up, key, look_up, opened
from tests.cache.upkeep.helpers import BODIES, BUCKET, ENDPOINT, blob, fill, keeping

if TYPE_CHECKING:
    from asyncfetch.cache.upkeep import Upkeep

DAY = 86_400.0


@pytest.fixture
async def aged(cache_dir: Path) -> Path:
    """One is used and written three days ago, two two days ago, three yesterday."""
    await fill(cache_dir)
    now = time.time()
    (database,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        for days, body in zip((3, 2, 1), BODIES.values(), strict=True):
            connection.execute("UPDATE blobs SET used = ? WHERE size = ?", (now - days * DAY, len(body)))
            (path,) = [path for path in blobs(cache_dir).values() if path.stat().st_size == len(body)]
            os.utime(path, (now - days * DAY,) * 2)
    return cache_dir


def left(cache_dir: Path) -> set[str]:
    """What is still cached, after a look that all of the cache agrees with itself."""
    check_blobs(cache_dir)
    with keeping(cache_dir) as one:
        assert [item for item in check(one) if not isinstance(item, Blob)] == []
        keys = {listed.key.key for page in one.catalog.refs(select(None)) for listed in page}
        assert one.index.totals().objects == len(keys)
    return keys


CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"max_bytes": 12_000}, {"one", "two", "three"}),
    ({"max_bytes": 11_999}, {"two", "three"}),
    ({"max_bytes": 5000}, {"three"}),
    ({"max_bytes": 1}, set()),
    ({"unused_since": 2.5}, {"two", "three"}),
    ({"stored_before": 2.5}, {"two", "three"}),
    ({"stored_before": 2.5, "unused_since": 1.5}, {"three"}),
    ({"stored_before": 2.5, "unused_since": 2.5, "max_bytes": 5000}, {"three"}),
    ({"unused_since": 9.0}, {"one", "two", "three"}),
]


def at(conditions: dict[str, Any]) -> dict[str, Any]:
    """Days ago become seconds since 1970."""
    return {name: value if name == "max_bytes" else time.time() - value * DAY for name, value in conditions.items()}


@pytest.mark.parametrize(("conditions", "stay"), CASES, ids=[str(conditions) for conditions, _ in CASES])
async def test_prune_removes_what_it_says_in_a_dry_run_before(
    aged: Path, conditions: dict[str, Any], stay: set[str]
) -> None:
    with keeping(aged) as one:
        foretold = list(prune(one, **at(conditions), dry_run=True))
        assert left(aged) == set(BODIES), "nothing is removed"
        assert list(prune(one, **at(conditions))) == foretold
        assert list(prune(one, **at(conditions))) == []
    assert sorted(foretold) == sorted(Gone(len(BODIES[name])) for name in set(BODIES) - stay)
    assert left(aged) == stay
    async with opened(aged) as cache:
        found = await look_up(cache, *map(key, BODIES))
    assert {name for name, one_found in zip(BODIES, found, strict=True) if one_found} == stay


async def test_prune_spares_what_is_pinned(aged: Path) -> None:
    with keeping(aged) as one:
        pin(one, Pin(ENDPOINT, BUCKET, "one"))
        gone = list(prune(one, max_bytes=1, stored_before=time.time(), unused_since=time.time()))
    assert sorted(gone) == [Gone(4000), Gone(5000)]
    assert left(aged) == {"one"}


@pytest.mark.parametrize(("exactly", "spared"), [(True, {"three"}), (False, {"two", "three"})])
async def test_prune_spares_what_a_running_job_has_used(aged: Path, exactly: bool, spared: set[str]) -> None:
    job = Owner(str(aged / "v1" / "tmp"), job_started=time.time() - 1.5 * DAY)
    with keeping(aged) as one:
        if exactly:
            one.index.apply(
                [limited(0.0)]
            )  # since before the job: where nobody evicts, uses are noted to the day alone
        list(prune(one, max_bytes=1, stored_before=time.time(), unused_since=time.time()))
        assert left(aged) == spared
        job.close()
        list(prune(one, max_bytes=1))
    assert left(aged) == set()


async def test_clear_old_spares_nothing_that_is_old(aged: Path) -> None:
    job = Owner(str(aged / "v1" / "tmp"), job_started=0.0)
    with keeping(aged) as one:
        pin(one, Pin(ENDPOINT, BUCKET, ""))
        before = time.time() - 1.5 * DAY
        assert sorted(clear_old(one, before, dry_run=True)) == [Gone(3000), Gone(4000)]
        assert left(aged) == set(BODIES)
        assert sorted(clear_old(one, before)) == [Gone(3000), Gone(4000)]
    job.close()
    assert left(aged) == {"three"}


@pytest.mark.parametrize(
    ("text", "objects", "gone", "stay"),
    [
        ("a/1", 1, [1], {"a/2", "a/3", "a/12", "b/2"}),
        ("a/2", 1, [], {"a/1", "a/3", "a/12", "b/2"}),
        ("a/", 4, [1, 3, 12], {"b/2"}),
        ("", 5, [1, 2, 3, 12], set()),
        ("c/", 0, [], {"a/1", "a/2", "a/3", "a/12", "b/2"}),
    ],
)
async def test_rm_removes_objects_and_the_bytes_that_no_other_shares(
    cache_dir: Path, text: str, objects: int, gone: list[int], stay: set[str]
) -> None:
    bodies = {"a/1": b"x", "a/2": b"x" * 2, "a/3": b"x" * 3, "a/12": b"x" * 12, "b/2": b"x" * 2}
    await fill(cache_dir, bodies=bodies)
    for path in blobs(cache_dir).values():
        os.utime(path, (1e9, 1e9))
    with keeping(cache_dir) as one:
        meant = select(f"s3://{BUCKET}/{text}", one=True)
        for dry_run in (True, False):
            told = list(remove(one, meant, dry_run=dry_run))
            assert sorted(step for step in told if isinstance(step, Gone)) == [Gone(size) for size in gone]
            assert sum(isinstance(step, Listed) for step in told) == objects
            assert left(cache_dir) == (set(bodies) if dry_run else stay)


async def test_rm_at_another_endpoint_removes_nothing(cache_dir: Path) -> None:
    await fill(cache_dir)
    with keeping(cache_dir) as one:
        assert list(remove(one, select(f"s3://{BUCKET}/", endpoint_url="http://127.0.0.1:9"))) == []


async def test_what_cannot_be_removed_is_named_and_stays_known(aged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = files.remove

    def refuse(path: str) -> bool:
        if "/blobs/" in path and files.size_of(path) == 3000:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really(path)

    monkeypatch.setattr(files, "remove", refuse)
    with keeping(aged) as one:
        stuck, gone = list(prune(one, max_bytes=8000))
        assert isinstance(stuck, Stuck)
        assert "Permission denied" in stuck.reason
        assert gone == Gone(4000), "another goes in its place"
    assert left(aged) == {"one", "three"}


async def test_what_is_unfinished_and_cannot_be_removed_is_named_and_the_rest_goes(
    aged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(key("large"), '"one"', 9000)
    async with opened(aged) as cache:
        await give_up(cache, begun, b"x" * begun.size, (0, 4096))
    really = files.rename

    def refuse(source: str, target: str) -> None:
        if "/partial/" in source:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), source)
        really(source, target)

    monkeypatch.setattr(files, "rename", refuse)
    with keeping(aged) as one:
        told = list(prune(one, max_bytes=1))
    (stuck,) = (step for step in told if isinstance(step, Stuck))
    assert "Permission denied" in stuck.reason
    assert stuck.path.endswith(f"/partial/{begun.name}")
    assert len(told) == 1 + len(BODIES)


async def test_blobs_that_the_index_does_not_know_go_by_their_age(aged: Path) -> None:
    for path in (aged / "v1" / "index").iterdir():
        path.unlink()
    with keeping(aged) as one:
        assert sorted(prune(one, stored_before=time.time() - 1.5 * DAY)) == [Gone(3000), Gone(4000)]
    assert len(blobs(aged)) == 1


def stale_objects(one: Upkeep, *, repair: bool = False) -> int:
    return sum(item.objects for item in check(one, repair=repair) if isinstance(item, Stale))


async def test_objects_are_forgotten_that_a_prune_left_that_was_ended_or_a_job_that_lost_a_blob(aged: Path) -> None:
    with keeping(aged) as one:
        assert len(list(islice(prune(one, max_bytes=1), 1))) == 1
        assert (stale_objects(one), one.catalog.stale()) == (1, 1)
        assert len(list(prune(one, max_bytes=1))) == 2
        assert (stale_objects(one), one.catalog.stale()) == (0, 0)
    await fill(aged)
    with keeping(aged) as one:
        blob(aged, "one").unlink()
        (row,) = (row for listed in one.catalog.refs(select(None)) for row in listed if row.key == key("one"))
        one.make([lost(row.known.ref.digest)])
        assert (stale_objects(one), one.catalog.stale()) == (1, 1)
        assert list(prune(one, max_bytes=5000)) == [Gone(4000)]
        assert one.catalog.stale() == 0
    assert left(aged) == {"three"}


@pytest.mark.parametrize("how", ["nothing", "never counted", "too many to remember"])
async def test_all_objects_are_looked_at_only_where_some_may_have_been_left(
    aged: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (database,) = aged.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM blobs WHERE size = 3000")  # as nobody does: it is not counted
        connection.execute("UPDATE totals SET blobs = blobs - 1, blob_bytes = blob_bytes - 3000")
        if how == "never counted":
            connection.execute("DELETE FROM counters WHERE name = 'stale'")
    blob(aged, "one").unlink()
    if how == "too many to remember":
        monkeypatch.setattr(removal, "_MOST_GONE", 0)
    with keeping(aged) as one:
        assert list(prune(one, max_bytes=5000)) == [Gone(4000)]
        assert (stale_objects(one), one.catalog.stale()) == (how == "nothing", 0)
        assert stale_objects(one, repair=True) == (how == "nothing")
    assert left(aged) == {"three"}


async def test_who_forgets_the_objects_leaves_none_to_be_looked_for(aged: Path) -> None:
    with keeping(aged) as one:
        list(remove(one, select("s3://bucket/one", endpoint_url=ENDPOINT)))
        assert one.catalog.stale() == 0
        assert len(list(islice(clear_old(one, time.time()), 1))) == 1
        assert one.catalog.stale() == 1
        assert stale_objects(one, repair=True) == 1
        assert one.catalog.stale() == 0


async def test_more_than_a_slice_goes_in_order_of_use(cache_dir: Path) -> None:
    bodies = {f"{number:04}": bytes([number % 256, number // 256]) * 5 for number in range(300)}
    await fill(cache_dir, bodies=bodies)
    (database,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE blobs SET used = (SELECT validated FROM refs WHERE refs.digest = blobs.digest)")
    for path in blobs(cache_dir).values():
        os.utime(path, (1e9, 1e9))
    with keeping(cache_dir) as one:
        assert len(list(prune(one, max_bytes=500))) == 250
    assert left(cache_dir) == set(list(bodies)[-50:])
