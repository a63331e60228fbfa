"""The places that errands go to, each a bucket or a host of the web: who waits for it, and whether it may be asked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.engine.standing import PROBES, Standing

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.engine.lanes import Errand


class Place:
    """One place as the lanes see it. `flying` are the errands that are out to it."""

    __slots__ = ("flying", "name", "queue", "standing", "timer", "urgent")

    def __init__(self, name: str, patience: float) -> None:
        self.name = name
        self.flying = 0
        self.standing = Standing(patience)
        self.urgent: deque[Errand] = deque()
        self.queue: deque[Errand] = deque()
        self.timer: asyncio.TimerHandle | None = None  # for when it may be asked again

    def opens_at(self, now: float) -> float | None:
        """When another errand may go to it: `now` or before, later, or None while somebody has to come back first."""
        if self.standing.out_since is None:
            return now
        return self.standing.probe_at if self.flying < PROBES else None
