"""The directories of a TIFF file, one for each page, read without decoding (TIFF 6.0, section 2; BigTIFF)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES = 256, 257, 258, 274, 277
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the field types that these tags come in
_MOST_FIELDS = 4096  # real ones have some 20


class Page(NamedTuple):
    """What a directory says of its page, whose width and height are those of the upright image."""

    width: int
    height: int
    channels: int
    bits: int  # of one sample


def pages(data: memoryview) -> Iterator[Page]:
    """Goes through the pages in their order, and ends where the file does, or where it stops making sense."""
    order = "<" if bytes(data[:1]) == b"I" else ">"
    big = len(data) > 3 and 43 in (data[2], data[3])
    link, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    seen = set[int]()
    try:
        at = struct.unpack_from(order + link, data, 8 if big else 4)[0]
        while at and at not in seen:
            seen.add(at)
            fields = struct.unpack_from(order + count, data, at)[0]
            if fields > _MOST_FIELDS:
                return
            begin = at + struct.calcsize(count)
            yield _page(data, order, big, range(begin, begin + entry * fields, entry))
            at = struct.unpack_from(order + link, data, begin + entry * fields)[0]
    except (struct.error, OverflowError):  # BigTIFF can point further than a computer can count
        return


def _page(data: memoryview, order: str, big: bool, entries: range) -> Page:
    found = {}
    for entry in entries:
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, entry)
        if tag in (_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES) and kind in _FORMATS:
            value, form = entry + (12 if big else 8), _FORMATS[kind]
            if count * struct.calcsize(form) > (8 if big else 4):  # too large to lie in the entry itself
                value = struct.unpack_from(order + ("Q" if big else "I"), data, value)[0]
            found[tag] = struct.unpack_from(order + form, data, value)[0]
    width, height = found.get(_WIDTH, 0), found.get(_HEIGHT, 0)
    if 5 <= found.get(_ORIENTATION, 1) <= 8:
        width, height = height, width
    return Page(width, height, found.get(_SAMPLES, 1), found.get(_BITS, 1))
