"""Names and what they mean: one listing, four ways to look up, four ways to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch import Fetcher
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Missing, Request, Unclear, Wanted, find, selection
from asyncfetch.jobs.matching import below
from asyncfetch.uris import s3
from tests.objects import Bucket

KEYS = ["in/a.jpg", "in/a.png", "in/x/b.jpg", "in/y/b.jpg", "in/y/c.d.jpg", "in/", "outside.jpg"]


@pytest.fixture
def bucket(empty_bucket: Bucket) -> Bucket:
    for key in KEYS:
        empty_bucket.put(key, b"" if key.endswith("/") else key.encode())
    empty_bucket.server.reset_counts()
    return empty_bucket


@pytest.fixture(params=[1_000, 3, 1], ids=["in memory", "in part", "in a file"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has what was listed lie in memory, go to the file in the middle of the listing, or lie there from the first."""
    monkeypatch.setattr("asyncfetch.jobs.matching.FEW", request.param)


async def found(cache_dir: Path, **asked: Any) -> list[Wanted | Missing | Unclear]:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        return [item async for item in find(fetcher, Request(**asked))]


def told(bucket: Bucket, items: list[Wanted | Missing | Unclear]) -> list[str]:
    return [
        item.uri.removeprefix(bucket.uri()) if isinstance(item, Wanted) else f"{type(item).__name__} {item.row.name}"
        for item in items
    ]


@given(name=st.one_of(st.text(min_size=1, max_size=20), st.just("a.jpg?versionId=1"), st.just("?versionId=")))
def test_what_a_key_has_below_its_prefix_is_all_of_it(name: str) -> None:
    assert below("s3://bucket/photos/")(str(s3("bucket", f"photos/{name}"))) == name


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("match", "names", "expected"),
    [
        ("exact", ["a.jpg", "x/b.jpg", "b.jpg", "/a.png"], ["in/a.jpg", "in/x/b.jpg", "Missing b.jpg", "in/a.png"]),
        (
            "name",
            ["a.jpg", "x/b.jpg", "b.jpg", "z/b.jpg"],
            ["in/a.jpg", "in/x/b.jpg", "Unclear b.jpg", "Missing z/b.jpg"],
        ),
        (
            "stem",
            ["c.d", "c.d.png", "y/b", "a", "c", "x/b.tif"],
            ["Missing c.d", "in/y/c.d.jpg", "in/y/b.jpg", "Unclear a", "Missing c", "in/x/b.jpg"],
        ),
        ("name", ["outside.jpg", "%s.jpg", "_.jpg"], ["Missing outside.jpg", "Missing %s.jpg", "Missing _.jpg"]),
    ],
)
async def test_a_name_is_looked_up(
    bucket: Bucket, cache_dir: Path, match: str, names: list[str], expected: list[str]
) -> None:
    items = await found(cache_dir, uris=names, prefix=bucket.uri("in/"), match=match)
    assert told(bucket, items) == expected


@pytest.mark.usefixtures("kept")
async def test_a_slash_before_a_name_is_the_key_s_own_where_there_is_such_a_key(
    bucket: Bucket, cache_dir: Path
) -> None:
    for key in ("odd//a", "odd/a", "odd/b", "odd//c"):
        bucket.put(key, key.encode())
    names = ["/a", "a", "/b", "/c", "c", "/d"]
    items = await found(cache_dir, uris=names, prefix=bucket.uri("odd/"))
    assert told(bucket, items) == ["odd//a", "odd/a", "odd/b", "odd//c", "Missing c", "Missing /d"]
    lists = sum(n for seen, n in bucket.server.requests().items() if seen.path.rstrip("/") == f"/{bucket.name}")
    assert lists == 1, "one listing serves all"
    assert bucket.requests("HEAD") == 0


@pytest.mark.usefixtures("kept")
async def test_a_whole_uri_is_a_name_too(bucket: Bucket, cache_dir: Path) -> None:
    items = await found(cache_dir, uris=[bucket.uri("in/x/b.jpg")], prefix=bucket.uri("in/"))
    assert told(bucket, items) == ["in/x/b.jpg"]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("ambiguous", "expected"),
    [
        ("first", ["in/x/b.jpg"]),
        ("newest", ["in/x/b.jpg"]),
        ("all", ["in/x/b.jpg", "in/y/b.jpg"]),
        ("fail", ["Unclear b.jpg"]),
    ],
)
async def test_of_several_objects_the_user_says_which(
    bucket: Bucket, cache_dir: Path, ambiguous: str, expected: list[str]
) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="in/y/b.jpg", Body=b"older")
    items = await found(cache_dir, uris=["b.jpg"], prefix=bucket.uri("in/"), match="name", ambiguous=ambiguous)
    if ambiguous == "newest":  # the dates of a listing are in seconds, so these two may be of the same
        assert len(items) == 1
    else:
        assert told(bucket, items) == expected
    assert all(item.clashes == 2 for item in items if isinstance(item, Wanted))


@pytest.mark.usefixtures("kept")
async def test_what_the_selection_leaves_out_answers_to_no_name(bucket: Bucket, cache_dir: Path) -> None:
    items = await found(
        cache_dir, uris=["a"], prefix=bucket.uri("in/"), match="stem", selection=selection(exclude=["*.png"])
    )
    assert told(bucket, items) == ["in/a.jpg"]


async def test_a_prefix_by_itself_is_all_that_lies_under_it(bucket: Bucket, cache_dir: Path) -> None:
    items = await found(cache_dir, prefix=bucket.uri("in/"), selection=selection(include=["y/*", "a.jpg"]))
    assert [item.below for item in items if isinstance(item, Wanted)] == ["a.jpg", "y/b.jpg", "y/c.d.jpg"]
    assert all(item.listed is not None for item in items if isinstance(item, Wanted))


async def test_a_directory_is_a_prefix_too(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f f.jpg").write_text("x")
    items = await found(cache_dir, uris=["f f"], prefix=str(tmp_path / "d"), match="stem")
    assert [item.below for item in items if isinstance(item, Wanted)] == ["e/f f.jpg"]


def test_what_follows_the_last_slash_of_a_prefix_names_an_object() -> None:
    assert below("s3://b/photos/20")("s3://b/photos/2024/a.jpg") == "2024/a.jpg"
    assert below("s3://b/photos/")("s3://b/photos/2024/a.jpg") == "2024/a.jpg"
    assert below("s3://b")("s3://b/photos/a.jpg") == "photos/a.jpg"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"rows": "-", "uris": ["s3://b/k"]},
        {"uris": ["s3://b/k"], "selection": selection(include=["*"])},
        {"prefix": "s3://b/", "ambiguous": "last"},
        {"rows": "names.csv", "match": "stem"},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Request(**wrong)


async def test_a_way_to_match_that_is_none_is_refused(cache_dir: Path) -> None:
    with pytest.raises(UsageError, match="--match"):
        await found(cache_dir, uris=["a"], prefix=str(cache_dir), match="fuzzy")
