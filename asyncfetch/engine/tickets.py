"""What asks for objects on local disk, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncfetch.engine.flight import Flight
    from asyncfetch.objects import ObjectStat
    from asyncfetch.uris import Location


class Landed(NamedTuple):
    """An object on local disk. `private` files belong to their tickets, and go back with `Flights.discard`.

    `header` is what the cache knows of that of its image.
    """

    path: str
    size: int
    digest: str | None
    etag: str | None
    from_cache: bool
    private: bool = False
    header: object = None


class Crash(NamedTuple):
    """Why a ticket's object could not be had, and at which stage."""

    stage: str
    exception: Exception


class Ticket(ABC):
    """Somebody's wish for one object. `listed` is what a listing said of it; `private` ones stay out of the cache."""

    __slots__ = ("flight", "listed", "location", "private", "urgent", "uri")

    def __init__(
        self, uri: str, location: Location, listed: ObjectStat | None, *, private: bool = False, urgent: bool = False
    ) -> None:
        self.uri = uri
        self.location = location
        self.listed = listed
        self.private = private
        self.urgent = urgent
        self.flight: Flight | None = None

    @abstractmethod
    def land(self, landed: Landed) -> None:
        """Takes the object. Called once, on the loop, unless the ticket was abandoned."""

    @abstractmethod
    def crash(self, crash: Crash) -> None:
        """Takes the error instead."""
