"""Look-ups and hits, altogether and of each bucket or host, and what the index has been told of them."""

from __future__ import annotations

import math
import time
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.changes import count
from asyncfetch.cache.records import Found

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.records import RefKey

# Of each place there are two counters, at 2 us each time. So the index is told of them once in this many seconds, and
# whoever asks more hosts than this, as for a list of images of the whole web, has the others' in the totals alone.
PLACES_SECONDS = 1.0
MOST_PLACES = 1000

_endpoint, _container = itemgetter(0), itemgetter(1)  # of a `RefKey`


class Looked(NamedTuple):
    """The look-ups of one bucket or host since the index was begun."""

    hits: int = 0
    misses: int = 0


class Tally:
    """What one process has counted. For one thread at a time; the numbers may be read by anybody."""

    def __init__(self) -> None:
        self.look_ups = self.hits = 0
        self._places: dict[tuple[str, str], list[int]] = {}  # look-ups and hits
        self._told: dict[str, int] = {}
        self._telling: dict[str, int] = {}
        self._places_at = -math.inf

    def looked_up(self, keys: Sequence[RefKey], answers: Sequence[object]) -> None:
        """Counts look-ups as they were answered in the end. 0.2 us each where many are of one place."""
        hits = list(map(type, answers)).count(Found)
        self.look_ups += len(keys)
        self.hits += hits
        if len(keys) == 1 or (len(set(map(_container, keys))) == 1 and len(set(map(_endpoint, keys))) == 1):
            self._add(keys[0][:2], len(keys), hits)
        else:
            for key, answer in zip(keys, answers, strict=True):
                self._add(key[:2], 1, type(answer) is Found)

    def read(self, key: RefKey, data: bytes | None) -> None:
        """Counts a look-up that was answered with bytes."""
        hit = data is not None
        self.look_ups += 1
        self.hits += hit
        self._add(key[:2], 1, hit)

    def untold(self, stored: int, *, last: bool = False) -> list[Change]:
        """What the index has not been told yet. The `last` time it is told of all places, else if it is time to."""
        now = {"hits": self.hits, "misses": self.look_ups - self.hits, "stored": stored}
        at = time.monotonic()
        if last or at - self._places_at >= PLACES_SECONDS:
            self._places_at = at
            for place, (look_ups, hits) in self._places.items():
                now[_name("hits", place)], now[_name("misses", place)] = hits, look_ups - hits
        self._telling = now
        more = {name: number - self._told.get(name, 0) for name, number in now.items()}
        return [count(name, number) for name, number in more.items() if number]

    def told(self) -> None:
        """Hears that the index has taken what was untold."""
        self._told |= self._telling

    def _add(self, place: tuple[str, str], look_ups: int, hits: int) -> None:
        counts = self._places.get(place)
        if counts is not None:
            counts[0] += look_ups
            counts[1] += hits
        elif len(self._places) < MOST_PLACES:
            self._places[place] = [look_ups, hits]


def by_place(counters: Mapping[str, int]) -> dict[tuple[str, str], Looked]:
    """What the counters of an index say of each place: an endpoint and a bucket, or a scheme and a host."""
    found: dict[tuple[str, str], Looked] = {}
    for name, number in counters.items():
        kind, *place = name.split(" ", 2)
        if len(place) == 2 and kind in Looked._fields:
            endpoint, container = place
            before = found.get((endpoint, container), Looked())
            found[endpoint, container] = before._replace(**{kind: number})
    return found


def _name(kind: str, place: tuple[str, str]) -> str:
    """The counter of a place. There is no space in an endpoint, so that the name can be taken apart again."""
    return f"{kind} {place[0]} {place[1]}"
