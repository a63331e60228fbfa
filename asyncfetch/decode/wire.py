"""What the pool and a worker say to each other: JSON in frames that begin with their length.

JSON and not pickle, because the worker is the process that reads strangers' bytes: what comes from it is data and can
be nothing else. It costs about a microsecond an image. What the user's own functions give may be anything and is
pickled, into the slot; the pool takes such a value only for a job that asked for one.

Beside the socket they share a status page, which outlives a worker: the number of the job under way (0 between jobs),
when it was begun, in nanoseconds of the monotonic clock, which is the same in all processes, and whether it has come
to its transform (0 or 1).

The pool sends orders, `[made, dropped, frugal, groups]`:
- `made`: `[slot, capacity]` for each new slot; its descriptor travels with the frame (SCM_RIGHTS), in the same order.
- `dropped`: numbers of slots to forget.
- `frugal`: whether to give back to the system what memory is kept for the next image.
- `groups`: `[slot, size, allowance, form, tell, images]`, images that are wanted alike: in rows of `size` bytes of a
  slot that other workers write to as well, or each in a slot of its own (slot and size are 0). An image is `[job, path,
  epoch, index, row]`, with the number of its own slot in the place of the row. The allowance is the memory, in bytes,
  that decoding may take beside the slot; epoch and index are what a transform is seeded with; with tell the answers are
  to say what the headers say. A form is a number; the first time, and again after `MOST_FORMS` others, `[…, images,
  fields]` says what it stands for (see `forms`).

The worker sends lists of answers, in the order of the images: `[job, count, seconds, word, detail]`, the same of so
many images of a group, the first of which is the job; an empty list is its greeting. `seconds` is the time spent on
them. Of images whose headers are to be told, or that need more, comes one thing more: a list of as many numbers, each
the `summary` of a header, or null. The word says what `detail` is:
- `"pixels"`: `[shape, dtype, scratch]` of what now lies at the place's begin, and the most memory that it took beside.
- `"value"`: `[spans, scratch]` of what a mapped function gave, if it is no array of numbers: `[start, size]` of its
  pickle and of the buffers left out of that (see `packing`).
- `"needs"`: `[pixels, scratch]`, the bytes that the place and the allowance should have had.
- `"empty"`, `"unsupported"`, `"oversized"`, `"corrupt"`, `"missing"`, `"denied"`, `"memory"`, `"transform"`,
  `"failed"`: a sentence, without the object's name.
"""

from __future__ import annotations

import json
import signal
import struct
from typing import Any

KEPT_HEAP = 64 << 20  # memory that a worker keeps for the next image: the pixels of 21 megapixels
STATUS = struct.Struct("=QQQ")  # the status page

# What Ctrl-C, a terminal that closes, and a service manager or a scheduler send to all of a group, meaning the parent.
FOR_PARENT = signal.SIGINT, signal.SIGHUP, signal.SIGTERM

_LENGTH = struct.Struct("<I")


def pack(message: list[Any]) -> bytes:
    """Makes a frame of a message. Names that are no valid Unicode survive (PEP 383)."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Gets messages out of a stream of bytes in any split. Raises `ValueError` for a frame that is no JSON."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:  # Any: what JSON holds; the module's docstring says what that is
        """Takes bytes, and gives the messages that are now whole."""
        data = self._rest + data if self._rest else data
        messages, at = [], 0
        while len(data) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                break
            messages.append(json.loads(data[at + _LENGTH.size : end]))
            at = end
        self._rest = data[at:]
        return messages
