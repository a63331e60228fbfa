"""Exports: a tar that seeds another machine's cache, written and read in one pass, from a pipe too.

`asyncfetch-cache.json` says the version of the format. Then, as often as needed, come blobs under the names
`blobs/<algorithm>/<hex>`, and after them `refs/<number>.jsonl`, the objects that they are. `end.json` counts what there
was, so that an archive that was cut off is not taken for whole. The same cache gives the same bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, Protocol

from asyncfetch.cache import files
from asyncfetch.cache.failures import explain
from asyncfetch.cache.upkeep.lines import write_line
from asyncfetch.cache.upkeep.tar import END, header, padding
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.cache.records import Ref
    from asyncfetch.cache.upkeep.selection import Selection
    from asyncfetch.cache.upkeep.session import Upkeep

FORMAT = 1
HEAD_NAME, END_NAME = "asyncfetch-cache.json", "end.json"

_PIECE = MIB


class Sink(Protocol):
    """Where an archive goes: a file or a pipe, which takes all that it is given."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Takes the next bytes."""
        ...


class Carried(NamedTuple):
    """A blob that went into an archive, or came out of one; `new` is False where it was there already."""

    size: int  # bytes
    new: bool = True


class Objects(NamedTuple):
    """Objects that went into an archive, or came out of one; `new` counts those that the index did not know better."""

    objects: int
    new: int


class Refused(NamedTuple):
    """Something that did not go in, or was not taken from an archive, and why."""

    name: str
    reason: str


def export(keeping: Upkeep, sink: Sink, selection: Selection) -> Iterator[Carried | Objects | Refused]:
    """Writes an archive of the objects that are meant, and tells each blob as it goes in.

    Needs some 120 bytes of memory for each blob. What goes from the cache meanwhile is left out. A blob's bytes are
    not checked here: whoever imports them does. Raises `CacheUnusable`, and what the sink raises.
    """
    done: set[bytes] = set()
    number = objects = 0
    _put(sink, HEAD_NAME, {"format": FORMAT})
    for page in keeping.catalog.refs(selection):
        lines: list[bytes] = []
        for key, known in page:
            ref = known.ref
            name = ref.digest.encode()
            if known.used is None:
                continue
            if name not in done:
                told = _copy(keeping, sink, ref)
                if told is not None:
                    yield told
                if not isinstance(told, Carried):
                    continue
                done.add(name)
            lines.append(write_line(key, ref))
        if lines:
            number, objects = number + 1, objects + len(lines)
            text = b"".join(lines)
            sink.write(header(f"refs/{number:08}.jsonl", len(text)) + text + padding(len(text)))
            yield Objects(len(lines), len(lines))
    _put(sink, END_NAME, {"blobs": len(done), "objects": objects})
    sink.write(END)


def _put(sink: Sink, name: str, value: dict[str, int]) -> None:
    text = json.dumps(value).encode() + b"\n"
    sink.write(header(name, len(text)) + text + padding(len(text)))


def _copy(keeping: Upkeep, sink: Sink, ref: Ref) -> Carried | Refused | None:
    path = keeping.blobs.path(ref.digest)
    try:
        descriptor = files.open_to_read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Refused(path, str(explain(error, path)))
    try:
        if files.size_of(path) != ref.size:
            return Refused(path, f"does not have {ref.size} bytes")
        sink.write(header(f"blobs/{ref.digest.replace(':', '/')}", ref.size))
        return _copy_bytes(sink, descriptor, path, ref.size)
    finally:
        files.close(descriptor)


def _copy_bytes(sink: Sink, descriptor: int, path: str, size: int) -> Carried | Refused:
    room = memoryview(bytearray(min(_PIECE, max(size, 1))))
    left, reason = size, ""
    while left:
        count = 0
        if not reason:
            try:
                count = files.read_some(descriptor, room[:left])
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
        if not count:
            # Its place in the archive must be filled. Whoever imports it refuses zeros for its bytes.
            reason = reason or "was cut while it was read"
            count = min(left, len(room))
            room[:count] = bytes(count)
        sink.write(room[:count])
        left -= count
    sink.write(padding(size))
    return Refused(path, reason) if reason else Carried(size)
