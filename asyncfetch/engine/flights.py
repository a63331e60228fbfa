"""Single flight: one way to the disk for each object, however many wait for it.

A ticket asks for an object on local disk. It waits, with others for the same object, until that was looked up in the
cache, which settles most: a pass over a warm cache makes no flights. Where the cache cannot answer alone, a flight asks
the origin, publishes what came, and then settles every ticket on board. The first ticket's leaving hurts no other; when
the last has left, the flight ends where it is.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import TYPE_CHECKING

from asyncfetch.cache import Begun
from asyncfetch.engine.flight import Flight
from asyncfetch.engine.looks import Looks, from_cache
from asyncfetch.engine.parts import STALE, Parts, Unranged, in_parts
from asyncfetch.engine.slack import Slack
from asyncfetch.engine.tickets import Crash, Landed
from asyncfetch.errors import FetcherClosed, OriginError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncfetch.cache import Cache, Found, Published, RefKey
    from asyncfetch.engine.lanes import Lanes
    from asyncfetch.engine.meter import Meter
    from asyncfetch.engine.tickets import Ticket
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins import Origin
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location

_log = logging.getLogger(__name__)


class Flights:
    """All flights of one fetcher."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        origins: Mapping[str, Origin],
        lanes: Lanes,
        meter: Meter,
    ) -> None:
        self.cache = cache
        self.origins = origins
        self.meter = meter
        part_from = settings.network.parts_from
        self.parts_from: float = math.inf if part_from is None else part_from  # bytes; what is smaller comes whole
        self._settings = settings
        self._lanes = lanes
        self._slack = Slack(cache.arrivals)
        self.looks = Looks(settings, cache, meter, land=self._land, fly=self._fly, told=lanes.pump)
        self._stood_in: set[str] = set()  # containers whose origin's failure was told in the log
        self._flights: dict[Location, Flight] = {}
        self._holders: dict[str, int] = {}  # of private files that several tickets have: how many
        self._unranged: set[str] = set()  # containers whose origin has answered a range with the whole object

    @property
    def under_way(self) -> int:
        """Objects that are being looked up or fetched, and may be waited for together."""
        return self.looks.under_way + len(self._flights)

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Has every ticket settled in its time; objects that the cache must look up are looked up together."""
        flights, unknown = self._flights, []
        for ticket in tickets:
            if ticket.private:
                self._lanes.add(Flight(self, [ticket], self.looks.key_of(ticket.location)))
            elif (flight := flights.get(ticket.location)) is not None:
                ticket.flight = flight
                flight.tickets.append(ticket)
                self.meter.shared += 1
                if ticket.urgent:
                    self.urge(ticket)
            else:
                unknown.append(ticket)
        if unknown:
            self.looks.look_up(unknown)
        self._lanes.pump()

    def urge(self, ticket: Ticket) -> None:
        """Says that a consumer waits for just this ticket."""
        ticket.urgent = True
        if ticket.flight is not None:
            self._lanes.urge(ticket.flight)
            if ticket.flight.parts is not None:
                ticket.flight.parts.urge()

    def abandon(self, ticket: Ticket) -> None:
        """Lets a ticket go, settled or not; it hears nothing afterwards."""
        flight, ticket.flight = ticket.flight, None
        if flight is None:
            self.looks.leave(ticket)
            return
        flight.tickets.remove(ticket)
        if not flight.tickets:
            self._forget(flight)
            self._give_up(flight)

    def discard(self, landed: Landed) -> None:
        """Deletes a private file whose holder has moved on, when it was the last."""
        others = self._holders.pop(landed.path, 1) - 1
        if others:
            self._holders[landed.path] = others
        else:
            self.cache.discard(landed.path)

    def close(self) -> None:
        """Crashes every ticket that is still out."""
        closed = FetcherClosed("The fetcher was closed before the object was there")
        for waiting in self.looks.close():
            self._crash(waiting, "fetch", closed)
        for flight in list(self._flights.values()):
            self.crash(flight, "fetch", closed)
            self._give_up(flight)

    def begin_parts(self, flight: Flight, stat: ObjectStat) -> Parts | None:
        """Has a flight go on in parts, if its object is to be read so."""
        network = self._settings.network
        if flight.whole or flight.location.container in self._unranged or not in_parts(stat, network):
            return None
        return Parts(
            flight.location,
            self.origins[flight.location.scheme],
            stat,
            cache=self.cache,
            lanes=self._lanes,
            slack=self._slack,
            part_size=network.part_size,
            begun=None if flight.private else Begun(flight.key, str(stat.etag), stat.size),
            urgent=flight.urgent,
            due=flight.due,
            ended=flight.parts_ended,
        )

    def parts_failed(self, flight: Flight, error: Exception) -> None:
        """Ends a flight whose parts do not come, or do not make an object; those are left to another flight."""
        self._lanes.give_up(flight)
        if not isinstance(error, STALE):
            self.failed(flight, error)
            return
        if isinstance(error, Unranged):
            self._unranged.add(flight.location.container)
        if not flight.tickets:
            return
        # The other takes the object whole, so it is the last: one answer cannot be of two objects.
        tickets, flight.tickets = flight.tickets, []
        other = Flight(self, tickets, flight.key, whole=True)
        other.urgent, other.found, other.due = flight.urgent, flight.found, flight.due
        if self._flights.get(flight.location) is flight:
            self._flights[flight.location] = other
        self.meter.retries += 1
        self._lanes.add(other)
        self._lanes.pump()

    def land(self, flight: Flight, landed: Landed) -> None:
        """Settles all tickets of a flight."""
        self._forget(flight)
        tickets, flight.tickets = flight.tickets, []
        if landed.private and not tickets:
            self.discard(landed)
        elif landed.private and len(tickets) > 1:  # the cache was full: a flight for a private file has one
            self._holders[landed.path] = len(tickets)
        self._land(tickets, landed)

    def crash(self, flight: Flight, stage: str, error: Exception) -> None:
        """Settles all tickets of a flight with an error."""
        self._forget(flight)
        if not flight.private:
            self.cache.release(flight.key)
        tickets, flight.tickets = flight.tickets, []
        self._crash(tickets, stage, error)

    def failed(self, flight: Flight, error: Exception) -> None:
        """Ends a flight whose origin failed: with what the cache has, where the policy wants that, or in a crash."""
        if flight.found is not None and self.stands_in(flight.location, error):
            self.cache.release(flight.key)
            self.land(flight, from_cache(flight.found))
        else:
            self.crash(flight, "fetch", error)

    def stands_in(self, location: Location, error: Exception) -> bool:
        """Whether a stale object is to be served because its origin failed so; then that is told and counted."""
        passing = isinstance(error, OriginError) and error.retryable
        if not (self._settings.cache.stale_if_error and passing):
            return False
        self.meter.stale += 1
        if location.container not in self._stood_in:
            self._stood_in.add(location.container)
            _log.warning("%s; what the cache has of %s is served unchecked (stale_if_error)", error, location.container)
        return True

    def confirmed(self, flight: Flight) -> None:
        """Takes the origin's word that what the cache has is still the object."""
        found = flight.found
        assert found is not None, "an origin said NotModified to an unconditional read"
        self.cache.validate(flight.key, found.ref, flight.asked)
        self.cache.release(flight.key)
        self.meter.revalidated += 1
        self.land(flight, from_cache(found))

    def published(self, flight: Flight, outcome: Published | Exception) -> None:
        """Takes what became of a body at the cache."""
        if isinstance(outcome, Exception):
            self.crash(flight, "cache", outcome)
            return
        self.meter.downloaded += 1
        self.meter.downloaded_bytes += outcome.size
        etag = None if flight.stat is None else flight.stat.etag
        landed = Landed(outcome.path, outcome.size, outcome.digest, etag, False, outcome.private)
        self.land(flight, landed)

    def _fly(self, tickets: list[Ticket], key: RefKey, found: Found | None) -> None:
        """Puts tickets in line for their origin, which is asked whether what was `found` is stale."""
        flight = self._flights[tickets[0].location] = Flight(self, tickets, key)
        flight.found = found
        self._lanes.add(flight)

    def _land(self, tickets: Sequence[Ticket], landed: Landed) -> None:
        """Settles tickets. The first has paid for a transfer; the others share it."""
        self.meter.objects += len(tickets)
        self.meter.bytes += landed.size * len(tickets)
        for ticket in tickets:
            ticket.flight = None
            ticket.land(landed)
            if not landed.from_cache and len(tickets) > 1:
                landed = landed._replace(from_cache=True)

    def _crash(self, tickets: Sequence[Ticket], stage: str, error: Exception) -> None:
        """Settles tickets with an error; each gets an exception of its own, to raise in its place."""
        for ticket in tickets:
            ticket.flight = None
            self.meter.failures[type(error).__name__] += 1
            ticket.crash(Crash(stage, error))
            error = _another(error)

    def _give_up(self, flight: Flight) -> None:
        self._lanes.give_up(flight)
        if not flight.private:
            self.cache.release(flight.key)
        if flight.parts is not None:
            flight.parts.abort()

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.location) is flight:
            del self._flights[flight.location]


def _another(error: Exception) -> Exception:
    """The same error for the next who waited, without the traceback of the first; itself where it cannot be copied."""
    try:
        copied = copy.copy(error)
    except Exception:
        return error
    copied.__cause__ = error.__cause__
    return copied
