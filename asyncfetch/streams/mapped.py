"""The run whose items are what functions of the user's make of objects, in the decode workers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asyncfetch.decode import Packed, UnpackError
from asyncfetch.errors import TransformFailed
from asyncfetch.objects import Failure, Mapped
from asyncfetch.streams.run import Joined, Slot
from asyncfetch.streams.seated import SeatedRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import Pixels
    from asyncfetch.engine import Landed
    from asyncfetch.objects import Entry
    from asyncfetch.streams.run import Taken
    from asyncfetch.streams.work import WorkSlot


class MapRun(SeatedRun[Mapped[Any]]):
    """A run whose items are values. What was pickled is unpacked when it is taken: until then the budget knows it."""

    def entry_of(self, item: Mapped[Any]) -> Entry:
        return item.entry

    def taken(self, slot: Slot[Mapped[Any]], result: Mapped[Any] | Failure) -> Mapped[Any] | Failure:
        result = super().taken(slot, result)
        if isinstance(result, Mapped) and isinstance(result.value, Packed):
            try:
                return replace(result, value=result.value.unpack())
            except UnpackError as error:
                failed = TransformFailed(slot.uri, f"what the mapped function gave cannot be unpickled here: {error}")
                self.engine.meter.failures["TransformFailed"] += 1
                return Failure(slot.uri, slot.index, slot.payload, "decode", 0, failed)
        return result

    def array_in(self, outcome: Any) -> Pixels | None:
        import numpy as np

        value = outcome.value if isinstance(outcome, Mapped) else outcome
        return value if type(value) is np.ndarray and value.dtype.kind in "?biufc" else None

    def item(self, slot: WorkSlot[Mapped[Any]], landed: Landed, outcome: Pixels | Packed) -> Mapped[Any]:
        return Mapped(slot.uri, outcome, slot.entry(landed), slot.index, slot.payload)

    def joined(
        self, taken: list[Taken[Mapped[Any]]], array: Pixels | None, moved: Sequence[int]
    ) -> Joined[Mapped[Any]]:
        if array is not None:
            for at in moved:
                item, slot = taken[at]
                taken[at] = replace(item, value=array[at, ...]), slot
            return Joined(taken, values=array)
        values = [item.value if isinstance(item, Mapped) else None for item, _ in taken]
        return Joined(taken, values=values if any(isinstance(item, Mapped) for item, _ in taken) else None)
