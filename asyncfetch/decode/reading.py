"""Files as a worker reads them: their beginning first, and the rest only if it is wanted."""

from __future__ import annotations

import mmap
import os

_LEAST = 1 << 20
_MOST_KEPT = 16 << 20  # a buffer larger than this is not kept for the next image


def read_whole(path: str) -> bytes:
    """Reads a file into memory of its own, without a second copy. Raises `OSError`."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path costs as much as the opening
        return file.read()


class Reader:
    """Reads one file at a time into a buffer that is reused: fresh memory costs more than reading. Raises `OSError`."""

    def __init__(self) -> None:
        self._buffer = bytearray(_LEAST)
        self._descriptor = -1
        self._size = 0  # of what has been read
        self._whole = False  # whether that is known to be all

    def open(self, path: str, least: int) -> memoryview:
        """Opens a file and gives its beginning: `least` bytes or more, or all that it has."""
        self._descriptor, self._size, self._whole = os.open(path, os.O_RDONLY), 0, False
        while self._size < least and self._more():
            pass
        return memoryview(self._buffer)[: self._size]

    def look(self) -> tuple[memoryview, int]:
        """Gives all bytes without reading those that are not read yet, and their number."""
        size = os.fstat(self._descriptor).st_size
        if size <= self._size:
            self._whole = size == self._size  # a special file has none
            return memoryview(self._buffer)[: self._size], self._size
        return memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)), size

    def read(self) -> memoryview:
        """Reads the rest, and gives all bytes. They are valid until the next file is opened."""
        while not self._whole and self._more():
            pass
        return memoryview(self._buffer)[: self._size]

    def close(self) -> None:
        """Closes the file. Twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if len(self._buffer) > _MOST_KEPT:
            self.shrink()

    def shrink(self) -> None:
        """Gives up what the buffer has grown to."""
        self._buffer = bytearray(_LEAST)

    def _more(self) -> int:
        if self._size == len(self._buffer):
            larger = bytearray(max(2 * self._size, os.fstat(self._descriptor).st_size + 1))
            larger[: self._size] = self._buffer
            self._buffer = larger
        count = os.readv(self._descriptor, [memoryview(self._buffer)[self._size :]])
        self._size += count
        return count
