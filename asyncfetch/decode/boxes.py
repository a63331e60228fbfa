"""Where an AVIF file keeps its Exif block: an item of its own, found by way of two tables.

ISO/IEC 14496-12, sections 4.2 and 8.11; ISO/IEC 23008-12, annex A.2. Hostile bytes raise `struct.error` at most.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_ITEMS = 4096  # a still image has some three
_VERSION = 4  # bytes of the version and the flags that begin a full box


def exif_item(data: memoryview) -> memoryview:
    """The TIFF structure of the first item of the type Exif, empty where there is none. Raises `struct.error`."""
    meta = _first(data, b"meta")[_VERSION:]
    number = _exif_number(_first(meta, b"iinf"))
    if number is None:
        return data[:0]
    at, length = _place(_first(meta, b"iloc"), number)
    item = data[at : at + length]
    if len(item) < 4:
        return data[:0]
    return item[4 + struct.unpack_from(">I", item)[0] :]  # exif_tiff_header_offset


def _boxes(data: memoryview, at: int = 0) -> Iterator[tuple[bytes, memoryview]]:
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = at + size if size else len(data)
        yield name, data[at + head : end]
        at = max(end, at + head)


def _first(data: memoryview, wanted: bytes) -> memoryview:
    return next((body for name, body in _boxes(data) if name == wanted), data[:0])


def _exif_number(table: memoryview) -> int | None:
    """The number of the item, as the item information box says."""
    wide = bytes(table[:1]) != b"\0"
    for name, entry in _boxes(table, _VERSION + (4 if wide else 2)):
        if name == b"infe" and bytes(entry[:1]) in (b"\2", b"\3"):
            number, kind = struct.unpack_from(">H2x4s" if entry[0] == 2 else ">I2x4s", entry, _VERSION)
            if kind == b"Exif":
                return int(number)
    return None


def _place(table: memoryview, wanted: int) -> tuple[int, int]:
    """Where the first extent of an item lies in the file, and its length, as the item location box says."""
    if not table or table[0] > 2:
        return 0, 0
    version = table[0]
    sizes, bases = struct.unpack_from("BB", table, _VERSION)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, bases >> 4
    index_size = bases & 15 if version else 0
    at = _VERSION + 2

    def take(size: int) -> int:
        nonlocal at
        at += size
        if at > len(table):
            raise struct.error("the table ends too early")
        return int.from_bytes(table[at - size : at], "big")

    for _ in range(min(take(4 if version == 2 else 2), _MOST_ITEMS)):
        number = take(4 if version == 2 else 2)
        in_file = not (version and take(2) & 15)
        take(2)  # of which file
        base, extents = take(base_size), take(2)
        for extent in range(min(extents, _MOST_ITEMS)):
            take(index_size)
            offset, length = take(offset_size), take(length_size)
            if number == wanted and extent == 0:
                return (base + offset, length) if in_file else (0, 0)
    return 0, 0
