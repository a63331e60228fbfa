"""The index as commands read it, beside a plain list of what was put in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncfetch.cache import Ref, RefKey
from asyncfetch.cache.changes import remember, stored
from asyncfetch.cache.upkeep import Selection, catalog, upkeep
from asyncfetch.errors import CacheUnusable
from asyncfetch.settings import CachePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asyncfetch.cache.upkeep import Upkeep

DIGEST = "blake3:" + "ab" * 32

keys = st.text("a/\U0010ffff", max_size=4)
refs = st.lists(
    st.builds(
        RefKey, st.sampled_from(["", "http://a", "https://"]), st.sampled_from("bc"), keys, st.sampled_from("v ")
    ),
    unique=True,
    max_size=25,
)
selections = st.builds(
    Selection,
    st.sampled_from([None, "", "http://a"]),
    st.sampled_from([None, "s3", "https"]),
    st.sampled_from([None, "b"]),
    keys,
    st.sampled_from([None, "v"]),
    st.booleans(),
)


@pytest.fixture
def keeping(cache_dir: Path) -> Iterator[Upkeep]:
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        yield keeping


def fill(keeping: Upkeep, named: list[RefKey]) -> None:
    keeping.index.restart()
    assert keeping.index.apply([remember(key, Ref(3, None, DIGEST, 1.0)) for key in named])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(named=refs, selection=selections, page=st.integers(1, 5))
def test_pages_hold_what_is_meant_and_nothing_else(
    keeping: Upkeep, named: list[RefKey], selection: Selection, page: int
) -> None:
    fill(keeping, named)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "PAGE", page)
        pages = list(keeping.catalog.refs(selection))
    assert all(pages)
    assert [listed.key for each in pages for listed in each] == sorted(key for key in named if selection.covers(key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(named=refs, depth=st.integers(1, 3))
def test_groups_are_those_of_the_prefixes(keeping: Upkeep, named: list[RefKey], depth: int) -> None:
    fill(keeping, named)
    expected: dict[tuple[str, str, str], int] = {}
    for key in named:
        parts = key.key.split("/")[:-1][:depth]
        group = (key.endpoint, key.container, "".join(f"{part}/" for part in parts))
        expected[group] = expected.get(group, 0) + 1
    found = list(keeping.catalog.by_prefix(depth))
    assert {(*group.place, group.prefix): group.objects for group in found} == expected
    assert all(group.object_bytes == 3 * group.objects for group in found)
    by_place = {tuple(group.place): group.objects for group in keeping.catalog.by_place()}
    assert by_place == {tuple(key[:2]): sum(other[:2] == key[:2] for other in named) for key in named}


@pytest.mark.parametrize("first", [0, 0x7F, 0xFF])
def test_the_blobs_of_a_shard(keeping: Upkeep, first: int) -> None:
    names = [f"{shard:02x}{end * 62}" for shard in (0, 1, 0x7F, 0x80, 0xFE, 0xFF) for end in "0f"]
    keeping.index.apply([stored(f"blake3:{name}", 1, 2.0) for name in names])
    keeping.index.apply([stored(f"sha256:{names[0]}", 1, 2.0)])
    shard = f"{first:02x}"
    found = keeping.catalog.blobs("blake3", shard)
    assert [row.digest for row in found] == [f"blake3:{name}" for name in names if name.startswith(shard)]
    assert keeping.catalog.blob(found[0].digest) == found[0]
    assert keeping.catalog.blob(DIGEST) is None


def test_a_stuck_writer_is_an_error_and_no_silence(keeping: Upkeep, cache_dir: Path) -> None:
    (path,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheUnusable, match="locked"):
            keeping.change(lambda select: [stored(DIGEST, 1, 2.0)])
        assert keeping.catalog.blob(DIGEST) is None
        stuck.execute("ROLLBACK")
    assert keeping.change(lambda select: [stored(DIGEST, 1, 2.0)]) == 1


def test_a_change_that_fails_changes_nothing(keeping: Upkeep) -> None:
    with pytest.raises(ZeroDivisionError):
        keeping.change(lambda select: [stored(DIGEST, 1 // 0, 2.0)])
    assert keeping.catalog.sums()[0].blobs == 0
    assert keeping.change(lambda select: [stored(DIGEST, len(select("SELECT * FROM blobs")), 2.0)]) == 1


def test_a_new_generation_is_followed(keeping: Upkeep, cache_dir: Path) -> None:
    keeping.index.apply([stored(DIGEST, 1, 2.0)])
    with upkeep(CachePolicy(cache_dir=cache_dir)) as other:
        other.index.restart()
    assert keeping.catalog.blob(DIGEST) is None


def test_an_index_that_broke_is_told_with_what_to_do(keeping: Upkeep, cache_dir: Path) -> None:
    (path,) = cache_dir.glob("v1/index/*.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE counters")
    with pytest.raises(CacheUnusable, match="verify --repair"):
        keeping.catalog.counters()
    assert keeping.catalog.counters() == {"stale": 0}
