"""The map of a large body that is not whole yet: of which object it is, and which bytes of it lie on the disk.

A line of JSON, then records of one width, each a stretch of bytes, appended once these have been written. What a kill
or a full disk has cut short is not taken for a record, nor is anything behind it: so a map claims too little at times,
and never too much, as long as the machine itself goes on. That is what the id of the boot is for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from asyncfetch.cache.records import RefKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Stretch = tuple[int, int]  # the first byte, and the one behind the last

_RECORD = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{16})\n")


class Begun(NamedTuple):
    """An object of which a part came: its name, and which one of that name it is."""

    key: RefKey
    etag: str  # a strong one
    size: int

    @property
    def name(self) -> str:
        """What its directory is called by. Another object of the same key takes the place of this one."""
        return blake3(json.dumps(self.key).encode()).hexdigest(length=16)


class PartMap(NamedTuple):
    """What a map says."""

    begun: Begun
    boot: str
    stretches: Sequence[Stretch]  # in order, apart from each other
    end: int  # in bytes, where the next record belongs


def head(begun: Begun, boot: str) -> bytes:
    """The first line."""
    return json.dumps({"key": begun.key, "etag": begun.etag, "size": begun.size, "boot": boot}).encode() + b"\n"


def record(start: int, stop: int) -> bytes:
    """What is appended when bytes `start` to before `stop` have been written."""
    return b"%016x %016x\n" % (start, stop)


def parse(data: bytes) -> PartMap | None:
    """Reads a map. None where even its head cannot be believed."""
    first, newline, _ = data.partition(b"\n")
    begun = _read_head(first) if newline else None
    if begun is None:
        return None
    at, records = len(first) + 1, []
    while (found := _RECORD.match(data, at)) is not None:
        records.append((int(found[1], 16), int(found[2], 16)))
        at = found.end()
    return PartMap(*begun, join(records, begun[0].size), at)


def join(stretches: Iterable[Stretch], size: int) -> list[Stretch]:
    """The same bytes, in order and apart from each other; without what cannot be of an object of this size."""
    joined: list[Stretch] = []
    for start, stop in sorted(stretches):
        if not 0 <= start < stop <= size:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined


def missing(stretches: Iterable[Stretch], size: int) -> list[Stretch]:
    """The bytes that are in none of these, which are in order and apart from each other."""
    gaps: list[Stretch] = []
    at = 0
    for start, stop in stretches:
        if at < start:
            gaps.append((at, start))
        at = stop
    return [*gaps, (at, size)] if at < size else gaps


def _read_head(line: bytes) -> tuple[Begun, str] | None:
    try:
        said = json.loads(line)
        key, etag, size, boot = said["key"], said["etag"], said["size"], said["boot"]
        texts = [*key, etag, boot]
        if not (len(key) == 4 and all(isinstance(text, str) for text in texts) and type(size) is int and size > 0):
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Begun(RefKey(*key), etag, size), boot
