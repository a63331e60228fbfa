"""Tickets for local files: they are served in place, so all there is to do is look whether they are there."""

from __future__ import annotations

from collections import deque
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
    """Looks at local files, a batch in one hop to a thread: a hop for each costs 80 us.

    A KeyboardInterrupt may take any turn of the loop, as it begins or in its midst. So what was found lies where the
    next turn finds it, and there are two turns for each batch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: Meter) -> None:
        self._loop = loop
        self._meter = meter
        self._found: deque[deque[tuple[Ticket, ObjectStat | Exception]]] = deque()  # and not told yet

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Has every ticket settled in its time."""
        looked = self._loop.run_in_executor(None, self._look, tickets)
        looked.add_done_callback(self._tell)
        looked.add_done_callback(self._tell)

    def _look(self, tickets: Sequence[Ticket]) -> None:
        """On a thread."""
        self._found.append(deque(zip(tickets, stat_files([ticket.location for ticket in tickets]), strict=True)))

    def _tell(self, _: asyncio.Future[None]) -> None:
        """Takes a ticket off the line once it is told: between the two there is no call for an interrupt to come to."""
        meter = self._meter
        while self._found:
            batch = self._found[0]
            while batch:
                ticket, stat = batch[0]
                try:
                    if isinstance(stat, Exception):
                        name = type(stat).__name__
                        ticket.crash(Crash("fetch", stat))
                        del batch[0]
                        meter.failures[name] += 1
                    else:
                        landed = Landed(ticket.location.key, stat.size, None, stat.etag, from_cache=True)
                        ticket.land(landed)
                        meter.objects += 1
                        meter.hits += 1
                        meter.bytes += stat.size
                        del batch[0]
                except Exception as error:  # one caller's fault is no reason to leave the others waiting
                    del batch[0]
                    self._loop.call_exception_handler(
                        {"message": "what was found of a local file could not be taken", "exception": error}
                    )
            del self._found[0]
