"""Which objects are meant: globs, sizes, dates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from asyncfetch.errors import UsageError
from asyncfetch.jobs import selection
from asyncfetch.objects import ObjectStat


def stat(size: int = 10, age: timedelta = timedelta(0), uri: str = "s3://b/k") -> ObjectStat:
    return ObjectStat(uri, size, last_modified=datetime.now(UTC) - age)


@pytest.mark.parametrize(
    ("glob", "below", "meant"),
    [
        ("*.jpg", "a.jpg", True),
        ("*.jpg", "x/y/a.jpg", True),
        ("*.jpg", "a.JPG", False),
        ("*.jpg", "x.jpg/a.png", False),
        ("x*", "x/a.png", False),
        ("x/*", "x/y/a.png", True),
        ("/x/*", "x/a.png", True),
        ("*/a.png", "x/y/a.png", True),
        ("x/*", "y/x/a.png", False),
        ("?.jpg", "x/\n.jpg", True),
        ("[ab].jpg", "x/b.jpg", True),
    ],
)
def test_globs(glob: str, below: str, meant: bool) -> None:
    assert selection(include=[glob]).wants(stat(), below) is meant
    assert selection(exclude=[glob]).wants(stat(), below) is not meant


def test_exclude_wins_and_one_of_several_is_enough() -> None:
    both = selection(include=["*.jpg", "*.png"], exclude=["b.*"])
    assert [both.wants(stat(), name) for name in ("a.jpg", "a.png", "a.gif", "b.jpg")] == [True, True, False, False]


def test_sizes_and_dates() -> None:
    sizes = selection(min_size="10", max_size="1kB")
    assert [sizes.wants(stat(size), "k") for size in (9, 10, 1000, 1001)] == [False, True, True, False]
    young = selection(newer_than="2d")
    assert young.wants(stat(age=timedelta(days=1)), "k")
    assert not young.wants(stat(age=timedelta(days=3)), "k")
    assert not young.wants(ObjectStat("s3://b/k", 1), "k"), "of no known date"
    assert selection(newer_than="2020-01-01").wants(stat(), "k")
    assert selection(newer_than="2020-01-01T00:00:00+02:00").wants(stat(), "k")


def test_the_marker_of_an_empty_folder_is_never_meant() -> None:
    assert not selection().wants(stat(0, uri="s3://b/folder/"), "folder/")
    assert selection().wants(stat(0), "empty")
    assert not selection()


@pytest.mark.parametrize(
    "wrong", [{"include": [""]}, {"min_size": "big"}, {"newer_than": "lately"}, {"min_size": "2kB", "max_size": "1kB"}]
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        selection(**wrong)  # type: ignore[arg-type]
