"""Slots that several workers write to, a row each: where the pixels of a batch come to lie side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode.arena import Slot
    from asyncfetch.decode.forms import Pixels

_MOST_OPEN = 32  # descriptors of slabs: users keep batches, and macOS allows a process 256 files


class Slab:
    """Room for `count` images of one size, until nothing looks at it any more.

    `ground` is the lent slot as plain bytes. Whatever has a part in the slab holds it: rows, so that a worker which
    still writes keeps its slab alive, and every array that was made of it.
    """

    __slots__ = ("count", "ground", "size", "slot")

    def __init__(self, slot: Slot, ground: Pixels, count: int, size: int) -> None:
        self.slot = slot
        self.ground = ground
        self.count = count
        self.size = size

    def written(self) -> None:
        """Says that no row will be written to any more: what the user keeps may do without a descriptor."""
        owner = self.slot.owner
        assert isinstance(owner, AllWorkers)
        owner.written(self.slot)

    def array(self, count: int, shape: Sequence[int], dtype: Any) -> Pixels:
        """The first `count` rows as one array (count, *shape)."""
        pixels: Pixels = self.ground[: count * self.size].view(dtype).reshape(count, *shape)
        return pixels

    def pixels(self, rows: Sequence[int], shape: Sequence[int], dtype: str) -> list[Pixels]:
        """What was written at the beginnings of some rows, each as an array."""
        import numpy as np

        if np.dtype(dtype).itemsize * math.prod(shape) != self.size:
            return [np.ndarray(shape, dtype, self.ground, row * self.size) for row in rows]
        array = self.array(self.count, shape, dtype)
        return [array[row, ...] for row in rows]  # with the dots also what has no axes is an array


class Row:
    """One image's place in a slab. A job that has one is given no slot of its own, and a worker writes there."""

    __slots__ = ("index", "slab")

    def __init__(self, slab: Slab, index: int) -> None:
        self.slab = slab
        self.index = index

    def __lt__(self, other: Row) -> bool:
        return (self.slab.slot.number, self.index) < (other.slab.slot.number, other.index)

    @property
    def capacity(self) -> int:
        """Its bytes."""
        return self.slab.size


class Sharer(Protocol):
    """A worker, to which slabs are shown."""

    def share(self, slot: Slot) -> None:
        """Has the worker map a slot that others map too."""
        ...

    def forget(self, slot: Slot) -> None:
        """Has the worker unmap a slot."""
        ...


class AllWorkers:
    """The owner of slabs: tells each worker of a slab with its first row there, and all who know it to forget it."""

    def __init__(self) -> None:
        self._knowing: dict[Slot, set[Sharer]] = {}

    def introduce(self, slot: Slot) -> None:
        """Hears of a new slab."""
        self._knowing[slot] = set()

    def forget(self, slot: Slot) -> None:
        """Hears that a slab is given up."""
        for worker in self._knowing.pop(slot):
            worker.forget(slot)

    def tell(self, worker: Sharer, slot: Slot) -> None:
        """Sees to it that a worker has the slab mapped before its next job."""
        if worker not in self._knowing[slot]:
            self._knowing[slot].add(worker)
            worker.share(slot)

    def written(self, slot: Slot) -> None:
        """Hears that a slab is written. When many are open its descriptor goes, and with it the chance of reuse."""
        if sum(1 for known in self._knowing if known.descriptor is not None) > _MOST_OPEN:
            slot.close_descriptor()

    def lose(self, worker: Sharer) -> None:
        """Hears that a worker is no more."""
        for workers in self._knowing.values():
            workers.discard(worker)
