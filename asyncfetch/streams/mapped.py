"""The run whose items are what functions of the user's make of objects, in the decode workers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asyncfetch.decode import Packed, UnpackError
from asyncfetch.errors import TransformFailed
from asyncfetch.objects import Failure, Mapped
from asyncfetch.streams.entries import entry_of
from asyncfetch.streams.seated import SeatedRun
from asyncfetch.streams.slots import Joined, Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import Pixels
    from asyncfetch.engine import Landed
    from asyncfetch.streams.work import WorkSlot


class MapRun(SeatedRun[Mapped[Any]]):
    """A run whose items are values. What was pickled is unpacked when it is taken: until then the budget knows it."""

    def taken(self, slots: list[Slot[Mapped[Any]]]) -> None:
        super().taken(slots)
        for slot in slots:
            result = slot.result
            if isinstance(result, Mapped) and isinstance(result.value, Packed):
                try:
                    slot.result = replace(result, value=result.value.unpack())
                except UnpackError as error:
                    what = f"what the mapped function gave cannot be unpickled here: {error}"
                    self.engine.meter.failures["TransformFailed"] += 1
                    failed = TransformFailed(slot.uri, what)
                    slot.result = Failure(slot.uri, slot.index, slot.payload, "decode", 0, failed)

    def _bring(self, most: int) -> bool:
        return super()._bring(1)  # in `taken` it may turn out a failure, which comes alone

    def array_in(self, content: Any) -> Pixels | None:
        import numpy as np

        value = content.value if isinstance(content, Mapped) else content
        return value if type(value) is np.ndarray and value.dtype.kind in "?biufc" else None

    def content(self, slot: WorkSlot[Mapped[Any]], landed: Landed, outcome: Pixels | Packed) -> Mapped[Any]:
        entry = entry_of(slot.uri, landed, slot.index, slot.payload)
        return Mapped(slot.uri, outcome, entry, slot.index, slot.payload)

    def joined(self, slots: list[Slot[Mapped[Any]]], array: Pixels | None, moved: Sequence[int]) -> Joined[Mapped[Any]]:
        items: list[Any] = [self.item(slot) for slot in slots]
        if array is not None:
            for at in moved:
                # With the dots also what has no axes stays a view of the array.
                items[at] = _with_value(items[at], array[at, ...])
            return Joined(slots, items, values=array)
        values = [item.value if isinstance(item, Mapped) else None for item in items]
        return Joined(slots, items, values=values if any(isinstance(item, Mapped) for item in items) else None)


def _with_value(item: Any, value: Pixels) -> Any:
    return replace(item, value=value) if isinstance(item, Mapped) else value  # an array, as a substitute may be
