"""Headers of ranges, ETags and waits, as RFC 9110 has them and as servers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import RangeNotSatisfiable
from asyncfetch.origins import ByteRange
from asyncfetch.origins.headers import (
    ContentRange,
    clip_range,
    read_content_range,
    read_etag,
    read_retry_after,
    write_etag,
)


@given(st.integers(0, 10**15), st.integers(1, 10**15), st.integers(0, 10**15) | st.none())
def test_a_content_range_is_read_as_it_is_written(start: int, length: int, behind: int | None) -> None:
    stop = start + length
    total = None if behind is None else stop + behind
    told = f"bytes {start}-{stop - 1}/{'*' if total is None else total}"
    assert read_content_range(told) == ContentRange(start, stop, total)
    wanted = ByteRange(start, stop)
    assert str(wanted) == f"bytes={start}-{stop - 1}"


@pytest.mark.parametrize(
    "value",
    [None, "", "bytes 5-4/10", "bytes 0-10/10", "bytes */10", "items 0-1/2", "bytes 0-1/2 ", "bytes 0-1/-2"],
)
def test_what_is_no_content_range_is_none(value: str | None) -> None:
    assert read_content_range(value) is None


@given(st.binary(max_size=30), st.integers(0, 40), st.none() | st.integers(1, 40))
def test_a_clipped_range_cuts_as_a_slice_does(body: bytes, start: int, length: int | None) -> None:
    wanted = ByteRange(start, None if length is None else start + length)
    if start >= len(body):
        with pytest.raises(RangeNotSatisfiable, match=f"byte {start}, the object has {len(body)}"):
            clip_range(wanted, len(body), "s3://b/k")
    else:
        first, stop = clip_range(wanted, len(body), "s3://b/k")
        assert len(body[first:stop]) == stop - first
        assert body[first:stop] == body[wanted.start : wanted.stop]


@pytest.mark.parametrize(
    ("header", "etag"),
    [
        ('"abc"', "abc"),
        ("abc", "abc"),
        ('W/"abc"', "W/abc"),
        ('""', ""),
        ('"', '"'),
        ('"a"b"', 'a"b'),
        ("", None),
        (None, None),
    ],
)
def test_etags_lose_their_quotes(header: str | None, etag: str | None) -> None:
    assert read_etag(header) == etag


@given(st.text(st.characters(codec="latin-1", exclude_characters='"'), min_size=1), st.booleans())
def test_etags_get_back_the_quotes_they_had(tag: str, weak: bool) -> None:
    header = f'W/"{tag}"' if weak else f'"{tag}"'
    etag = read_etag(header)
    assert etag is not None
    if weak or not tag.startswith("W/"):
        assert write_etag(etag) == header


def test_a_wait_is_seconds_or_a_date() -> None:
    assert read_retry_after(" 120 ") == 120.0
    later = datetime.now(UTC) + timedelta(minutes=10)
    assert read_retry_after(format_datetime(later, usegmt=True)) == pytest.approx(600, abs=30)
    assert read_retry_after(format_datetime(later.replace(tzinfo=None))) == pytest.approx(600, abs=30)
    assert read_retry_after("Fri, 20 Nov 2020 12:00:00 GMT") == 0.0
    # The moment is the server's, whatever this clock says.
    assert read_retry_after("Fri, 20 Nov 2020 12:00:03 GMT", "Fri, 20 Nov 2020 12:00:00 GMT") == 3.0
    assert read_retry_after(format_datetime(later, usegmt=True), "no date") == pytest.approx(600, abs=30)
    for nothing in (None, "", "soon", "-5", "1.5", "9" * 12):
        assert read_retry_after(nothing) is None
