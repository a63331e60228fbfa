"""What may name an object."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncfetch.errors import InvalidURI, UsageError
from asyncfetch.objects import ObjectStat
from asyncfetch.streams.sources import read_name, split, text_of
from asyncfetch.uris import Location, s3


def test_a_uri_keeps_its_own_text() -> None:
    uri, _, _ = read_name("s3://b/k%20 ?versionId=7")
    assert uri == "s3://b/k%20 ?versionId=7"


def test_a_path_object_is_a_file() -> None:
    assert read_name(Path("/data/a.jpg")) == ("/data/a.jpg", Location("file", "", "/data/a.jpg"), None)


def test_a_listed_object_brings_what_the_listing_said() -> None:
    stat = ObjectStat("s3://b/k", 5, "etag")
    assert read_name(stat) == ("s3://b/k", Location("s3", "b", "k"), stat)


def test_a_location_is_a_name_and_not_a_pair_with_payload() -> None:
    location = s3("b", "k")
    assert split(location) == (location, None)
    assert read_name(location) == (str(location), location, None)


@pytest.mark.parametrize("payload", [None, 7, {"label": 1}, (1, 2)])
def test_a_payload_rides_along(payload: object) -> None:
    assert split(("s3://b/k", payload)) == ("s3://b/k", payload)


@pytest.mark.parametrize("source", [("s3://b/k",), ("a", "b", "c"), ()])
def test_a_tuple_of_another_length_is_refused(source: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="is not \\(name, payload\\)"):
        split(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 3, b"s3://b/k", ["s3://b/k"], {"uri": "s3://b/k"}])
def test_what_names_nothing_is_refused(name: object) -> None:
    with pytest.raises(UsageError):
        read_name(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "ftp://host/file", "s3://", "s3:///key", "http://"])
def test_a_text_that_cannot_be_a_uri_is_refused(name: str) -> None:
    with pytest.raises(InvalidURI):
        read_name(name)


def test_a_failure_names_its_source_in_short() -> None:
    assert text_of(("s3://", 1)) == "s3://"
    assert len(text_of(["x" * 10_000])) <= 200
