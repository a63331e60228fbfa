"""Maps of unfinished bodies: whatever was cut short, no byte is claimed that was not written before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache.partmap import Begun, head, join, missing, parse, record

from .helpers import key

SIZE = 1 << 20
WIDTH = 34  # of a record
BEGUN = Begun(key("large", "v1"), "etag", SIZE)

stretches = st.lists(
    st.integers(0, SIZE - 1).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, SIZE))), max_size=8
)


def test_what_was_written_is_read() -> None:
    found = parse(head(BEGUN, "boot") + record(10, 20) + record(0, 10) + record(30, 40))
    assert found is not None
    assert (found.begun, found.boot) == (BEGUN, "boot")
    assert found.stretches == [(0, 20), (30, 40)]
    assert found.end == len(head(BEGUN, "boot")) + 3 * WIDTH


@given(stretches, st.data())
def test_a_map_that_was_cut_anywhere_claims_the_whole_records_before(
    ranges: list[tuple[int, int]], data: st.DataObject
) -> None:
    first = head(BEGUN, "boot")
    text = first + b"".join(record(*one) for one in ranges)
    cut = data.draw(st.integers(0, len(text)))
    found = parse(text[:cut])
    if cut < len(first):
        assert found is None
        return
    assert found is not None
    whole = (cut - len(first)) // WIDTH
    assert found.stretches == join(ranges[:whole], SIZE)
    assert found.end == len(first) + whole * WIDTH


@given(stretches, st.integers(1, WIDTH - 1), stretches)
def test_nothing_is_believed_behind_a_record_that_was_cut(
    before: list[tuple[int, int]], cut: int, behind: list[tuple[int, int]]
) -> None:
    text = head(BEGUN, "boot") + b"".join(record(*one) for one in before) + record(7, SIZE)[:cut]
    found = parse(text + b"".join(record(*one) for one in behind))
    assert found is not None
    assert found.stretches == join(before, SIZE)


@given(stretches)
def test_joined_and_missing_are_all_bytes_once(ranges: list[tuple[int, int]]) -> None:
    joined = join(ranges, SIZE)
    gaps = missing(joined, SIZE)
    at = 0
    for start, stop in sorted([*joined, *gaps]):
        assert (start, stop > start) == (at, True)
        at = stop
    assert at == SIZE
    assert all(any(start <= one[0] and one[1] <= stop for start, stop in joined) for one in ranges)


def test_what_lies_outside_of_the_object_is_not_believed() -> None:
    assert join([(5, 5), (9, 3), (SIZE - 1, SIZE + 1), (-3, 2), (2, 4)], SIZE) == [(2, 4)]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b"\xff\n",
        head(BEGUN, "boot")[:-1],
        head(BEGUN._replace(size=0), "boot"),
        head(BEGUN, "boot").replace(b'"v1"', b"1"),
        head(BEGUN, "boot").replace(b'"v1", ', b"").replace(b', "v1"', b""),
    ],
)
def test_a_head_that_cannot_be_believed_makes_no_map(text: bytes) -> None:
    assert parse(text) is None


def test_another_object_of_the_same_key_has_the_same_name() -> None:
    assert BEGUN.name == BEGUN._replace(etag="other", size=5).name
    assert len({BEGUN.name, Begun(key("large"), "etag", SIZE).name, Begun(key("larger", "v1"), "etag", SIZE).name}) == 3
