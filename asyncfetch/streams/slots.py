"""The places of sources in a stream, and what of them comes together as a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from asyncfetch.engine import Ticket
from asyncfetch.errors import ObjectError
from asyncfetch.objects import Failure
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.engine import Crash, Landed
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed
    from asyncfetch.streams.run import Run

T = TypeVar("T")

NOWHERE = Location("", "", "")  # of a source that names no object


class Slot(Ticket, Generic[T]):
    """The place of one source in its stream."""

    __slots__ = ("index", "instead", "landed", "mark", "payload", "place", "result", "run", "taken")

    def __init__(
        self,
        run: Run[T],
        placed: Placed,
        payload: Any,
        uri: str,
        location: Location = NOWHERE,
        listed: ObjectStat | None = None,
    ) -> None:
        Ticket.__init__(self, uri, location, listed, private=run.private)  # super() costs as much again
        self.run = run
        self.place, self.index, _, self.mark = placed
        self.payload = payload
        self.landed: Landed | None = None
        self.result: Any = None  # once it is settled: what the item is made of, a failure, or what takes its place
        self.instead = False  # whether that takes the place of a failure
        self.taken = False

    def land(self, landed: Landed) -> None:
        if not self.run.closed:  # a look at local files that is under way cannot be taken back
            if self.landed is not None and self.run.has_come(self):
                return
            self.landed = landed
            if landed.private:
                self.run.spilled = True
            self.run.make(self, landed)

    def crash(self, crash: Crash) -> None:
        if not (self.run.closed or self.run.has_come(self)):
            self.fail(*crash)

    def fail(self, stage: str, error: Exception) -> None:
        """Puts the failure in the place of the item."""
        attempts = error.attempts if isinstance(error, ObjectError) else 0
        self.run.settle(self, Failure(self.uri, self.index, self.payload, stage, attempts, error))


class Joined(NamedTuple, Generic[T]):
    """What a batch is made of: its items, or what gives them when they are asked for, and what is in all of them.

    That is an array, or a list, or None where they are not that.
    """

    slots: list[Slot[T]]
    items: Sequence[T] | Callable[[], Sequence[T]]
    pixels: Any = None
    values: Any = None
