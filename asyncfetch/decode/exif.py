"""What a camera wrote beside its pixels: the Exif block of a file, and in it the date and how the camera was held.

Exif 3.0 (CIPA DC-008), section 4.6: a TIFF structure. Hostile bytes raise nothing: what makes no sense is not there.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.decode import boxes, jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
# When it was taken, else digitized, else written, each with the tag of its offset from UTC (section 4.6.6).
_DATES = ((0x9003, 0x9011), (0x9004, 0x9012), (0x0132, 0x9010))
_ASCII, _SHORT, _LONG = 2, 3, 4
_EXIF = b"Exif\0\0"
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_MOST_FIELDS = 4096  # real directories have some 60
_MOST_TEXT = 64
_PNG_CHUNK = struct.Struct(">I4s")
_MOST_CHUNKS = 1 << 16  # of a PNG file: 512 MiB in the chunks of 8 KiB that libpng writes
_WEBP_HAS_EXIF = 0x08  # a flag of VP8X (RFC 9649, section 2.7); without it decoders do not look
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")


class Exif(NamedTuple):
    """`taken` is in ISO 8601, with the offset from UTC where the camera knew it; `orientation` is 1 to 8."""

    taken: str | None = None
    orientation: int | None = None


def read_exif(kind: str, data: memoryview) -> Exif:
    """Reads what a JPEG, PNG, WebP, AVIF or TIFF file says, of the kind that `sniff` names. Others say nothing."""
    values: dict[int, int | str] = {}
    with suppress(struct.error):  # what was read until there stands
        block = _block(kind, data)
        for tag, value in _directory(block):
            values.setdefault(tag, value)
        below = values.get(_EXIF_IFD)
        if isinstance(below, int):
            for tag, value in _directory(block, below):
                values.setdefault(tag, value)
    return Exif(_taken(values), _turn(values.get(_ORIENTATION)))


def orientation(exif: bytes | memoryview) -> int:
    """Reads the orientation out of an Exif block, 1 to 8; 1, upright, where it has none or none that means anything."""
    block = memoryview(exif)
    with suppress(struct.error):
        for tag, value in _directory(block[len(_EXIF) :] if bytes(block[: len(_EXIF)]) == _EXIF else block):
            if tag == _ORIENTATION:
                return _turn(value) or 1
    return 1


def is_on_its_side(kind: str, data: memoryview) -> bool:
    """Whether the file of such a kind says that the upright image is as wide as its pixels are stored high."""
    with suppress(struct.error):
        return orientation(_block(kind, data)) >= 5
    return False


def _block(kind: str, data: memoryview) -> memoryview:
    """The TIFF structure of a file, empty where there is none. Raises `struct.error`."""
    empty = data[:0]
    if kind == "TIFF":
        return data
    if kind == "JPEG":
        return jpeg.look(data).exif or empty
    if kind == "PNG":
        return _in_png(data)
    if kind == "AVIF":
        return boxes.exif_item(data)
    if kind == "WebP" and bytes(data[12:16]) == b"VP8X" and struct.unpack_from("B", data, 20)[0] & _WEBP_HAS_EXIF:
        return _in_webp(data)
    return empty


def _in_png(data: memoryview) -> memoryview:
    """The chunk eXIf, before the pixels or behind them (PNG, third edition, section 11.3.3.1)."""
    at, end, read = 8, len(data) - 8, _PNG_CHUNK.unpack_from
    for _ in range(_MOST_CHUNKS):
        if at > end:
            break
        length, name = read(data, at)
        if name == b"eXIf":
            return data[at + 8 : at + 8 + length]
        at += 12 + length  # with a checksum
    return data[:0]


def _in_webp(data: memoryview) -> memoryview:
    """The chunk EXIF of RIFF, whose chunks have even lengths."""
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            body = data[at + 8 : at + 8 + length]
            return body[len(_EXIF) :] if bytes(body[: len(_EXIF)]) == _EXIF else body
        at += 8 + length + length % 2
    return data[:0]


def _directory(block: memoryview, at: int | None = None) -> Iterator[tuple[int, int | str]]:
    """The numbers and texts of a directory by their tags; of the first one, where no place is given.

    Raises `struct.error` where the block ends before it.
    """
    order = _ORDERS.get(bytes(block[:4]))
    if order is None:
        return
    if at is None:
        at = struct.unpack_from(f"{order}I", block, 4)[0]
    count = struct.unpack_from(f"{order}H", block, at)[0]
    for entry in range(at + 2, at + 2 + 12 * min(count, _MOST_FIELDS), 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", block, entry)
        if kind == _SHORT or tag == _ORIENTATION:  # OpenCV looks at no type, and all images are to be turned alike
            yield tag, struct.unpack_from(f"{order}H", block, entry + 8)[0]
        elif kind == _LONG:
            yield tag, struct.unpack_from(f"{order}I", block, entry + 8)[0]
        elif kind == _ASCII and length <= _MOST_TEXT:
            where = entry + 8 if length <= 4 else struct.unpack_from(f"{order}I", block, entry + 8)[0]
            yield tag, bytes(block[where : where + length]).split(b"\0")[0].decode("ascii", "replace")


def _turn(value: int | str | None) -> int | None:
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _taken(values: dict[int, int | str]) -> str | None:
    for date, offset in _DATES:
        found = _DATE.match(str(values.get(date, "")))
        if found is not None and found[2] != "00":  # what has no clock writes zeros
            zone = str(values.get(offset, ""))
            return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}" + (zone if _OFFSET.fullmatch(zone) else "")
    return None
