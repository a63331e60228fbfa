"""Look-ups and hits, altogether and of each bucket, host and prefix, and what the index has been told of them."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.changes import count
from asyncfetch.cache.prefixes import SLASHES, Prefixes
from asyncfetch.cache.records import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.records import RefKey

# Of each place there are two counters, at 2 us each time. So the index is told of them once in this many seconds, and
# whoever asks more hosts than this, as for a list of images of the whole web, has the others' in the totals alone.
PLACES_SECONDS = 1.0
MOST_PLACES = 1000

# Counters of prefixes, beside `hits` and `misses` of places. Of a directory that is wide one says that it is.
_HITS_UNDER, _MISSES_UNDER, _WIDE = "hits-under", "misses-under", "wide"
_UNDER = {_HITS_UNDER: "hits", _MISSES_UNDER: "misses"}


class Looked(NamedTuple):
    """The look-ups of one bucket, host or prefix since the index was begun."""

    hits: int = 0
    misses: int = 0


class Tally:
    """What one process has counted. For one thread at a time; the numbers may be read by anybody."""

    def __init__(self) -> None:
        self.look_ups = self.hits = 0
        self._places: dict[tuple[str, str], list[int]] = {}  # look-ups and hits
        self._told: dict[str, int] = {}
        self._telling: dict[str, int] = {}
        self._prefixes = Prefixes()
        self._places_at = -math.inf

    def looked_up(self, keys: Sequence[RefKey], answers: Sequence[object]) -> None:
        """Counts look-ups as they were answered in the end. 0.15 us each where many have one prefix, 0.45 where not."""
        kinds = list(map(type, answers))
        hits = kinds.count(Found)
        self.look_ups += len(keys)
        self.hits += hits
        if len(keys) > 1:
            first, last = min(keys), max(keys)
            if first[:2] == last[:2]:
                self._add(first[:2], len(keys), hits)
                self._prefixes.looked_up(keys, kinds, hits, first, last)
                return
        for key, kind in zip(keys, kinds, strict=True):
            self._one(key, hit=kind is Found)

    def read(self, key: RefKey, data: bytes | None) -> None:
        """Counts a look-up that was answered with bytes."""
        hit = data is not None
        self.look_ups += 1
        self.hits += hit
        self._one(key, hit=hit)

    def untold(self, stored: int, *, last: bool = False) -> list[Change]:
        """What the index has not been told yet. The `last` time that is all, else places and prefixes once a second."""
        now = {"hits": self.hits, "misses": self.look_ups - self.hits, "stored": stored}
        at = time.monotonic()
        if last or at - self._places_at >= PLACES_SECONDS:
            self._places_at = at
            for place, (look_ups, hits) in self._places.items():
                now[_name("hits", place)], now[_name("misses", place)] = hits, look_ups - hits
            for prefix, (look_ups, hits) in self._prefixes:
                now[_name(_HITS_UNDER, prefix)], now[_name(_MISSES_UNDER, prefix)] = hits, look_ups - hits
            now |= dict.fromkeys((_name(_WIDE, prefix) for prefix in self._prefixes.wide), 1)
        self._telling = now
        more = {name: number - self._told.get(name, 0) for name, number in now.items()}
        return [count(name, number) for name, number in more.items() if number]

    def told(self) -> None:
        """Hears that the index has taken what was untold."""
        self._told |= self._telling

    def _one(self, key: RefKey, *, hit: bool) -> None:
        self._add(key[:2], 1, hit)
        self._prefixes.one(key, hit=hit)

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


def by_prefix(counters: Mapping[str, int], depth: int) -> dict[tuple[str, str, str], Looked]:
    """What they say of each prefix of `depth` slashes, or of fewer where keys have no more: those of which they do.

    They do not of one with more slashes than are counted, nor where not all could be told apart.
    """
    parts = [(name.split(" ", 3), number) for name, number in counters.items()]
    wide = {tuple(name) for (kind, *name), _ in parts if kind == _WIDE}
    found: dict[tuple[str, str, str], Looked] = {}
    for (kind, *name), number in parts:
        if kind not in _UNDER:
            continue
        endpoint, container, prefix = name
        folder = prefix[: prefix.find("/") + 1]
        deeper = depth > SLASHES and prefix.count("/") == SLASHES
        if deeper or (endpoint, container, "") in wide or (depth > 1 and (endpoint, container, folder) in wide):
            continue
        group = endpoint, container, folder if depth == 1 else prefix
        before = found.get(group, Looked())
        field = _UNDER[kind]
        found[group] = before._replace(**{field: getattr(before, field) + number})
    return found


def _name(kind: str, name: Iterable[str]) -> str:
    """The counter of a place or prefix. No endpoint or container has a space, so that it can be taken apart again."""
    return " ".join((kind, *name))
