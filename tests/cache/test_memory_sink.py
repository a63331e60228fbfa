"""The sink that makes bytes of a body: whatever was announced they are what came, and never change afterwards."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import MemorySink


@given(
    data=st.binary(max_size=5000),
    hint=st.sampled_from(["right", "none", "zero", "short", "long"]),
    step=st.integers(1, 700),
)
def test_memory_sink_collects_what_comes_whatever_was_announced(data: bytes, hint: str, step: int) -> None:
    told: list[int] = []
    sink, view = MemorySink(on_length=told.append), memoryview(data)
    first = {"right": len(data), "none": -1, "zero": 0, "short": len(data) // 2, "long": len(data) + 99}[hint]
    held = []
    while view:
        room = sink.get_buffer(first)
        assert len(room) > 0
        held.append(room)  # an origin may forget to let go: the result must not suffer
        count = min(len(room), step, len(view))
        room[:count] = view[:count]
        sink.advance(count)
        view = view[count:]
    result = sink.finish()
    assert result == data
    assert type(result) is bytes
    if data or first < 0:
        assert told == [first if first >= 0 else len(data)]
    for room in held:
        room[:] = bytes(len(room))
    assert result == data


def test_memory_sink_hands_out_the_memory_that_was_written() -> None:
    """Announced, a body is not copied again: the peak is the body and nothing else."""
    size = 32 << 20
    tracemalloc.start()
    try:
        sink = MemorySink()
        sink.advance(len(sink.get_buffer(size)))
        assert len(sink.finish()) == size
        assert tracemalloc.get_traced_memory()[1] < size * 1.05
    finally:
        tracemalloc.stop()


def test_memory_sink_refuses_more_than_it_gave_room_for() -> None:
    sink = MemorySink()
    with pytest.raises(ValueError, match="not written"):
        sink.advance(1)
    sink.get_buffer(10)
    with pytest.raises(ValueError, match="not written"):
        sink.advance(11)
