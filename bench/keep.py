"""The way into a directory that every row takes which has no cache of its own: BLAKE3, a temporary file, a rename."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

if TYPE_CHECKING:
    from typing import Self

    Body = bytes | bytearray | memoryview


class Kept(NamedTuple):
    """One object that was fetched: its digest in hex (None: the row made none), and where it is (None: nowhere)."""

    key: str
    size: int
    digest: str | None
    path: str | None


class Keep:
    """Keeps bodies under their digests. Threads may share one."""

    def __init__(self, directory: str) -> None:
        self.kept: list[Kept] = []
        self._directory = directory
        self._serial = count()

    def put(self, key: str, body: Body) -> None:
        """Keeps a body that is there as a whole."""
        with self.begin(key) as piece:
            piece.write(body)

    def begin(self, key: str) -> Piece:
        """Keeps a body that comes in pieces."""
        return Piece(self, key, f"{self._directory}/{next(self._serial)}.tmp")

    def published(self, piece: Piece) -> None:
        """Renames a whole file to its digest."""
        digest = piece.digest()
        path = f"{self._directory}/{digest}"
        os.rename(piece.path, path)  # noqa: PTH104 (a Path costs as much as the call)
        self.kept.append(Kept(piece.key, piece.size, digest, path))


class Piece:
    """One file as it comes; leaving its context without an exception publishes it."""

    __slots__ = ("_descriptor", "_hasher", "_keep", "key", "path", "size")

    def __init__(self, keep: Keep, key: str, path: str) -> None:
        self._keep = keep
        self._hasher = blake3()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.key = key
        self.path = path
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        os.close(self._descriptor)
        if kind is None:
            self._keep.published(self)

    def write(self, body: Body) -> None:
        """Hashes and writes what comes next."""
        self._hasher.update(body)
        self.size += len(body)
        view = memoryview(body)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def digest(self) -> str:
        """Of all that was written, in hex."""
        return self._hasher.hexdigest()
