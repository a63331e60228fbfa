"""What is wrong with an image that would not decode: where it ends too early, which part of it is damaged."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def describe(name: str, data: memoryview) -> str:
    """Says what of the damage to an image of this kind can be seen from outside its decoder."""
    look = _LOOKS.get(name)
    seen = look(data) if look is not None else None
    return seen or "it is damaged or truncated"


def _jpeg(data: memoryview) -> str | None:
    # Padding after the end marker is harmless, and common in what cameras write.
    if bytes(data[-64 << 10 :]).rstrip(b"\0").rfind(b"\xff\xd9") < 0:
        return f"it stops after {len(data)} bytes without the marker of its end"
    return None


def _png(data: memoryview) -> str | None:
    """Walks the chunks (PNG, third edition, section 5)."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        word, end = kind.decode("ascii", "backslashreplace"), at + 12 + length
        if end > len(data):
            return f"it is truncated in its chunk {word}, which ends at byte {end}; there are {len(data)}"
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"its chunk {word} at byte {at} is damaged (wrong CRC)"
        if kind == b"IEND":
            return None
        at = end
    return f"it is truncated: it stops after {len(data)} bytes without its last chunk"


def _gif(data: memoryview) -> str | None:
    if bytes(data[-1:]) != b"\x3b":
        return f"it stops after {len(data)} bytes without its trailer"
    return None


def _announced(data: memoryview, size: int) -> str | None:
    return f"it is truncated: it announces {size} bytes and has {len(data)}" if size > len(data) else None


def _webp(data: memoryview) -> str | None:
    return _announced(data, struct.unpack_from("<I", data, 4)[0] + 8)


def _bmp(data: memoryview) -> str | None:
    return _announced(data, struct.unpack_from("<I", data, 2)[0])


def _boxes(data: memoryview) -> str | None:
    """Walks the outer boxes of AVIF and JPEG 2000 (ISO/IEC 14496-12, section 4.2)."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if length == 1 and at + 16 <= len(data):
            length = struct.unpack_from(">Q", data, at + 8)[0]
        if length == 0:  # to the end of the file
            return None
        if length < 8 or at + length > len(data):
            word = kind.decode("ascii", "backslashreplace")
            return f"its box {word!r} at byte {at} should end at byte {at + length}; there are {len(data)}"
        at += length
    return None


_LOOKS: dict[str, Callable[[memoryview], str | None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "BMP": _bmp,
    "AVIF": _boxes,
    "JPEG 2000": _boxes,
}
