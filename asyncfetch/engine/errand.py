"""What lanes fly: one thing to do with one object, and how far it is."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from asyncfetch.engine.credits import Grant
    from asyncfetch.engine.places import Place
    from asyncfetch.uris import Location


class Progress(enum.Enum):
    """How far an errand is."""

    NEW = enum.auto()
    QUEUED = enum.auto()
    FLYING = enum.auto()
    PAUSING = enum.auto()
    OVER = enum.auto()


# By names of their own: to look a member up in its class takes 140 ns in Python 3.11, and an object passes all of them.
NEW, QUEUED, FLYING, PAUSING, OVER = Progress


class Tries:
    """What the failed tries of an errand come to. `began` is when the first did."""

    __slots__ = ("began", "counted", "pause", "spent")

    def __init__(self, began: float) -> None:
        self.began = began
        self.counted = 0
        self.pause = 0.0
        self.spent = 0  # of the retry budget, by the last of them


class Errand(ABC):
    """One thing to do at an origin. `urgent` ones go first, and may overdraw the byte budget.

    `began` is when the current try did, `due` when the object has to be there; both in the time of `perf_counter`.
    """

    __slots__ = (
        "alarm",
        "attempts",
        "began",
        "due",
        "grant",
        "lane",
        "location",
        "place",
        "progress",
        "timer",
        "tries",
        "urgent",
    )

    def __init__(self, location: Location, *, urgent: bool = False) -> None:
        self.location = location
        self.urgent = urgent
        self.attempts = 0
        self.began = 0.0
        self.due: float | None = None
        self.progress = NEW
        self.place: Place | None = None
        self.tries: Tries | None = None
        self.grant: Grant | None = None
        self.lane: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.alarm: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.progress is OVER

    @property
    @abstractmethod
    def need(self) -> int:
        """The bytes of memory that a try may hold, at most."""

    @property
    def unheard(self) -> int | None:
        """The size class of the answer that its try waits for; None once that has begun, or where no twin can help."""
        return None

    def hedge(self, start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]) -> bool:
        """Begins a second try beside the one that waits; the first to be answered counts. False where none can help."""
        return False

    @abstractmethod
    async def fly(self) -> None:
        """Does it, once. The grant is the errand's to release when its bytes have left memory."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Takes the error that stands after the last try."""

    def release(self) -> None:
        """Gives the grant back, if there is one."""
        if self.grant is not None:
            self.grant.release()
            self.grant = None
