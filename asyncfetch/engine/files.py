"""Tickets for local files: they are served in place, so all there is to do is look whether they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.engine.tickets import Crash, Landed
from asyncfetch.origins.file import stat_files

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from asyncfetch.engine.meter import Meter
    from asyncfetch.engine.tickets import Ticket
    from asyncfetch.objects import ObjectStat


class Files:
    """Looks at local files, a batch in one hop to a thread: a hop for each costs 80 us."""

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: Meter) -> None:
        self._loop = loop
        self._meter = meter

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Has every ticket settled in its time."""
        locations = [ticket.location for ticket in tickets]
        self._loop.run_in_executor(None, stat_files, locations).add_done_callback(
            lambda future: None if future.cancelled() else self._looked(tickets, future.result())
        )

    def _looked(self, tickets: Sequence[Ticket], found: Sequence[ObjectStat | Exception]) -> None:
        for ticket, stat in zip(tickets, found, strict=True):
            if isinstance(stat, Exception):
                self._meter.failures[type(stat).__name__] += 1
                ticket.crash(Crash("fetch", stat))
            else:
                self._meter.objects += 1
                self._meter.hits += 1
                self._meter.bytes += stat.size
                ticket.land(Landed(ticket.location.key, stat.size, None, stat.etag, from_cache=True))
