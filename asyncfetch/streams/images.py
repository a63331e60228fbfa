"""The run whose items are pixels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.objects import Image
from asyncfetch.streams.entries import entry_of
from asyncfetch.streams.seated import SeatedRun
from asyncfetch.streams.slots import Joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import Pixels
    from asyncfetch.engine import Landed
    from asyncfetch.streams.slots import Slot
    from asyncfetch.streams.work import WorkSlot


class ImageRun(SeatedRun[Image]):
    """A run whose items are decoded images."""

    def array_in(self, content: Any) -> Pixels | None:
        if isinstance(content, Image):  # as a substitute is
            return content.pixels
        import numpy as np

        return content if isinstance(content, np.ndarray) else None

    def content(self, slot: WorkSlot[Image], landed: Landed, outcome: Pixels) -> Pixels:
        return outcome

    def item(self, slot: Slot[Image]) -> Image:
        instead, content = slot.instead, super().item(slot)
        return content if instead else _image(slot.uri, content, slot.landed, slot.index, slot.payload)

    def joined(self, slots: list[Slot[Image]], array: Pixels | None, moved: Sequence[int]) -> Joined[Image]:
        if array is None:
            items = [self.item(slot) for slot in slots]
            pixels = [item.pixels if isinstance(item, Image) else None for item in items]
            return Joined(slots, items, pixels=pixels if any(isinstance(item, Image) for item in items) else None)
        told = [
            (slot.uri, slot.landed, slot.index, slot.payload, slot.result if slot.instead else None) for slot in slots
        ]
        return Joined(slots, partial(_images, told, array), pixels=array)


def _image(uri: str, pixels: Any, landed: Landed | None, index: int, payload: Any) -> Image:
    assert landed is not None
    return Image(uri, pixels, entry_of(uri, landed, index, payload), index, payload)


def _images(told: list[tuple[str, Landed | None, int, Any, Any]], array: Pixels) -> list[Any]:
    """The images of a batch, or what takes their places. They are rarely asked for: training takes the array."""
    images: list[Any] = []
    for at, (uri, landed, index, payload, instead) in enumerate(told):
        pixels = array[at, ...]  # with the dots also what has no axes, as a transform may give it, is a view
        if instead is None:
            images.append(_image(uri, pixels, landed, index, payload))
        else:
            images.append(instead._replace(pixels=pixels) if isinstance(instead, Image) else pixels)
    return images
