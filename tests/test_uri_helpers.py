"""What callers do with names: tell them apart, take them apart, write them, and join them without loss."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncfetch.errors import InvalidURI
from asyncfetch.uris import (
    Location,
    as_pathlike,
    as_string,
    is_file_path,
    is_url,
    join_any,
    parse,
    parse_s3_uri,
    s3,
)
from tests.test_uris import awkward_keys, keys, paths, versions

short_keys = (keys | awkward_keys).filter(lambda key: len(key.encode()) <= 400)
# Names of files: any text that Linux takes for one, without separators of any system.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\:"), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..")
)
printable_names = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" ", exclude_characters="/\\:"),
    min_size=1,
    max_size=30,
).filter(lambda name: name not in (".", ".."))


@given(keys | awkward_keys)
@example("photo?versionId=1")
@example("/leading")
def test_bucket_and_key_of_a_uri(key: str) -> None:
    assert parse_s3_uri(str(s3("bucket", key))) == ("bucket", key)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://bucket/a?versionId=1", "version"),
        ("https://host/a", "no URI of S3"),
        ("/tmp/a", "no URI of S3"),
        ("s3://", "no bucket"),
        (None, "neither text nor a path"),
    ],
)
def test_other_names_are_no_bucket_and_key(uri: Any, message: str) -> None:
    with pytest.raises(InvalidURI, match=message):
        parse_s3_uri(uri)


@pytest.mark.parametrize(
    ("name", "url", "file"),
    [
        ("https://host/a", True, False),
        ("HTTP://host", True, False),
        (parse("http://host/a"), True, False),
        ("https://", False, False),
        ("https://host/a b", False, False),
        ("s3://bucket/key", False, False),
        ("ftp://host/a", False, False),
        ("/tmp/a", False, True),
        ("a.jpg", False, True),
        ("https:/host", False, True),
        (Path("a"), False, True),
        ("file:///tmp/a", False, True),
        ("file://elsewhere/a", False, False),
        (r"C:\photos\a.jpg", False, True),
        (r"\\server\share\a", False, True),
        (PureWindowsPath("C:/a"), False, True),
        (parse("/tmp/a"), False, True),
        ("", False, False),
        ("a\0b", False, False),
        (b"/tmp/a", False, False),
        (None, False, False),
        (7, False, False),
    ],
)
def test_names_are_told_apart_by_their_form(name: object, url: bool, file: bool) -> None:
    assert (is_url(name), is_file_path(name)) == (url, file)


@given(st.text(max_size=40))
def test_any_text_is_told_without_an_error(text: str) -> None:
    assert not (is_url(text) and is_file_path(text))


@given(short_keys, versions)
def test_an_object_survives_being_taken_apart_and_written(key: str, version: str | None) -> None:
    location = s3("bucket", key, version)
    assert as_pathlike(as_string(location)) == location == parse(as_string(location))


@given(paths)
def test_a_file_survives_being_taken_apart_and_written(path: str) -> None:
    assert as_pathlike(path) == Path(path) == as_pathlike(as_string(Path(path)))
    assert as_pathlike(str(parse(path))) == Path(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", Path("a/b.jpg")),
        (PurePosixPath("a/b"), Path("a/b")),
        ("file:///tmp/a%20b", Path("/tmp/a b")),
        (parse("/tmp/a"), Path("/tmp/a")),
        (r"C:\a\b", PureWindowsPath("C:/a/b")),
        ("https://host/a?b=c", Location("https", "host", "/a?b=c")),
    ],
)
def test_what_can_be_taken_apart(name: Any, expected: object) -> None:
    found = as_pathlike(name)
    assert (type(found), found) == (type(expected), expected)
    assert as_pathlike(as_string(found)) == found


@pytest.mark.parametrize("name", [None, 7, b"/tmp/a"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    for refuse in (as_pathlike, as_string):
        with pytest.raises(InvalidURI):
            refuse(name)


@given(short_keys, short_keys)
@example("p", "/x")
@example("p/", "../x")
@example("p", "a?versionId=1")
def test_a_key_behind_a_prefix_is_raw(prefix: str, key: str) -> None:
    bucket, joined = parse_s3_uri(join_any(str(s3("bucket", prefix)), key))
    assert bucket == "bucket"
    assert joined == (f"{prefix}{key}" if prefix == "" or prefix.endswith("/") else f"{prefix}/{key}")
    assert parse_s3_uri(join_any("s3://bucket", key)) == ("bucket", key)


@given(printable_names)
@example("a?b=c#d")
@example("a%20b c")
def test_a_name_behind_a_url_is_a_name(name: str) -> None:
    joined = join_any("https://host/dir", name)
    assert is_url(joined)
    assert unquote(parse(joined).key) == f"/dir/{name}"
    assert join_any("https://host", name) == f"https://host/{joined.rpartition('/')[2]}"


@given(names, names)
def test_files_are_joined_by_the_rules_of_their_system(first: str, second: str) -> None:
    assert join_any("/data", first, second) == f"/data/{first}/{second}"
    assert join_any(Path("data"), first, second) == Path("data", first, second)
    assert parse(join_any("file:///data/", first)).key == f"/data/{first}"
    assert PureWindowsPath(join_any("C:\\data", first, second)).parts == ("C:\\", "data", first, second)
    assert PureWindowsPath(join_any("\\\\server\\share", first)).parts == ("\\\\server\\share\\", first)


def test_the_base_keeps_its_kind() -> None:
    assert join_any(s3("bucket", "p"), "a", Path("b/c")) == s3("bucket", "p/a/b/c")
    assert join_any(PureWindowsPath("C:/p"), "a/b") == PureWindowsPath("C:/p/a/b")
    assert join_any("relative/", "a") == "relative/a"
    assert join_any("s3://bucket/p") == "s3://bucket/p"


@pytest.mark.parametrize(
    ("base", "part"),
    [
        ("/data", "/etc/passwd"),
        (Path("data"), "/etc/passwd"),
        ("file:///data", "/etc/passwd"),
        ("C:\\data", "D:\\other"),
        ("C:\\data", "\\other"),
        ("C:\\data", "D:other"),
        ("s3://bucket/a?versionId=1", "b"),
        ("https://host/a?b=c", "d"),
        ("s3://bucket/" + "a" * 1000, "b" * 100),
        ("ftp://host/a", "b"),
    ],
)
def test_what_would_lose_the_base_is_refused(base: Any, part: str) -> None:
    with pytest.raises(InvalidURI):
        join_any(base, part)


def test_no_byte_of_a_path_is_lost() -> None:
    odd = os.fsdecode(b"\xff")
    assert join_any("/data", odd) == f"/data/{odd}"
    assert parse(join_any("file:///data", odd)).key == f"/data/{odd}"
