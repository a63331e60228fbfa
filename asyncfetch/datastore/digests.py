"""Digests of SHA-256: what the data of a store is named by, so that any tool can check it."""

from __future__ import annotations

import hashlib
import io
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.datastore.errors import InvalidDigest, SourceChanged
from asyncfetch.datastore.threads import may_go_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from typing_extensions import Buffer

PIECE = 1 << 20

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def read_digest(given: object) -> str:
    """The digest that a text says: 64 hexadecimal digits, in any case, also behind `sha256:`.

    Raises `InvalidDigest` for everything else: a shortened digest is not completed.
    """
    if isinstance(given, str):
        digest = given.removeprefix("sha256:").lower()
        if _DIGEST.match(digest):
            return digest
    raise InvalidDigest(given)


def is_digest(text: str) -> bool:
    """Whether a text is a digest as keys have it."""
    return _DIGEST.match(text) is not None


class HashingFile(io.RawIOBase):
    """A file that is only written: it keeps the digest and the size of what passes, and hands it on if it has to."""

    def __init__(self, sink: BinaryIO | None = None) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Buffer) -> int:
        may_go_on()
        view = memoryview(piece).cast("B")
        self._hash.update(view)
        self.size += len(view)
        if self._sink is not None:
            self._sink.write(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Measured(NamedTuple):
    """A file as it was when it was read: what shows later that nobody has written it since."""

    digest: str
    size: int
    stamp: tuple[int, int, int, int]  # device, inode, size, time of modification in ns


def measure(path: str | os.PathLike[str], sink: Callable[[bytes], object] | None = None) -> Measured:
    """Hashes a file, piece by piece, and hands the pieces on. Blocks.

    Raises `OSError`, and `SourceChanged` when it was written meanwhile.
    """
    hashing = hashlib.sha256()
    size = 0
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (any path-like)
        before = stamp_of(file.fileno())
        while piece := file.read(PIECE):
            may_go_on()
            hashing.update(piece)
            size += len(piece)
            if sink is not None:
                sink(piece)
        after = stamp_of(file.fileno())
    if before != after or size != after[2]:
        raise SourceChanged(f"{path}: it was written while it was read")
    return Measured(hashing.hexdigest(), size, after)


def stamp_of(path: str | os.PathLike[str] | int | Path) -> tuple[int, int, int, int]:
    """What changes when a file is written or replaced."""
    seen = os.stat(path)  # noqa: PTH116 (a descriptor too)
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns
