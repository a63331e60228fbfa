"""A server that exists in numbers only: what it grants, how long it takes, and what window and pace make of it."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import NamedTuple

from asyncfetch.engine.places import Place


class Model(NamedTuple):
    """`service` seconds an answer costs the one server there is, `latency` every answer takes besides.

    It grants `rate` requests a second after `burst` at once, and beyond refuses. Its clients stand still now and then,
    once a second or so, for up to `stalls` seconds: that is what a busy machine does to a loop.
    """

    latency: float = 0.01
    service: float = 0.0
    rate: float = float("inf")
    burst: float = 50
    thrash: int = 10_000  # so many at once, and each costs the server twice as much
    hiccups: float = 0.0  # the share it refuses whatever the rate
    quick: bool = False  # it refuses at once, and not as late as it answers
    stalls: float = 0.0


class Outcome(NamedTuple):
    granted: int
    refused: int
    limit: int
    rate: float  # granted a second, in the second half of the time


def run(model: Model, seconds: float, *, most: int = 64, start: Place | None = None, seed: int = 0) -> Outcome:
    """Asks it for so long, with always more to ask than it may be asked."""
    place = start or new(most)
    return together(model, seconds, [place], seed=seed)[0]


def new(most: int = 64) -> Place:
    """The server as a client sees it that knows nothing of it."""
    return Place("simulated", most=most, patience=300.0, now=0.0)


def together(model: Model, seconds: float, places: list[Place], *, begin: float = 0.0, seed: int = 0) -> list[Outcome]:
    """The same for several clients, each with a place of its own; they begin `begin` seconds one after another."""
    chance = random.Random(seed)
    server = _Server(model, chance)
    clients = [_Client(place, index * begin, server, chance) for index, place in enumerate(places)]
    numbers = itertools.count()  # so that events of one moment come in turn
    events = [(client.begin, next(numbers), client, _NOTHING) for client in clients]
    while events[0][0] < seconds:
        at, _, client, answer = heapq.heappop(events)
        now = client.awake(at)
        if now > at:
            heapq.heappush(events, (now, next(numbers), client, answer))
            continue
        if answer is _NOTHING:
            client.timer = False
        else:
            client.take(answer, now, late=now > seconds / 2)
        for sent in client.send(now):
            heapq.heappush(events, (sent.at, next(numbers), client, sent))
        if not client.timer and (wake := client.opens_at(now)) is not None:
            client.timer = True
            heapq.heappush(events, (wake, next(numbers), client, _NOTHING))
    return [client.outcome(seconds) for client in clients]


class _Answer(NamedTuple):
    at: float
    sent: float
    refused: bool


_NOTHING = _Answer(0.0, 0.0, refused=False)  # has come: it is the client's timer


class _Server:
    def __init__(self, model: Model, chance: random.Random) -> None:
        self.model = model
        self._chance = chance
        self._tokens = model.burst
        self._last = self._busy = 0.0

    def ask(self, client: _Client, now: float) -> _Answer:
        model, chance = self.model, self._chance
        if model.rate < float("inf"):
            self._tokens = min(model.burst, self._tokens + model.rate * (now - self._last))
            self._last = now
        refuse = self._tokens < 1 or chance.random() < model.hiccups
        if not refuse and model.rate < float("inf"):
            self._tokens -= 1
        thrashes = client.place.flying > model.thrash
        self._busy = max(self._busy, now) + model.service * (2 if thrashes else 1)
        latency = 0.001 if refuse and model.quick else model.latency
        return _Answer(self._busy + latency * chance.uniform(0.9, 1.1), now, refuse)


class _Client:
    def __init__(self, place: Place, begin: float, server: _Server, chance: random.Random) -> None:
        self.place = place
        self.begin = begin
        self.timer = True
        self._server = server
        self._chance = chance
        self._granted = self._refused = self._late = 0
        self._stall = (begin, begin)

    def awake(self, now: float) -> float:
        """When it is awake, from a moment on."""
        longest = self._server.model.stalls
        if not longest:
            return now
        while now >= self._stall[1]:
            start = self._stall[1] + self._chance.expovariate(1.0)
            self._stall = (start, start + self._chance.uniform(0, longest))
        return now if now < self._stall[0] else self._stall[1]

    def send(self, now: float) -> list[_Answer]:
        place, sent = self.place, []
        while place.flying < place.window.limit and place.pace.opens_at <= now:
            if place.pace.rate < float("inf"):
                place.pace.sent(now)
            place.flying += 1
            sent.append(self._server.ask(self, now))
        place.window.full |= place.flying >= place.window.limit
        return sent

    def opens_at(self, now: float) -> float | None:
        """When it sets its timer for: a loop's timers are not exact."""
        if self.place.flying >= self.place.window.limit:
            return None
        return max(now, self.place.pace.opens_at) + self._chance.uniform(0, 0.001)

    def take(self, answer: _Answer, now: float, *, late: bool) -> None:
        self.place.flying -= 1
        if answer.refused:
            self._refused += 1
            self.place.refused(now, answer.sent, "key")
        else:
            self._granted += 1
            self._late += late
            self.place.answered(now, answer.sent, 1, "key")

    def outcome(self, seconds: float) -> Outcome:
        return Outcome(self._granted, self._refused, self.place.window.limit, self._late / (seconds / 2))
