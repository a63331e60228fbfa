"""A place that exists in numbers only: what it grants, how long it takes, and what window and pace make of it."""

from __future__ import annotations

import heapq
import random
from typing import NamedTuple

from asyncfetch.engine.places import Place


class Model(NamedTuple):
    """`service` seconds an answer costs the one server there is, `latency` every answer takes besides.

    It grants `rate` requests a second after `burst` at once, and beyond refuses.
    """

    latency: float = 0.01
    service: float = 0.0
    rate: float = float("inf")
    burst: float = 50
    thrash: int = 10_000  # so many at once, and each costs the server twice as much
    hiccups: float = 0.0  # the share it refuses whatever the rate


class Outcome(NamedTuple):
    granted: int
    refused: int
    limit: int
    rate: float  # granted a second, in the second half of the time


def run(model: Model, seconds: float, *, most: int = 64, start: Place | None = None, seed: int = 0) -> Outcome:
    """Asks it for so long, with always more to ask than it may be asked."""
    chance = random.Random(seed)
    now = last = busy = 0.0
    place = start or Place("simulated", most=most, patience=300.0, now=0.0)
    tokens = model.burst
    events: list[tuple[float, bool, float]] = []
    granted = refused = late = 0
    while now < seconds:
        while place.flying < place.window.limit and place.pace.opens_at <= now:
            if place.pace.rate < float("inf"):
                place.pace.sent(now)
            place.flying += 1
            if model.rate < float("inf"):
                tokens = min(model.burst, tokens + model.rate * (now - last))
                last = now
            refuse = tokens < 1 or chance.random() < model.hiccups
            if not refuse and model.rate < float("inf"):
                tokens -= 1
            busy = max(busy, now) + model.service * (2 if place.flying > model.thrash else 1)
            heapq.heappush(events, (busy + model.latency * chance.uniform(0.9, 1.1), refuse, now))
        place.window.full |= place.flying >= place.window.limit
        opens_at = place.pace.opens_at + chance.uniform(0, 0.001)  # a loop's timers are not exact
        if place.flying < place.window.limit and (not events or opens_at < events[0][0]):
            now = opens_at
            continue
        now, refuse, sent = heapq.heappop(events)
        place.flying -= 1
        if refuse:
            refused += 1
            place.refused(now, sent)
        else:
            granted += 1
            late += now > seconds / 2
            place.answered(now, sent, 1)
    return Outcome(granted, refused, place.window.limit, late / (seconds / 2))
