"""The places that errands go to, each a bucket or a host of the web: who waits for it, and whether it may be asked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.engine.hedges import Hedges
from asyncfetch.engine.pace import Pace
from asyncfetch.engine.standing import PROBES, Standing
from asyncfetch.engine.window import Window

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.engine.errand import Errand


class Place:
    """One place as the lanes see it. `flying` are the errands that are out to it, `most` what these may be at all."""

    __slots__ = ("flying", "hedges", "name", "pace", "queue", "standing", "timer", "urgent", "window")

    def __init__(self, name: str, *, most: int, patience: float, now: float) -> None:
        self.name = name
        self.flying = 0
        self.standing = Standing(patience)
        self.window = Window(most, now)
        self.pace = Pace()
        self.hedges = Hedges()
        self.urgent: deque[Errand] = deque()
        self.queue: deque[Errand] = deque()
        self.timer: asyncio.TimerHandle | None = None  # for when it may be asked again

    def opens_at(self, now: float) -> float | None:
        """When another errand may go to it: `now` or before, later, or None while somebody has to come back first."""
        if self.standing.out_since is None:
            return max(now, self.pace.opens_at)
        return self.standing.probe_at if self.flying < PROBES else None

    def answered(self, now: float, sent: float, refund: int) -> bool:
        """It has answered an errand that went out at `sent`. True where more may be out now."""
        self.standing.answered(now, refund)
        if self.pace.busy and self.pace.answered(now, sent):
            self.window.throttled(now)
        return self.window.answered(now)

    def refused(self, now: float, sent: float) -> None:
        """It has refused an errand that went out at `sent`, because there are too many of them."""
        # As many as were out in the time that one takes: those that were granted took no less.
        asked = (self.flying + 1) / max(now - sent, 0.001)
        if self.pace.refused(now, sent, asked):
            self.window.throttled(now)

    def restart(self, now: float) -> None:
        """Forgets what it could take, as after an outage."""
        self.pace.free()
        self.window.restart(now)
