"""Single flight: one way to the disk for each object, however many wait for it.

A ticket asks for an object on local disk. Its flight looks the object up in the cache, asks the origin when the cache
cannot answer alone, publishes what came, and then settles every ticket on board. The first ticket's leaving hurts no
other; when the last has left, the flight ends where it is.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import BODY_MEMORY, Begun, Elsewhere, Found, Freshness, RefKey, decide, resolve
from asyncfetch.engine.errand import Progress
from asyncfetch.engine.flight import Flight
from asyncfetch.engine.parts import STALE, Parts, Unranged, in_parts
from asyncfetch.engine.slack import Slack
from asyncfetch.engine.tickets import Crash, Landed
from asyncfetch.errors import FetcherClosed, OriginError
from asyncfetch.presigned import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from asyncfetch.cache import Cache, Published, Ref
    from asyncfetch.engine.lanes import Lanes
    from asyncfetch.engine.meter import Meter
    from asyncfetch.engine.tickets import Ticket
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins import Origin
    from asyncfetch.settings import Revalidate, Settings
    from asyncfetch.uris import Location

    _LookedUp = Callable[[Sequence["Flight"], Sequence[Found | Elsewhere | None] | Exception], None]

_log = logging.getLogger(__name__)


class Peeked(NamedTuple):
    """What the cache has of an object, if it is of any use. `fresh`: it may be served without asking the origin."""

    found: Found | None
    fresh: bool


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
        self._job_started = settings.current_job.started
        self._revalidate: Revalidate = "never" if settings.cache.offline else settings.cache.revalidate
        self._stood_in: set[str] = set()  # containers whose origin's failure was told in the log
        self._flights: dict[Location, Flight] = {}
        self._endpoints: dict[str, str] = {}
        self._holders: dict[str, int] = {}  # of private files that several tickets have: how many
        self._unranged: set[str] = set()  # containers whose origin has answered a range with the whole object

    @property
    def under_way(self) -> int:
        """Flights that may be joined now."""
        return len(self._flights)

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Has every ticket settled in its time; objects that the cache must look up are looked up together."""
        boarding: list[Flight] = []
        for ticket in tickets:
            flight = None if ticket.private else self._flights.get(ticket.location)
            if flight is not None:
                flight.tickets.append(ticket)
                self.meter.shared += 1
            else:
                flight = Flight(self, ticket)
                if ticket.private:
                    self._lanes.add(flight)
                else:
                    self._flights[ticket.location] = flight
                    boarding.append(flight)
            ticket.flight = flight
            if ticket.urgent:
                self.urge(ticket)
        if boarding:
            self._look_up(boarding, self._looked_up)
        self._lanes.pump()

    async def peek(self, location: Location, listed: ObjectStat | None) -> Peeked:
        """What the cache has of an object, and whether that may be served without asking the origin."""
        answer: asyncio.Future[list[Found | Elsewhere | None] | Exception]
        answer = asyncio.get_running_loop().create_future()
        self.cache.look_up([self.key_of(location)], partial(resolve, answer))
        looked_up = await answer
        found = looked_up[0] if isinstance(looked_up, list) and isinstance(looked_up[0], Found) else None
        if found is not None and found.doubt:
            good: asyncio.Future[bool | Exception] = asyncio.get_running_loop().create_future()
            self.cache.check(self.key_of(location), found, partial(resolve, good))
            if await good is not True:
                return Peeked(None, fresh=False)
        freshness = self._decide(found and found.ref, location, listed, time.time())
        if freshness is Freshness.MISS:
            return Peeked(None, fresh=False)
        return Peeked(found, fresh=freshness is not Freshness.STALE)

    async def read_cached(self, location: Location, listed: ObjectStat | None) -> bytes | None:
        """The bytes of an object that the cache may serve without asking the origin, and that is small; else None."""
        now = time.time()

        def may(ref: Ref) -> bool:
            return ref.size <= BODY_MEMORY and self._decide(ref, location, listed, now) is Freshness.FRESH

        data = await self.cache.read(self.key_of(location), may)
        if not isinstance(data, bytes):
            return None  # whatever went wrong, the ordinary way will tell
        self.meter.objects += 1
        self.meter.hits += 1
        self.meter.bytes += len(data)
        return data

    def urge(self, ticket: Ticket) -> None:
        """Says that a consumer waits for just this ticket."""
        if ticket.flight is not None:
            self._lanes.urge(ticket.flight)
            if ticket.flight.parts is not None:
                ticket.flight.parts.urge()

    def abandon(self, ticket: Ticket) -> None:
        """Lets a ticket go, settled or not; it hears nothing afterwards."""
        flight, ticket.flight = ticket.flight, None
        if flight is None:
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
        for flight in list(self._flights.values()):
            self.crash(flight, "fetch", FetcherClosed("The fetcher was closed before the object was there"))
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
        other = Flight(self, flight.tickets[0], whole=True)
        other.urgent, other.found, other.due = flight.urgent, flight.found, flight.due
        other.tickets, flight.tickets = flight.tickets, []
        for ticket in other.tickets:
            ticket.flight = other
        if self._flights.get(flight.location) is flight:
            self._flights[flight.location] = other
        self.meter.retries += 1
        self._lanes.add(other)
        self._lanes.pump()

    def key_of(self, location: Location) -> RefKey:
        """The name of a location's ref in the cache."""
        if location.scheme in ("https", "http"):  # a host can have the name of a bucket
            return RefKey(f"{location.scheme}://", location.container, redacted(location.key))
        bucket = location.container
        endpoint = self._endpoints.get(bucket)
        if endpoint is None:
            endpoint = self._endpoints[bucket] = (self._settings.access_for(bucket).endpoint or "").rstrip("/")
        return RefKey(endpoint, bucket, location.key, location.version or "")

    def _look_up(self, boarding: Sequence[Flight], done: _LookedUp) -> None:
        keys = [flight.key for flight in boarding]

        def later(key: RefKey, found: Found | None) -> None:
            self._looked_up([boarding[keys.index(key)]], [found])

        now = time.time()

        def stale(place: int, ref: Ref) -> bool:
            flight = boarding[place]
            return self._decide(ref, flight.location, flight.listed, now) in (Freshness.STALE, Freshness.MISS)

        # Offline nothing will be fetched, and nobody is to wait for that. Where each is to ask for itself, nobody need
        # wait for another's asking.
        offline, always = self._settings.cache.offline, self._revalidate == "always"
        self.cache.look_up(
            keys, partial(done, boarding), later=None if offline else later, stale=None if always else stale
        )

    def _looked_up(self, flights: Sequence[Flight], answer: Sequence[Found | Elsewhere | None] | Exception) -> None:
        now = time.time()
        for flight, found in zip(
            flights, [None] * len(flights) if isinstance(answer, Exception) else answer, strict=True
        ):
            if isinstance(found, Elsewhere):
                continue
            if found is not None and found.doubt and flight.progress is not Progress.OVER:
                self.cache.check(flight.key, found, partial(self._checked, flight, found))
            else:
                self._begin(flight, found, now)
        self._lanes.pump()

    def _checked(self, flight: Flight, found: Found, good: bool | Exception) -> None:
        """Takes what became of a blob that was doubted; a damaged one was set aside, and is missed like any other."""
        if good is False and flight.progress is not Progress.OVER:
            with suppress(FetcherClosed):
                self._look_up([flight], self._looked_up_again)
                return
        self._begin(flight, found if good is True else None, time.time())
        self._lanes.pump()

    def _looked_up_again(
        self, flights: Sequence[Flight], answer: Sequence[Found | Elsewhere | None] | Exception
    ) -> None:
        """As `_looked_up`, and what is doubted once more, because it could not be set aside, is fetched."""
        if not isinstance(answer, Exception):
            answer = [None if isinstance(one, Found) and one.doubt else one for one in answer]
        self._looked_up(flights, answer)

    def _begin(self, flight: Flight, found: Found | None, now: float) -> None:
        """Lets a flight land with what the cache has, or puts it in line for its origin."""
        if flight.progress is Progress.OVER:
            self.cache.release(flight.key)
            return
        if found is None:
            self._lanes.add(flight)
            return
        freshness = self._decide(found.ref, flight.location, flight.listed, now)
        if freshness is Freshness.MISS:
            self._lanes.add(flight)
        elif freshness is Freshness.STALE:
            flight.found = found
            self._lanes.add(flight)
        else:
            if freshness is Freshness.VALIDATED:
                assert flight.listed is not None
                assert flight.listed.as_of is not None
                self.cache.validate(flight.key, found.ref, flight.listed.as_of)
                self.meter.revalidated += 1
            else:
                self.meter.hits += 1
            flight.progress = Progress.OVER
            self.land(flight, _from_cache(found))

    def _decide(self, ref: Ref | None, location: Location, listed: ObjectStat | None, now: float) -> Freshness:
        return decide(
            ref,
            revalidate=self._revalidate,
            now=now,
            job_started=self._job_started,
            listed=listed,
            listed_at=-math.inf if listed is None or listed.as_of is None else listed.as_of,
            versioned=location.version is not None,
        )

    def land(self, flight: Flight, landed: Landed) -> None:
        """Settles all tickets of a flight. The first has paid for a transfer; the others share it."""
        self._forget(flight)
        tickets, flight.tickets = flight.tickets, []
        self.meter.objects += len(tickets)
        self.meter.bytes += landed.size * len(tickets)
        if landed.private and not tickets:
            self.discard(landed)
        elif landed.private and len(tickets) > 1:  # the cache was full: a flight for a private file has one
            self._holders[landed.path] = len(tickets)
        for number, ticket in enumerate(tickets):
            ticket.flight = None
            ticket.land(landed if number == 0 or landed.from_cache else landed._replace(from_cache=True))

    def crash(self, flight: Flight, stage: str, error: Exception) -> None:
        """Settles all tickets of a flight with an error; each gets an exception of its own, to raise in its place."""
        self._forget(flight)
        if not flight.private:
            self.cache.release(flight.key)
        tickets, flight.tickets = flight.tickets, []
        for ticket in tickets:
            ticket.flight = None
            self.meter.failures[type(error).__name__] += 1
            ticket.crash(Crash(stage, error))
            error = _another(error)

    def failed(self, flight: Flight, error: Exception) -> None:
        """Ends a flight whose origin failed: with what the cache has, where the policy wants that, or in a crash."""
        if flight.found is not None and self.stands_in(flight.location, error):
            self.cache.release(flight.key)
            self.land(flight, _from_cache(flight.found))
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
        self.land(flight, _from_cache(found))

    def published(self, flight: Flight, outcome: Published | Exception) -> None:
        """Takes what became of a body at the cache."""
        if isinstance(outcome, Exception):
            self.crash(flight, "cache", outcome)
            return
        self.meter.downloaded += 1
        self.meter.downloaded_bytes += outcome.size
        etag = None if flight.stat is None else flight.stat.etag
        landed = Landed(outcome.path, outcome.size, outcome.digest, etag, from_cache=False, private=outcome.private)
        self.land(flight, landed)

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


def _from_cache(found: Found) -> Landed:
    return Landed(found.path, found.ref.size, found.ref.digest, found.ref.etag, from_cache=True)
