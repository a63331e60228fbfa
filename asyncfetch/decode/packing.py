"""Values that are no plain arrays, on their way from a worker: pickled into a slot, their large buffers as they are.

Protocol 5 (PEP 574) leaves what is large out of the pickle, so that a dict of arrays comes through shared memory too.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mmap

    from asyncfetch.decode.forms import Pixels

_LARGE = 4 << 10  # bytes from which a buffer is worth a place of its own
_ALIGNED = 64  # what NumPy and its users like arrays to begin at


class UnpackError(Exception):
    """Raised for a value that cannot be had again from its pickle."""


def pack(value: object, slot: mmap.mmap | memoryview, most: int) -> list[tuple[int, int]] | int:
    """Writes a value to a slot, and gives where its pickle and its buffers lie, as (start, size), or the bytes needed.

    With more than `most` bytes it raises `MemoryError`; else whatever pickling raises. Functions and classes of the
    main script are carried by value, and are in the parent the ones that they were made from.
    """
    import cloudpickle

    buffers: list[memoryview] = []

    def leave_out(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _LARGE:
            return True
        buffers.append(view)
        return False

    parts = [memoryview(cloudpickle.dumps(value, protocol=5, buffer_callback=leave_out)), *buffers]
    spans, end = [], 0
    for part in parts:
        spans.append((end, part.nbytes))
        end += -(-part.nbytes // _ALIGNED) * _ALIGNED
    if end > most:
        raise MemoryError(f"it has {end >> 20} MiB")
    if end > len(slot):
        return end
    room = memoryview(slot)
    for part, (start, size) in zip(parts, spans, strict=True):
        room[start : start + size] = part
    return spans


class Packed:
    """A value in memory that was lent, which is back once the value is unpacked and its buffers are gone."""

    __slots__ = ("_ground", "_spans")

    def __init__(self, ground: Pixels, spans: list[list[int]]) -> None:
        self._ground = ground
        self._spans = spans

    @property
    def nbytes(self) -> int:
        """The memory that it lies in."""
        return self._ground.nbytes

    def unpack(self) -> Any:
        """The value. Raises `UnpackError` when the parent cannot make it."""
        try:
            pickled, *buffers = (self._ground[start : start + size] for start, size in self._spans)
            return pickle.loads(pickled.data, buffers=buffers)  # noqa: S301 - of the user's own function, see `wire`
        except Exception as error:  # whatever the user's classes raise, or a worker has made up for spans
            raise UnpackError(f"{type(error).__name__}: {error}") from error
