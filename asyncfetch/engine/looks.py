"""Look-ups: what the cache has of objects, and whether that may be served without asking their origins.

Tickets wait here, those for one object together, until it was looked up; that settles most of them, and a pass over a
warm cache makes no flights. The others take off from here.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from asyncfetch.cache import BODY_MEMORY, Elsewhere, Found, Freshness, RefKey, checked_since, decide, resolve
from asyncfetch.engine.tickets import Landed
from asyncfetch.errors import FetcherClosed
from asyncfetch.presigned import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from asyncfetch.cache import Cache, Ref
    from asyncfetch.engine.meter import Meter
    from asyncfetch.engine.tickets import Ticket
    from asyncfetch.objects import ObjectStat
    from asyncfetch.settings import Revalidate, Settings
    from asyncfetch.uris import Location

# An object that is looked up, by its name in the cache and its own; what a listing said of it to the first who asked;
# and who waits for it. A plain tuple: these are made for each object, and taken apart at once.
_Group: TypeAlias = "tuple[RefKey, Location, ObjectStat | None, list[Ticket]]"
_LookedUp: TypeAlias = "Callable[[Sequence[_Group], Sequence[Found | Elsewhere | None] | Exception], None]"


class Peeked(NamedTuple):
    """What the cache has of an object, if it is of any use. `fresh`: it may be served without asking the origin."""

    found: Found | None
    fresh: bool


class Looks:
    """All look-ups of one fetcher.

    Tickets whose object may be served are given to `land`; others to `fly`, with what the cache has of it where the
    origin is to be asked about that. `told` is called when some have been.
    """

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        meter: Meter,
        *,
        land: Callable[[Sequence[Ticket], Landed], None],
        fly: Callable[[list[Ticket], RefKey, Found | None], None],
        told: Callable[[], None],
    ) -> None:
        self._settings, self._cache, self._meter = settings, cache, meter
        self._land, self._fly, self._told = land, fly, told
        self._job_started = settings.current_job.started
        self._revalidate: Revalidate = "never" if settings.cache.offline else settings.cache.revalidate
        self._waiting: dict[Location, list[Ticket]] = {}
        self._endpoints: dict[str, str] = {}

    @property
    def under_way(self) -> int:
        """Objects that are being looked up."""
        return len(self._waiting)

    def look_up(self, tickets: Sequence[Ticket]) -> None:
        """Looks up the objects of tickets together, but those that are being looked up already."""
        groups: list[_Group] = []
        for ticket in tickets:
            location = ticket.location
            waiting = self._waiting.get(location)
            if waiting is not None:
                waiting.append(ticket)
                self._meter.shared += 1
                continue
            waiting = self._waiting[location] = [ticket]
            groups.append((self.key_of(location), location, ticket.listed, waiting))
        if groups:
            self._look_up(groups, self._looked_up)

    def leave(self, ticket: Ticket) -> None:
        """Lets a ticket go, if it waits here."""
        waiting = self._waiting.get(ticket.location)
        if waiting is not None and ticket in waiting:
            waiting.remove(ticket)
            if not waiting:
                del self._waiting[ticket.location]
                self._cache.release(self.key_of(ticket.location))

    def close(self) -> list[list[Ticket]]:
        """Gives the tickets that wait, those for one object together; nothing becomes of them here any more."""
        left = []
        for location, waiting in self._waiting.items():
            left.append(waiting.copy())
            waiting.clear()
            self._cache.release(self.key_of(location))
        self._waiting.clear()
        return left

    async def peek(self, location: Location, listed: ObjectStat | None) -> Peeked:
        """What the cache has of an object, and whether that may be served without asking the origin."""
        answer: asyncio.Future[list[Found | Elsewhere | None] | Exception]
        answer = asyncio.get_running_loop().create_future()
        self._cache.look_up([self.key_of(location)], partial(resolve, answer))
        looked_up = await answer
        found = looked_up[0] if isinstance(looked_up, list) and isinstance(looked_up[0], Found) else None
        if found is not None and found.doubt:
            good: asyncio.Future[bool | Exception] = asyncio.get_running_loop().create_future()
            self._cache.check(self.key_of(location), found, partial(resolve, good))
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

        data = await self._cache.read(self.key_of(location), may)
        if not isinstance(data, bytes):
            return None  # whatever went wrong, the ordinary way will tell
        self._meter.objects += 1
        self._meter.hits += 1
        self._meter.bytes += len(data)
        return data

    def key_of(self, location: Location) -> RefKey:
        """The name of a location's ref in the cache."""
        if location.scheme in ("https", "http"):  # a host can have the name of a bucket
            return RefKey(f"{location.scheme}://", location.container, redacted(location.key))
        bucket = location.container
        endpoint = self._endpoints.get(bucket)
        if endpoint is None:
            endpoint = self._endpoints[bucket] = (self._settings.access_for(bucket).endpoint or "").rstrip("/")
        return RefKey(endpoint, bucket, location.key, location.version or "")

    def _look_up(self, groups: Sequence[_Group], done: _LookedUp) -> None:
        """Looks up objects, each for a group of tickets."""
        now = time.time()
        since = checked_since(self._revalidate, now, self._job_started)

        named: dict[RefKey, list[_Group]] = {}  # presigned URLs of one object have one name in the cache

        def later(settled: Mapping[RefKey, Found | None]) -> None:
            if not named:
                for group in groups:
                    named.setdefault(group[0], []).append(group)
            told: list[_Group] = []
            for key in settled:
                told += [group for group in named[key] if group[3]] or named[key][:1]  # who left keeps no other's claim
            self._looked_up(told, [settled[key] for key, _, _, _ in told])

        def stale(place: int, ref: Ref) -> bool:
            _, location, listed, _ = groups[place]
            if listed is None and since <= ref.validated <= now:
                return False
            return self._decide(ref, location, listed, now) in (Freshness.STALE, Freshness.MISS)

        # Offline nothing will be fetched, and nobody is to wait for that. Where each is to ask for itself, nobody need
        # wait for another's asking.
        offline, always = self._settings.cache.offline, self._revalidate == "always"
        self._cache.look_up(
            [key for key, _, _, _ in groups],
            partial(done, groups),
            later=None if offline else later,
            stale=None if always else stale,
        )

    def _looked_up(self, groups: Sequence[_Group], answer: Sequence[Found | Elsewhere | None] | Exception) -> None:
        now = time.time()
        since = checked_since(self._revalidate, now, self._job_started)
        for group, found in zip(groups, [None] * len(groups) if isinstance(answer, Exception) else answer, strict=True):
            key, location, listed, waiting = group
            if found is None:
                self._begin(group, None, now)
            elif isinstance(found, Elsewhere):
                continue
            elif not found.doubt and waiting and listed is None and since <= found.ref.validated <= now:
                del self._waiting[location]
                self._meter.hits += 1
                self._land(waiting, from_cache(found))
            elif found.doubt and waiting:
                self._cache.check(key, found, partial(self._checked, group, found))
            else:
                self._begin(group, found, now)
        self._told()

    def _checked(self, group: _Group, found: Found, good: bool | Exception) -> None:
        """Takes what became of a blob that was doubted; a damaged one was set aside, and is missed like any other."""
        if good is False and group[3]:
            with suppress(FetcherClosed):
                self._look_up([group], self._looked_up_again)
                return
        self._begin(group, found if good is True else None, time.time())
        self._told()

    def _looked_up_again(
        self, groups: Sequence[_Group], answer: Sequence[Found | Elsewhere | None] | Exception
    ) -> None:
        """As `_looked_up`, and what is doubted once more, because it could not be set aside, is fetched."""
        if not isinstance(answer, Exception):
            answer = [None if isinstance(one, Found) and one.doubt else one for one in answer]
        self._looked_up(groups, answer)

    def _begin(self, group: _Group, found: Found | None, now: float) -> None:
        """Lets tickets land with what the cache has, or makes their flight to the origin."""
        key, location, listed, waiting = group
        if not waiting:  # all have left
            self._cache.release(key)
            return
        del self._waiting[location]
        if found is None:
            self._fly(waiting, key, None)
            return
        freshness = self._decide(found.ref, location, listed, now)
        if freshness in (Freshness.MISS, Freshness.STALE):
            self._fly(waiting, key, found if freshness is Freshness.STALE else None)
            return
        if freshness is Freshness.VALIDATED:
            assert listed is not None
            assert listed.as_of is not None
            self._cache.validate(key, found.ref, listed.as_of)
            self._meter.revalidated += 1
        else:
            self._meter.hits += 1
        self._land(waiting, from_cache(found))

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


def from_cache(found: Found) -> Landed:
    """What the cache has, as tickets are told of it."""
    ref = found.ref
    return Landed(found.path, ref.size, ref.digest, ref.etag, True, False, found.header)
