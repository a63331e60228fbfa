"""What a user types to say which refs are meant."""

from __future__ import annotations

import pytest

from asyncfetch.cache import RefKey
from asyncfetch.cache.upkeep.selection import Place, select, uri_of
from asyncfetch.errors import UsageError

LOCAL = "http://127.0.0.1:9000"
REFS = {
    "a": RefKey("", "bucket", "photos/a.jpg"),
    "a-old": RefKey("", "bucket", "photos/a.jpg", "v1"),
    "a-bak": RefKey("", "bucket", "photos/a.jpg.bak"),
    "b": RefKey("", "bucket", "b.jpg"),
    "here": RefKey(LOCAL, "bucket", "photos/a.jpg"),
    "other": RefKey("", "bucket-2", "photos/a.jpg"),
    "web": RefKey("https://", "host", "/photos/a.jpg"),
}


@pytest.mark.parametrize(
    ("text", "options", "meant"),
    [
        (None, {}, set(REFS)),
        ("s3://", {}, set(REFS) - {"web"}),
        ("s3://bucket", {}, {"a", "a-old", "a-bak", "b", "here"}),
        ("s3://bucket/", {}, {"a", "a-old", "a-bak", "b", "here"}),
        ("s3://bucket/photos/a.jpg", {}, {"a", "a-old", "a-bak", "here"}),
        ("s3://bucket/photos/a.jpg", {"one": True}, {"a", "a-old", "here"}),
        ("s3://bucket/photos/", {"one": True}, {"a", "a-old", "a-bak", "here"}),
        ("s3://bucket", {"one": True}, {"a", "a-old", "a-bak", "b", "here"}),
        ("s3://bucket/photos/a.jpg?versionId=v1", {}, {"a-old"}),
        ("s3://bucket/pho", {"endpoint_url": LOCAL + "/"}, {"here"}),
        (None, {"endpoint_url": LOCAL}, {"here"}),
        (None, {"endpoint_url": ""}, {"a", "a-old", "a-bak", "b", "other"}),
        ("https://host", {}, {"web"}),
        ("https://host", {"one": True}, {"web"}),
        ("https://host/photos/", {}, {"web"}),
        ("http://host/", {}, set()),
        ("s3://none/", {}, set()),
    ],
)
def test_which_refs_are_meant(text: str | None, options: dict[str, str], meant: set[str]) -> None:
    selection = select(text, **options)  # type: ignore[arg-type]  # one dict for options of two types
    assert {name for name, key in REFS.items() if selection.covers(key)} == meant


@pytest.mark.parametrize("text", ["/tmp/a.jpg", "file:///tmp/", "ftp://host/", "s3:///key", "photos/"])
def test_what_the_cache_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text.rpartition("/")[0]):
        select(text)


@pytest.mark.parametrize(
    ("key", "uri"),
    [
        (RefKey(LOCAL, "bucket", "a b"), "s3://bucket/a b"),
        (RefKey("", "bucket", "k", "v1"), "s3://bucket/k?versionId=v1"),
        (RefKey("http://", "host:80", "/a?b"), "http://host:80/a?b"),
    ],
)
def test_a_ref_has_the_uri_that_it_was_fetched_by(key: RefKey, uri: str) -> None:
    assert uri_of(key) == uri
    assert select(uri, one=True).covers(key)


def test_an_endpoint_is_named_where_it_says_more_than_the_uri() -> None:
    assert Place(LOCAL, "b").label == LOCAL
    assert Place("", "b").label == Place("https://", "host").label == ""
