"""Memory for bodies, kept for reuse: to touch fresh memory costs 2.5 CPU-s/GB, to receive into old 0.3."""

from __future__ import annotations

import mmap
from typing import NamedTuple

from asyncfetch.settings import KIB, MIB

_LEAST = 4096  # a page of memory; smaller bodies would only multiply the classes

# What 64 bodies of 1 MiB, the default concurrency, give back at once.
IDLE_LIMIT = 64 * MIB

_MAPPED = 128 * KIB  # from here on the C library's allocator would ask the system as well


class BufferStatistics(NamedTuple):
    """How a pool is used."""

    in_use_bytes: int
    idle_bytes: int
    fresh: int  # buffers that had to be made
    reused: int


class BufferPool:
    """Lends buffers in size classes, the one returned last first: it is still in the processor's cache.

    Four classes to each power of two, so that at most a quarter more is lent than was asked for. Idle buffers are
    bounded in bytes; beyond that the class unused for longest gives way, so that a change of sizes does not leave the
    pool full of the old ones. Not for threads: it belongs to the loop.
    """

    def __init__(self, *, idle_limit: int = IDLE_LIMIT) -> None:
        self._idle_limit = idle_limit
        self._classes: dict[int, list[memoryview]] = {}  # least recently used first
        self._latest = 0  # the last of them
        self._idle_bytes = self._in_use_bytes = self._fresh = self._reused = 0

    def take(self, size: int) -> memoryview:
        """Lends a buffer of at least `size` bytes, with whatever its last user left in it."""
        capacity = size_class(size)
        self._in_use_bytes += capacity
        buffers = self._classes.get(capacity)
        if not buffers:
            self._fresh += 1
            return new_memory(capacity)
        self._reused += 1
        self._idle_bytes -= capacity
        return buffers.pop()

    def give(self, buffer: memoryview) -> None:
        """Takes a buffer back, the very view that was lent. Nothing may be written through it from here on."""
        capacity = len(buffer)
        self._in_use_bytes -= capacity
        self._idle_bytes += capacity
        if capacity != self._latest:
            self._classes[capacity] = self._classes.pop(capacity, [])
            self._latest = capacity
        self._classes[capacity].append(buffer)
        while self._idle_bytes > self._idle_limit:
            self._drop_one()

    def statistics(self) -> BufferStatistics:
        """What is lent and kept now."""
        return BufferStatistics(self._in_use_bytes, self._idle_bytes, self._fresh, self._reused)

    def _drop_one(self) -> None:
        capacity, buffers = next(iter(self._classes.items()))
        if buffers:
            buffers.pop(0)
            self._idle_bytes -= capacity
        if not buffers:
            del self._classes[capacity]
            self._latest = 0


def new_memory(size: int) -> memoryview:
    """Memory of so many bytes. That of a piece begins where a page does, as the pages that are copied into it do.

    An allocator puts large memory 16 bytes behind, where processors of AMD's Zen 3 take three times as long to copy a
    page: 0.45 CPU-s/GB in place of 0.15, out of a file or what came from a server on the same machine.
    """
    return memoryview(bytearray(size) if size < _MAPPED else mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE))


def size_class(size: int) -> int:
    """The capacity lent for a size: the next multiple of a quarter of the power of two below it, at least 4 KiB."""
    if size <= _LEAST:
        return _LEAST
    quarter = 1 << ((size - 1).bit_length() - 3)
    return -(-size // quarter) * quarter
