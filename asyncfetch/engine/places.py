"""The places that errands go to: a bucket, a prefix of one that is throttled, a host of the web.

Who waits for a place, and whether it may be asked.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING

from asyncfetch.engine.hedges import Hedges
from asyncfetch.engine.pace import Pace, estimate
from asyncfetch.engine.prefixes import Tally
from asyncfetch.engine.standing import PROBES, Standing
from asyncfetch.engine.window import Window

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from asyncfetch.engine.errand import Errand
    from asyncfetch.uris import Location

MOST_PLACES = 1024  # remembered; only the web has so many
MOST_BRANCHES = 16  # of a bucket; where more of its prefixes are throttled it is paced as a whole


class Place:
    """One place as the lanes see it. `flying` are the errands that are out to it, `most` what these may be at all, and
    with `fixed` always are, if there are so many.

    A bucket of which S3 throttles some prefixes has these as its `branches`, each a place with window, pace and lines
    of its own. Whether the bucket answers at all, and how late, is known of all of it together.
    """

    __slots__ = (
        "_fixed",
        "branches",
        "flying",
        "hedges",
        "latency",
        "name",
        "pace",
        "queue",
        "root",
        "standing",
        "tally",
        "timer",
        "urgent",
        "window",
    )

    def __init__(
        self, name: str, *, most: int, patience: float, now: float, fixed: bool = False, root: Place | None = None
    ) -> None:
        self.name = name
        self.root = root or self
        self.flying = 0
        self.latency = 0.0  # seconds that the last answer took
        self.standing: Standing = Standing(patience) if root is None else root.standing
        self.window = Window(most, now, fixed=fixed)
        self._fixed = fixed
        self.pace = Pace()
        self.hedges: Hedges = Hedges() if root is None else root.hedges
        self.urgent: deque[Errand] = deque()
        self.queue: deque[Errand] = deque()
        self.timer: asyncio.TimerHandle | None = None  # for when it may be asked again
        self.tally: Tally | None = None  # since a refusal
        self.branches: dict[str, Place] = {}

    def family(self) -> Iterator[Place]:
        """The place and its branches."""
        yield self
        yield from self.branches.values()

    @property
    def idle(self) -> bool:
        """Whether nobody has to do with it."""
        return not (self.flying or self.urgent or self.queue)

    def under(self, key: str) -> Place:
        """The branch that a key belongs to, the one with the longest prefix, or this one."""
        found, longest = self, 0
        for prefix, branch in self.branches.items():
            if len(prefix) > longest and key.startswith(prefix):
                found, longest = branch, len(prefix)
        return found

    def opens_at(self, now: float) -> float | None:
        """When another errand may go to it: `now` or before, later, or None while somebody has to come back first."""
        if self.standing.out_since is None:
            return max(now, self.pace.opens_at)
        out = sum(place.flying for place in self.root.family())
        return self.standing.probe_at if out < PROBES else None

    def answered(self, now: float, sent: float, refund: int, key: str) -> bool:
        """It has answered an errand that went out at `sent`. True where more may be out now."""
        self.latency = now - sent
        self.standing.answered(now, refund)
        if self.pace.busy:
            self.pace.answered(now, sent)
        if self.tally is not None and sent > self.pace.since:
            self.tally.add(key, refused=False)
        return self.window.answered(now)

    def refused(self, now: float, sent: float, key: str) -> list[Place]:
        """It has refused an errand that went out at `sent`, because there are too many of them.

        Gives the branches that it has more by that: errands in its lines may be theirs.
        """
        pace = self.pace
        if sent <= pace.since or not self.standing.known:  # of what has granted nothing no rate can be counted
            return []
        if self.tally is None or self.tally.full:
            self.tally = Tally(sent)
        self.tally.add(key, refused=True)
        too_many = pace.refused(sent)
        if not too_many and not self.tally.full:
            return []
        asked = self.window.asked(now, self.flying + 1, self.latency or now - sent)
        branches = self._branch_off(now, sent, min(asked, pace.rate))
        if branches:
            pace.forgive(now)  # the rest of it knows no limit
        elif too_many and pace.keep(pace.limit(sent, asked), now, self.latency):
            # As many as the pace has out at once are no reason for the place to refuse them.
            self.window.throttled(now, least=math.ceil(pace.rate * self.latency))
        self.tally = None
        return branches

    def restart(self, now: float) -> None:
        """Forgets what it could take, as after an outage."""
        for place in self.root.family():
            place.tally = None
            place.pace.free()
            place.window.restart(now)

    def _branch_off(self, now: float, sent: float, asked: float) -> list[Place]:
        root, tally = self.root, self.tally
        assert tally is not None
        found = [] if root.name.startswith("http") else list(tally.apart().items())
        branches = root.branches
        for prefix in [prefix for prefix, place in branches.items() if place.idle and place.pace.rate == math.inf]:
            del branches[prefix]
        if len(branches) + len(found) > MOST_BRANCHES:
            return []
        made = []
        for prefix, count in found:
            if prefix in branches:
                continue
            name = f"{root.name}/{prefix}"
            branch = Place(name, most=self.window.most, patience=0.0, now=now, fixed=self._fixed, root=root)
            branch.latency = self.latency
            branch.window.limit = self.window.limit
            branch.window.throttled(now)
            limit = estimate(count.granted, max(0.0, sent - tally.began), asked * tally.share_of(count))
            branch.pace.keep(limit, now)
            branches[prefix] = branch
            made.append(branch)
        return made


class Places:
    """All places that were met so far. Each may have `most` errands out, and `patience` seconds to come back in.

    Fewer than `most` where they bring as much or are refused, unless the number is `fixed`.
    """

    def __init__(self, *, most: int, patience: float, fixed: bool = False) -> None:
        self._most, self._patience, self._fixed = most, patience, fixed
        self._roots: dict[tuple[str, str], Place] = {}

    def at(self, location: Location) -> Place:
        """The place of an object: its bucket or host, or a branch of that."""
        key = location.scheme, location.container
        place = self._roots.get(key) or self._meet(key)
        return place.under(location.key) if place.branches else place

    def __iter__(self) -> Iterator[Place]:
        return chain.from_iterable(place.family() for place in self._roots.values())

    @property
    def limits(self) -> dict[str, int]:
        """How many errands may be out to each at once."""
        return {place.name: place.window.limit for place in self}

    @property
    def rates(self) -> dict[str, float]:
        """How often a second those are asked at most that asked for less."""
        return {place.name: place.pace.rate for place in self if place.pace.rate < math.inf}

    def _meet(self, key: tuple[str, str]) -> Place:
        if len(self._roots) >= MOST_PLACES:
            idle = {key for key, root in self._roots.items() if all(place.idle for place in root.family())}
            self._roots = {key: place for key, place in self._roots.items() if key not in idle}
        now = perf_counter()
        place = Place("://".join(key), most=self._most, patience=self._patience, now=now, fixed=self._fixed)
        self._roots[key] = place
        return place
