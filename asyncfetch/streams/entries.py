"""The run whose items are objects on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncfetch.objects import Entry
from asyncfetch.streams.run import Run

if TYPE_CHECKING:
    from asyncfetch.engine import Engine, Landed
    from asyncfetch.streams.order import Reading
    from asyncfetch.streams.progress import Progress
    from asyncfetch.streams.slots import Slot

_OFTEN = 64  # items that come until it is asked whether to read on


class EntryRun(Run[Entry]):
    """A run whose items are objects on disk."""

    def __init__(self, engine: Engine, reading: Reading, progress: Progress, **rest: Any) -> None:
        super().__init__(engine, reading, progress, **rest)
        self._there = 0  # settled items, of those that were not taken; a little wrong after an interrupt

    def make(self, slot: Slot[Entry], landed: Landed) -> None:
        slot.result = entry_of(slot.uri, landed, slot.index, slot.payload)
        self._there += 1
        if not self._there % _OFTEN:
            self.engine.loop.call_soon(self.hurry)
        self.came((slot,))

    def settle(self, slot: Slot[Entry], result: Any) -> None:
        self._there += 1
        super().settle(slot, result)

    def taken(self, slots: list[Slot[Entry]]) -> None:
        self._there -= len(slots)

    def at_hand(self) -> tuple[int, int]:
        return min(max(self._there, 0), self._outstanding), 0


def entry_of(uri: str, landed: Landed, index: int, payload: Any) -> Entry:
    """The entry that a source's object has become."""
    return Entry(uri, landed.path, landed.size, landed.digest, landed.etag, landed.from_cache, index, payload)
