"""Digests: how a body's name is computed and written, `<algorithm>:<hex>`."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Protocol

from blake3 import blake3

if TYPE_CHECKING:
    from asyncfetch.settings import Digest


_PIECE = 1 << 20  # bytes; BLAKE3 of so much takes 0.1 ms, a read of it as long


class Hasher(Protocol):
    """A digest in the making."""

    def update(self, data: memoryview, /) -> object:
        """Takes the next bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of what was taken so far, in lower-case hex."""
        ...


def new(algorithm: Digest) -> Hasher:
    """Begins a digest."""
    return blake3() if algorithm == "blake3" else hashlib.sha256(usedforsecurity=False)


def digest_of(data: memoryview, algorithm: Digest) -> str:
    """The digest of bytes that lie in one piece."""
    if algorithm == "blake3":
        return f"blake3:{blake3(data).hexdigest()}"
    return f"sha256:{hashlib.sha256(data, usedforsecurity=False).hexdigest()}"


def digest_file(path: str, algorithm: Digest) -> str:
    """The digest of a file, read in pieces. Blocks; raises `OSError`."""
    hasher = new(algorithm)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # No larger than the file, and a byte to show its end: 1 MiB of fresh memory costs 20 us more.
        buffer = memoryview(bytearray(min(_PIECE, os.fstat(descriptor).st_size + 1)))
        while count := os.readv(descriptor, [buffer]):
            hasher.update(buffer[:count])
    finally:
        os.close(descriptor)
    return f"{algorithm}:{hasher.hexdigest()}"
