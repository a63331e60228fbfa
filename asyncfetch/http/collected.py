"""The sink of a body that is wanted whole, in memory: a document of a kind that is known to be small."""

from __future__ import annotations

from typing import Final

from asyncfetch.http.errors import ResponseTooLarge

FIRST: Final = 64 << 10  # first room for a body of unknown length; it doubles from there


class Collected:
    """Keeps a body in memory, up to `limit` bytes; what is larger raises `ResponseTooLarge`, here or in `advance`."""

    __slots__ = ("_data", "_limit", "_size")

    def __init__(self, length: int, limit: int) -> None:
        """`length` is what is announced, below 0 where nobody knows."""
        if length > limit:
            raise ResponseTooLarge(limit)
        # One byte more than is allowed, where the length is unknown, tells a body of just the limit from a larger one.
        self._data = bytearray(length if length >= 0 else min(limit + 1, FIRST))
        self._size = 0
        self._limit = limit

    def get_buffer(self, hint: int) -> memoryview:
        """Room for the next bytes, never empty."""
        if self._size == len(self._data):
            larger = bytearray(min(2 * self._size, self._limit + 1))
            larger[: self._size] = self._data
            self._data = larger
        return memoryview(self._data)[self._size :]

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of the room given last as written."""
        self._size += count
        if self._size > self._limit:
            raise ResponseTooLarge(self._limit)

    def take(self) -> bytes:
        """What came."""
        return bytes(memoryview(self._data)[: self._size])
