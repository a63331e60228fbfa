"""The engine: what a fetcher and its streams work with, wired once."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from asyncfetch.engine.bodies import Bodies
from asyncfetch.engine.credits import Credits
from asyncfetch.engine.descriptors import free_descriptors, most_at_once
from asyncfetch.engine.files import Files
from asyncfetch.engine.flights import Flights
from asyncfetch.engine.lanes import Lanes
from asyncfetch.engine.meter import Meter, Snapshot, judge
from asyncfetch.errors import InvalidURI
from asyncfetch.objects import Stats

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from asyncfetch.cache import Cache
    from asyncfetch.decode import DecodePool
    from asyncfetch.engine.tickets import Landed, Ticket
    from asyncfetch.origins import Origin
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location


class Closable(Protocol):
    """Something that must end with the fetcher."""

    def close(self) -> None: ...


class Engine:
    """The parts of one open fetcher. `start` runs a coroutine function in the fetcher's task group."""

    def __init__(
        self,
        settings: Settings,
        *,
        loop: asyncio.AbstractEventLoop,
        cache: Cache,
        origins: Mapping[str, Origin],
        make_pool: Callable[[Credits], DecodePool],
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        self.settings = settings
        self.loop = loop
        self.start = start
        self.cache = cache
        self.meter = Meter()
        self.credits = Credits(settings.memory_budget, loop.call_soon_threadsafe)
        # What may be served stale is not kept waiting for an origin that answers nobody.
        network = replace(settings.network, patience=0.0) if settings.cache.stale_if_error else settings.network
        self.lanes = Lanes(
            network,
            most_at_once(network.concurrency, free_descriptors()),
            self.credits,
            self.meter,
            start,
        )
        self.flights = Flights(settings, cache, origins, self.lanes, self.meter)
        self.files = Files(loop, self.meter)
        self.pool = make_pool(self.credits)
        self.credits.reclaim_from(self.pool.reclaim)
        self.credits.subscribe(self.pool.pump)
        self.bodies = Bodies(loop, self.credits, near=cache.root, in_memory=cache.at_hand)
        self.credits.subscribe(self.bodies.pump)
        self.runs: weakref.WeakSet[Closable] = weakref.WeakSet()
        self.closed = False
        self._origins = origins
        self._opened = self.snapshot()

    def origin(self, location: Location) -> Origin:
        """The origin that serves a location. Raises `InvalidURI` when none does."""
        try:
            return self._origins[location.scheme]
        except KeyError:
            served = ", ".join(f"{scheme}://" for scheme in self._origins)
            raise InvalidURI(
                str(location), f"{location.scheme}:// is not served here", remedy=f"What is: {served}."
            ) from None

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Has every ticket landed or crashed in its time: files in place, all others by a flight."""
        files = [ticket for ticket in tickets if ticket.location.scheme == "file"]
        if files:
            self.files.request(files)
        if len(files) < len(tickets):
            self.flights.request(
                [ticket for ticket in tickets if ticket.location.scheme != "file"] if files else tickets
            )

    def discard(self, landed: Landed) -> None:
        """Deletes what only this holder has."""
        self.flights.discard(landed)

    def snapshot(self) -> Snapshot:
        """The clocks of all stages, now."""
        pool = self.pool.statistics()
        return Snapshot.now(
            self.meter,
            lanes=self.lanes.limit,
            cache_seconds=self.cache.statistics().busy_seconds,
            workers=pool.workers,
            decode_seconds=pool.busy_seconds,
        )

    def stats(self) -> Stats:
        """Counts and levels since it was made."""
        meter, pool, cache = self.meter, self.pool.statistics(), self.cache.statistics()
        return Stats(
            objects=meter.objects,
            bytes=meter.bytes,
            hits=meter.hits,
            revalidated=meter.revalidated,
            stale=meter.stale,
            damaged=cache.damaged,
            downloaded=meter.downloaded,
            downloaded_bytes=meter.downloaded_bytes,
            shared=meter.shared,
            requests=sum(origin.requests for origin in set(self._origins.values())),
            retries=meter.retries,
            hedges=meter.hedges,
            hedges_won=meter.hedges_won,
            hedged_bytes=meter.hedged_bytes,
            failures=dict(meter.failures),
            first_byte=meter.first_byte.percentiles(),
            whole_body=meter.whole.percentiles(),
            lanes=self.lanes.concurrency,
            limits=self.lanes.places.limits,
            rates=self.lanes.places.rates,
            lanes_busy=meter.lanes.level,
            waiting=self.lanes.waiting,
            memory=self.credits.held,
            memory_peak=self.credits.peak,
            memory_budget=self.credits.total,
            workers=pool.workers,
            decoded=pool.decoded,
            decode_seconds=pool.busy_seconds,
            cache_seconds=cache.busy_seconds,
            verdict=judge(self._opened, self.snapshot()),
        )

    def close(self) -> None:
        """Ends every stream, and settles whatever is still out with `FetcherClosed`."""
        self.closed = True
        for run in list(self.runs):
            run.close()
        self.bodies.close()
        self.lanes.close()
        self.flights.close()
