"""Buffers: little is wasted, little is kept, and the warmest comes first."""

from __future__ import annotations

import ctypes
import mmap

from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import BufferPool
from asyncfetch.cache.buffers import size_class
from asyncfetch.cache.sinks import PIECE

KIB = 1024


@given(st.integers(0, 1 << 40))
def test_size_class_holds_the_size_and_wastes_at_most_a_quarter(size: int) -> None:
    capacity = size_class(size)
    assert capacity >= size
    assert capacity <= max(4096, size * 1.25)
    assert size_class(capacity) == capacity


def test_powers_of_two_are_classes() -> None:
    assert [size_class(1 << power) for power in range(12, 31)] == [1 << power for power in range(12, 31)]


def test_a_piece_begins_where_a_page_does() -> None:
    pool = BufferPool()
    for piece in [pool.take(PIECE) for _ in range(3)]:
        assert ctypes.addressof(ctypes.c_char.from_buffer(piece)) % mmap.PAGESIZE == 0


def test_last_buffer_given_is_the_next_taken() -> None:
    pool = BufferPool()
    first, second = pool.take(86_000), pool.take(86_000)
    pool.give(first)
    pool.give(second)
    assert pool.take(90_000) is second
    assert pool.take(80_000) is not first  # of another class
    assert pool.take(86_000) is first
    statistics = pool.statistics()
    assert (statistics.fresh, statistics.reused) == (3, 2)


@given(st.lists(st.integers(0, 40 * KIB), max_size=60))
def test_idle_bytes_are_bounded_and_all_is_accounted_for(sizes: list[int]) -> None:
    limit = 64 * KIB
    pool = BufferPool(idle_limit=limit)
    lent: list[memoryview] = []
    for size in sizes:
        lent.append(pool.take(size))
        if len(lent) > 3:
            pool.give(lent.pop(size % len(lent)))
        assert len({id(buffer) for buffer in lent}) == len(lent)
        statistics = pool.statistics()
        assert statistics.in_use_bytes == sum(len(buffer) for buffer in lent)
        assert 0 <= statistics.idle_bytes <= limit


def test_class_unused_for_longest_gives_way() -> None:
    pool = BufferPool(idle_limit=64 * KIB)
    old = [pool.take(16 * KIB) for _ in range(4)]
    for buffer in old:
        pool.give(buffer)
    new = [pool.take(8 * KIB) for _ in range(8)]
    for buffer in new:
        pool.give(buffer)
    assert pool.statistics().idle_bytes == 64 * KIB
    assert {id(pool.take(8 * KIB)) for _ in range(8)} == {id(buffer) for buffer in new}
    assert pool.statistics().idle_bytes == 0


def test_buffer_larger_than_all_that_may_idle_is_not_kept() -> None:
    pool = BufferPool(idle_limit=4 * KIB)
    pool.give(pool.take(16 * KIB))
    assert pool.statistics() == (0, 0, 1, 0)
