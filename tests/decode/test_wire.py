"""Frames survive any split of the stream."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode.wire import Unpacker, pack

messages = st.lists(
    st.lists(st.integers() | st.text() | st.none() | st.lists(st.floats(allow_nan=False), max_size=3), max_size=4),
    max_size=5,
)


@given(messages, st.data())
def test_messages_come_out_as_they_went_in_however_the_bytes_are_split(
    sent: list[list[object]], data: st.DataObject
) -> None:
    stream = b"".join(map(pack, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    unpacker, received = Unpacker(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += unpacker.feed(stream[begin:end])
    assert received == sent


def test_a_file_name_that_is_no_unicode_survives() -> None:
    name = os.fsdecode(b"/caf\xe9.jpg")
    assert Unpacker().feed(pack([name])) == [[name]]


def test_a_frame_that_is_not_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        Unpacker().feed(b"\x04\0\0\0what")
