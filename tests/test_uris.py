"""Names of objects: whatever a user types is one location or a clear error, and a location survives being written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncfetch.errors import InvalidURI, UsageError
from asyncfetch.settings import parse_duration, parse_size
from asyncfetch.uris import Location, parse, s3

# Text as S3 takes it for a key: any Unicode of at most 1,024 bytes.
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=300).filter(lambda key: len(key.encode()) <= 1024)
pieces = st.sampled_from(["?versionId=", "/", "..", ".", "%", "%20", "+", " ", "\r\n", "\0", "#", "?", "&", "a", "ü"])
awkward_keys = st.lists(pieces, max_size=8).map("".join)
versions = st.none() | st.text("abcXYZ019._-+~", min_size=1, max_size=40)
# What the names of files can hold: bytes, except NUL.
paths = st.binary(min_size=1, max_size=60).map(lambda name: "/" + os.fsdecode(name.replace(b"\0", b"\x01")))


@given(keys | awkward_keys, versions)
@example("photo?versionId=1", None)
@example("photo?versionId=", "2")
def test_an_s3_location_survives_being_written_and_read(key: str, version: str | None) -> None:
    location = s3("bucket", key, version)
    assert parse(str(location)) == location


POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/mine"
ARNS = [
    POINT,
    "arn:aws:s3:us-west-2:123456789012:accesspoint:mine",
    "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
    "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/mine",
    "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/mine",
    "arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/mine",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/mine",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost:op-01ac5d28a6a232904:accesspoint:mine",
]


@pytest.mark.parametrize("arn", ARNS)
@given(keys | awkward_keys, versions)
@example("", None)
@example("/leading", None)
@example("accesspoint/other/key", None)
def test_the_slash_of_an_arn_is_not_the_one_before_the_key(arn: str, key: str, version: str | None) -> None:
    location = s3(arn, key, version)
    assert parse(str(location)) == location == Location("s3", arn, key, version)
    assert parse(f"s3://{arn}") == Location("s3", arn, "")


@given(keys)
@example("a/../b")
@example("/leading")
@example("double//slash")
@example("trailing/")
@example("a%20b")
@example("a+b c")
@example("ü/€/😀")
@example("é" * 512)
def test_keys_are_raw(key: str) -> None:
    location = parse(f"s3://bucket/{key}")
    if "?versionId=" not in key:
        assert location == Location("s3", "bucket", key)


@given(paths)
def test_a_path_survives_being_written_as_a_uri(path: str) -> None:
    location = parse(path)
    assert location.key == path
    assert str(location).isascii()
    assert parse(str(location)) == location


@given(st.text(max_size=60))
@example("s3://bucket/\ud800")
@example("s3://\ud800/key")
@example("file:///\udcff%ff")
@example("/\ud800")
@example("http://host/\r\nHost: other")
def test_any_text_is_a_location_or_an_invalid_uri(text: str) -> None:
    written = text
    try:
        written = str(parse(text))
    except InvalidURI as error:
        written = str(error)
    else:
        assert parse(written) == parse(text)
    assert written.encode()  # whatever it is, it can be put into a log


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("s3://bucket/a?versionId=v.1_-", Location("s3", "bucket", "a", "v.1_-")),
        ("s3://bucket/a?versionId=", Location("s3", "bucket", "a")),
        ("s3://bucket/a?versionId=b/c", Location("s3", "bucket", "a?versionId=b/c")),
        ("s3://bucket/a?versionId=b?versionId=c", Location("s3", "bucket", "a?versionId=b", "c")),
        ("s3://bucket", Location("s3", "bucket", "")),
        ("s3://bucket/", Location("s3", "bucket", "")),
        ("S3://bucket/Key", Location("s3", "bucket", "Key")),
        ("file:///tmp/a%20b", Location("file", "", "/tmp/a b")),
        ("file://localhost/tmp/x", Location("file", "", "/tmp/x")),
        ("/tmp/a%20b", Location("file", "", "/tmp/a%20b")),
        ("/tmp/dir/", Location("file", "", "/tmp/dir/")),
        ("https://host", Location("https", "host", "/")),
        ("https://host?q=/x", Location("https", "host", "/?q=/x")),
        ("HTTP://host:81/a?b=c#d", Location("http", "host:81", "/a?b=c")),
    ],
)
def test_what_a_uri_means(uri: str, location: Location) -> None:
    assert parse(uri) == location


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "^'': it is empty"),
        ("file://", "empty"),
        ("file://elsewhere/x", "another host"),
        ("ftp://host/x", "'ftp' is not known"),
        ("s3:///key", "no bucket"),
        ("s3://buck et/key", "bucket's name"),
        ("s3://buck\net/key", "bucket's name"),
        ("s3://bucket/" + "é" * 513, "1026 bytes"),
        ("s3://arn:aws:s3:::bucket/key", "by its name, not by its ARN"),
        ("s3://arn:aws:s3:us-west-2:123456789012:bucket/key", "not that of an access point"),
        ("s3://arn:aws:s3:us-west-2:1234:accesspoint/mine/key", "not that of an access point"),
        ("s3://arn:aws:s3:us-west-2:123456789012:accesspoint", "not that of an access point"),
        ("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/", "not that of an access point"),
        ("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/my_point/key", "not that of an access point"),
        ("s3://arn:aws:s3:us west-2:123456789012:accesspoint/mine/key", "not that of an access point"),
        ("s3://arn:aws:s3-outposts::123456789012:outpost/op-1/accesspoint/mine/key", "not that of an access point"),
        ("s3://arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/mine/key", "not that of an access point"),
        ("s3://arn:aws:sqs:us-west-2:123456789012:queue/key", "not that of an access point"),
        ("s3://arn:/key", "not that of an access point"),
        ("http:///x", "no host"),
        ("https://user:hush@host/a", "^https://host/a: a user name or password"),
        ("https://host/a b", "character"),
        ("https://host/a\r\nX: y", "character"),
        ("/a\0b", "NUL"),
        (b"/a", "bytes"),
        (7, "neither text nor a path"),
        (None, "neither text nor a path"),
    ],
)
def test_what_names_nothing_is_refused_with_a_reason(uri: Any, said: str) -> None:
    with pytest.raises(InvalidURI, match=said):
        parse(uri)


def test_a_relative_path_is_resolved_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = parse("pictures/a.jpg")
    monkeypatch.chdir("/")
    assert location == Location("file", "", f"{tmp_path}/pictures/a.jpg")


def test_a_path_object_is_never_taken_for_a_uri() -> None:
    assert parse(Path("s3://bucket/key")).scheme == "file"


@pytest.mark.parametrize(
    ("bucket", "version"),
    [("", None), ("a/b", None), ("\ud800", None), (f"{POINT}/more", None), ("b", "x y"), ("b", "\udcff")],
)
def test_parts_are_checked_like_uris(bucket: str, version: str | None) -> None:
    with pytest.raises(InvalidURI):
        s3(bucket, "key", version)


@given(st.integers(1, 10**18 - 1))
def test_a_size_in_digits_is_itself(size: int) -> None:
    assert parse_size(size) == parse_size(str(size)) == parse_size(f" {size} B ") == size


@given(st.integers(0, 10**12), st.integers(1, 999), st.sampled_from("kmgt"), st.booleans())
def test_a_size_is_computed_without_rounding(whole: int, thousandths: int, unit: str, binary: bool) -> None:
    factor = (1024 if binary else 1000) ** (" kmgt".index(unit))
    text = f"{whole}.{thousandths:03d}{unit}{'i' if binary else ''}B"
    assert parse_size(text) == (whole * 1000 + thousandths) * factor // 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20),
        ("1.5 GB", 1_500_000_000),
        ("64k", 64_000),
        ("64Ki", 65_536),
        ("2 tb", 2 * 10**12),
        ("1.9", 1),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "MiB",
        "1e3",
        "-1",
        "0",
        "0.5",
        "5i",
        "5iB",
        "5 Kibibytes",
        "1.2.3",
        "1 2",
        "٣",
        "9" * 400,
        0,
        -1,
        True,
        1.5,
        None,
    ],
)
def test_what_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="memory_budget"):
        parse_size(value, name="memory_budget")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), (" 2 W ", 1_209_600), ("1.5h", 5400), ("0s", 0)],
)
def test_durations_are_read_in_their_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1y", "1h30m", "1e3s", "٣d", "soon"])
def test_what_is_no_duration_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(UsageError, match="--older-than"):
        parse_duration(text, name="--older-than")
