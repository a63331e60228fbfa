"""The run whose items are objects on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncfetch.objects import Entry
from asyncfetch.streams.run import Run

if TYPE_CHECKING:
    from asyncfetch.engine import Landed
    from asyncfetch.streams.slots import Slot


class EntryRun(Run[Entry]):
    """A run whose items are objects on disk."""

    def make(self, slot: Slot[Entry], landed: Landed) -> None:
        slot.result = entry_of(slot.uri, landed, slot.index, slot.payload)
        self.came((slot,))


def entry_of(uri: str, landed: Landed, index: int, payload: Any) -> Entry:
    """The entry that a source's object has become."""
    return Entry(uri, landed.path, landed.size, landed.digest, landed.etag, landed.from_cache, index, payload)
