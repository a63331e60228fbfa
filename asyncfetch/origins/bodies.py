"""What is written to S3: a buffer, or a local file, read piece by piece with the CRC32 of each piece and of them all.

CRC32 is what every reader of this package can check (`NetworkPolicy(checksums=True)`), and what S3 can keep of a whole
object that came in parts; SHA-256 it keeps of the parts alone (AWS: "Checking object integrity in Amazon S3").
"""

from __future__ import annotations

import asyncio
import os
import stat
import zlib
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Bytes = bytes | bytearray | memoryview
Written = Bytes | os.PathLike[str]

_INLINE = 1 << 20  # bytes whose CRC the loop computes itself, in 0.15 ms: less than two hops to a thread take


class Piece(NamedTuple):
    """Bytes with their CRC32, and with that of all bytes up to their end."""

    data: bytes
    crc: int
    running: int


class Body(Protocol):
    """Bytes of a known number that can be read more than once."""

    size: int
    resident: bool  # whole as bytes in memory already, where reading all of it copies nothing

    def read(self, start: int, size: int) -> bytes:
        """Copies some of them; may block."""
        ...

    async def check(self) -> None:
        """Raises `UsageError` where they are no longer what they were when the body was opened."""
        ...


class _Buffer:
    def __init__(self, body: Bytes) -> None:
        self._whole = body if isinstance(body, bytes) else None
        self.resident = self._whole is not None
        try:
            self._view = memoryview(body).cast("B")
        except TypeError as error:  # one that has gaps
            raise UsageError(f"what is written must be contiguous: {error}") from None
        self.size = len(self._view)

    def read(self, start: int, size: int) -> bytes:
        if self._whole is not None and (start, size) == (0, self.size):
            return self._whole
        return bytes(self._view[start : start + size])

    async def check(self) -> None:
        """Keeps quiet: who lends a buffer answers for it."""


class _File:
    resident = False

    def __init__(self, path: Path) -> None:
        self._path = path
        # A pipe would have the opening wait for its other end.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._first = os.fstat(self._descriptor)
        if not stat.S_ISREG(self._first.st_mode):
            self.close()
            raise UsageError(f"{path} is no file that can be sent")
        self.size = self._first.st_size

    def read(self, start: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, start)
        while 0 < len(data) < size and (more := os.pread(self._descriptor, size - len(data), start + len(data))):
            data += more
        if len(data) < size:
            raise self._changed()
        return data

    async def check(self) -> None:
        now = await asyncio.to_thread(os.fstat, self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._first.st_size, self._first.st_mtime_ns):
            raise self._changed()

    def close(self) -> None:
        os.close(self._descriptor)

    def _changed(self) -> UsageError:
        return UsageError(f"{self._path} was written to while it was being sent", remedy="Send a copy of it.")


@asynccontextmanager
async def opened(body: Written) -> AsyncIterator[Body]:
    """A buffer, or a file opened for its time. Raises what opening a file raises, and `UsageError` for the rest."""
    if isinstance(body, Bytes):
        yield _Buffer(body)
    elif isinstance(body, os.PathLike):
        # In a task, which ends as it must also when the one who waits for it is cancelled.
        opening = asyncio.ensure_future(asyncio.to_thread(_File, Path(body)))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        try:
            yield file
        finally:
            file.close()
    else:
        raise UsageError(f"what is written must be bytes or the path of a file, not {type(body).__name__}")


def _close_unused(opening: asyncio.Future[_File]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def read_piece(body: Body, start: int, size: int, running: int = 0) -> Piece:
    """Reads some bytes of a body, in a thread where that can take long; `running` is the CRC32 of those before."""
    if isinstance(body, _Buffer) and size <= _INLINE:
        return _read(body, start, size, running)
    return await asyncio.to_thread(_read, body, start, size, running)


def _read(body: Body, start: int, size: int, running: int) -> Piece:
    data = body.read(start, size)
    crc = zlib.crc32(data)
    return Piece(data, crc, crc if start == 0 else zlib.crc32(data, running))
