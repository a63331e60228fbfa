"""The line of commands, and how much of it a batch takes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.cache.commands import Ask, Discard, LookUp, Note, Read, Release, Write
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.cache.commands import Command

# What look-ups handed in meanwhile wait for at most: 64 bodies of 86 KB take 3 ms into memory, 16 MiB take 15 ms.
BATCH_BODIES = 64
BATCH_BYTES = 16 * MIB
BATCH_CHANGES = 1024  # to the index alone, at 3 to 9 us each
BATCH_LOOK_UPS = 256  # keys, at 10 us each

Looking = LookUp | Read
Writing = Write | Note | Discard | Ask | Release  # what is done after the look-ups of its batch


class Line:
    """Commands that wait: look-ups, and what is done after them. For one thread at a time."""

    def __init__(self) -> None:
        self._look_ups: deque[Looking] = deque()
        self._writes: deque[Writing] = deque()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._look_ups or self._writes)

    def take(self, commands: Sequence[Command]) -> None:
        """Puts commands in line."""
        look_ups, writes = sort_out(commands)
        self._look_ups += look_ups
        self._writes += writes

    def next_look_ups(self) -> list[Looking]:
        """Takes the next batch out of the line."""
        taken: list[Looking] = []
        keys = 0
        while self._look_ups and (not keys or keys + _weight(self._look_ups[0]) <= BATCH_LOOK_UPS):
            command = self._look_ups.popleft()
            taken.append(command)
            keys += _weight(command)
        return taken

    def next_writes(self) -> list[Writing]:
        """Takes the next batch out of the line: as much as the limits allow, and an `Ask` alone."""
        taken: list[Writing] = []
        bodies = size = 0
        while self._writes and bodies < BATCH_BODIES and size < BATCH_BYTES and len(taken) < BATCH_CHANGES:
            command = self._writes[0]
            if isinstance(command, Ask):
                return taken or [self._writes.popleft()]
            taken.append(self._writes.popleft())
            if isinstance(command, Write):
                bodies, size = bodies + 1, size + command.body.held
        return taken


def sort_out(commands: Sequence[Command]) -> tuple[list[Looking], list[Writing]]:
    """Tells look-ups from what is done after them."""
    look_ups: list[Looking] = []
    writes: list[Writing] = []
    for command in commands:
        if isinstance(command, (LookUp, Read)):
            look_ups.append(command)
        else:
            writes.append(command)
    return look_ups, writes


def _weight(command: Looking) -> int:
    """How many look-ups a command is worth in a batch: reading 86 KB takes as long as three."""
    return len(command.keys) if isinstance(command, LookUp) else 4
