"""The tar of exports: plain files under short names, nothing else (POSIX.1-2017, pax, "ustar Interchange Format").

Rejected: the standard library's `tarfile`. It reads extended headers of any length into memory, takes an archive that
breaks off between two members for a whole one, and costs more for each small member than writing it to disk.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
END = bytes(2 * BLOCK)

# name, mode, uid, gid, size, mtime, checksum, type, link, magic, version, owner, group, major, minor, prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_OCTAL_LIMIT = 8**11  # bytes; beyond, GNU's base-256 form, which every tar of today reads
_PIECE = 1 << 18


class Source(Protocol):
    """What is read from: a file or a pipe, unbuffered or not."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fills some of the buffer; 0 at the end."""
        ...


class BrokenTar(ValueError):
    """Raised where a tar ends too early, or what should be a header is none: nothing behind can be read."""


class Member(NamedTuple):
    """One member of a tar. `plain` is False for a link, a directory, a device or an extension of the format."""

    name: str
    size: int  # bytes
    plain: bool


def header(name: str, size: int) -> bytes:
    """The header of a plain file, the same at any time for any user. `name` is ASCII, at most 100 characters."""
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = (name.encode("ascii"), b"0000644\0", b"0000000\0", b"0000000\0", length, b"00000000000\0")
    rest = (b"0", b"", b"ustar\0", b"00", b"", b"", b"0000000\0", b"0000000\0", b"")
    checksum = sum(_HEADER.pack(*fields, b" " * 8, *rest))
    return _HEADER.pack(*fields, b"%06o\0 " % checksum, *rest)


def padding(size: int) -> bytes:
    """What follows the bytes of a member to fill its last block."""
    return bytes(-size % BLOCK)


class Reader:
    """Reads a tar from its first byte to its last, once, in pieces; no member is held whole in memory."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # bytes of the present member
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Yields the members up to the end mark. What a caller leaves unread of one is passed over.

        Raises `BrokenTar` and `OSError`.
        """
        room = memoryview(bytearray(BLOCK))
        waste = memoryview(bytearray(_PIECE))
        while True:
            while self._left:
                self.read_into(waste)
            self._fill(waste[: self._padding])
            self._padding = 0
            self._fill(room)
            if not any(room):
                return
            member = _parse(bytes(room))
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member

    def read_into(self, room: memoryview) -> int:
        """Fills `room` with the next bytes of the present member, or with all that are left. Returns how many."""
        count = min(len(room), self._left)
        self._fill(room[:count])
        self._left -= count
        return count

    def _fill(self, room: memoryview) -> None:
        while len(room):
            count = self._source.readinto(room)
            if not count:
                raise BrokenTar("the archive breaks off")
            room = room[count:]


def _parse(block: bytes) -> Member:
    name, _, _, _, size, _, checksum, kind, _, magic, *_, prefix = _HEADER.unpack(block)
    if _number(checksum) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        raise BrokenTar("the archive is damaged: what should be a header is none")
    parts = [_text(name)]
    if magic == b"ustar\0" and prefix[0]:
        parts.insert(0, _text(prefix))
    return Member("/".join(parts), _number(size), kind in (b"0", b"\0"))


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise BrokenTar("the archive is damaged: a header has letters where a number should be")
    return int(digits or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="backslashreplace")
