"""What the cache's thread does together: the answers of a batch, and what the index is to be told."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.claims import Missed
    from asyncfetch.cache.commands import Note, Write
    from asyncfetch.cache.records import RefKey
    from asyncfetch.cache.recovery import Lost


# A result on its way to the loop: who is called with it, and takes just what its command asked for, or an exception;
# that; and what is called before, if anything is.
Answer: TypeAlias = "tuple[Callable[[Any], None], Any, Callable[[], None] | None]"


@dataclass(slots=True)
class Batch:
    """One batch. Changes are kept apart by kind: rows for one statement cost less together than in turn."""

    here: bool = False  # done by the loop, which does not wait
    handled: int = 0  # commands
    beside: bool = False  # there were look-ups among them
    answers: deque[Answer] = field(default_factory=deque)
    looked_up: list[tuple[Sequence[RefKey], Sequence[object]]] = field(default_factory=list)  # and the answers so far
    read: list[tuple[RefKey, bytes | None]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)  # of refs
    blobs: list[Change] = field(default_factory=list)
    released: list[Change] = field(default_factory=list)  # of claims
    noted: list[Note] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    checks: list[Callable[[], None]] = field(default_factory=list)  # to be made once the index knows
    put_off: list[Write] = field(default_factory=list)  # what the loop leaves to the thread; not handled
    finished: bool = False  # the index was told as far as it would hear; before that there are no answers to give
