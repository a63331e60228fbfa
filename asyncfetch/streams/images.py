"""The run whose items are pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asyncfetch.objects import Image
from asyncfetch.streams.run import Joined
from asyncfetch.streams.seated import SeatedRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import Pixels
    from asyncfetch.engine import Landed
    from asyncfetch.objects import Entry
    from asyncfetch.streams.run import Taken
    from asyncfetch.streams.work import WorkSlot


class ImageRun(SeatedRun[Image]):
    """A run whose items are decoded images."""

    def entry_of(self, item: Image) -> Entry:
        return item.entry

    def array_in(self, outcome: Any) -> Pixels | None:
        if isinstance(outcome, Image):
            return outcome.pixels
        import numpy as np

        return outcome if isinstance(outcome, np.ndarray) else None

    def item(self, slot: WorkSlot[Image], landed: Landed, outcome: Pixels) -> Image:
        return Image(slot.uri, outcome, slot.entry(landed), slot.index, slot.payload)

    def joined(self, taken: list[Taken[Image]], array: Pixels | None, moved: Sequence[int]) -> Joined[Image]:
        if array is not None:
            for at in moved:
                item, slot = taken[at]
                # With the dots also what has no axes, as a transform may give it, stays a view of the array.
                taken[at] = replace(item, pixels=array[at, ...]), slot
            return Joined(taken, pixels=array)
        pixels = [item.pixels if isinstance(item, Image) else None for item, _ in taken]
        return Joined(taken, pixels=pixels if any(isinstance(item, Image) for item, _ in taken) else None)
