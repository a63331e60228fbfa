"""Clocks of the stages, the counts of a run, and the verdict: which stage held it back."""

from __future__ import annotations

import math
import random
from collections import Counter
from time import perf_counter, thread_time
from typing import NamedTuple

from asyncfetch.objects import Percentiles, Verdict
from asyncfetch.settings import cores


class Gauge:
    """A level and its integral over time: with busy lanes as the level, lane-seconds."""

    __slots__ = ("_area", "_since", "level")

    def __init__(self) -> None:
        self.level = 0
        self._area = 0.0
        self._since = perf_counter()

    def add(self, change: int) -> float:
        """Changes the level, and says when."""
        now = perf_counter()
        self._area += self.level * (now - self._since)
        self._since = now
        self.level += change
        return now

    def set(self, on: bool) -> None:
        """Makes the level 1 or 0; costs nothing when it already is."""
        if on != self.level:
            self.add(int(on) - self.level)

    def read(self) -> float:
        """Level-seconds until now."""
        return self._area + self.level * (perf_counter() - self._since)


class Latencies:
    """A fair sample of durations, of bounded size: each of all that were added is in it with the same chance.

    Vitter's algorithm R (ACM TOMS 11(1), 1985).
    """

    SIZE = 4096  # a p99 of so many is the 41st from the top: off by a few per cent of itself at most

    __slots__ = ("_chance", "_sample", "count")

    def __init__(self) -> None:
        self.count = 0
        self._sample: list[float] = []
        self._chance = random.Random(0)  # noqa: S311 - no secret is made of it

    def add(self, seconds: float) -> None:
        """Takes a duration."""
        self.count += 1
        if len(self._sample) < self.SIZE:
            self._sample.append(seconds)
        elif (place := int(self._chance.random() * self.count)) < self.SIZE:
            self._sample[place] = seconds

    def percentiles(self) -> Percentiles:
        """The sample's percentiles, in seconds; zeros without one."""
        ordered = sorted(self._sample) or [0.0]
        return Percentiles(*(ordered[min(len(ordered) - 1, len(ordered) * rank // 100)] for rank in (50, 95, 99)))


class Meter:
    """What the engine counts. One a fetcher, on the loop's thread."""

    def __init__(self) -> None:
        self.lanes = Gauge()  # lanes at work
        self.budget = Gauge()  # errands refused for want of bytes
        self.held = Gauge()  # errands that their place is not to be asked for yet
        self.objects = 0
        self.bytes = 0
        self.hits = 0  # served from the cache without asking the origin
        self.revalidated = 0  # served from the cache after the origin, or its listing, said that nothing changed
        self.stale = 0  # served from the cache unchecked, because the origin failed
        self.downloaded = 0
        self.downloaded_bytes = 0
        self.shared = 0  # requests that joined another's flight
        self.retries = 0
        self.hedges = 0  # second requests for objects whose answers were late
        self.hedges_won = 0
        self.hedged_bytes = 0  # of objects that were asked for twice: at most so many came in vain
        self.first_byte = Latencies()  # from the request to the head of the answer
        self.whole = Latencies()  # from the request to the body whole and hashed
        self.failures: Counter[str] = Counter()


class Snapshot(NamedTuple):
    """Running totals at one moment; the difference of two describes what happened between them. Times in seconds."""

    at: float
    cpu: float  # CPU time of the loop's thread
    lanes: int  # how many lanes there may be
    lane_seconds: float
    budget_seconds: float
    held_seconds: float
    cache_seconds: float  # work of the cache's thread
    workers: int  # decode workers
    decode_seconds: float  # work of all decode workers
    objects: int

    @staticmethod
    def now(meter: Meter, *, lanes: int, cache_seconds: float, workers: int, decode_seconds: float) -> Snapshot:
        """Reads the clocks. Call it on the loop's thread."""
        return Snapshot(
            perf_counter(),
            thread_time(),
            lanes,
            meter.lanes.read(),
            meter.budget.read(),
            meter.held.read(),
            cache_seconds,
            workers,
            decode_seconds,
            meter.objects,
        )


class Shares(NamedTuple):
    """How busy each stage was between two snapshots, from 0.0 to 1.0 of what it could have been."""

    consumer: float  # time in which items were ready and the consumer had not asked
    source: float  # time in which the engine waited for the next source
    decode: float
    cpu: float
    cache: float
    network: float
    budget: float
    throttled: float  # time in which a bucket or host was not asked, because it had refused or answered nobody


def shares(before: Snapshot, after: Snapshot, *, consumer: float = 0.0, source: float = 0.0) -> Shares:
    """Compares two snapshots. `consumer` and `source` are in seconds, measured by the stream."""
    wall = max(after.at - before.at, 1e-9)

    def share(seconds: float, units: int = 1) -> float:
        return min(1.0, max(0.0, seconds / (wall * max(units, 1))))

    return Shares(
        consumer=share(consumer),
        source=share(source),
        decode=share(after.decode_seconds - before.decode_seconds, after.workers),
        cpu=share(after.cpu - before.cpu),
        cache=share(after.cache_seconds - before.cache_seconds),
        network=share(after.lane_seconds - before.lane_seconds, after.lanes),
        budget=share(after.budget_seconds - before.budget_seconds),
        throttled=share(after.held_seconds - before.held_seconds),
    )


# In this order the first stage that was busy enough is the answer: each is named before those that it makes wait, and a
# stage counts as full somewhat below 1, because starting and ending a run take time too.
_FULL = (
    (
        "consumer",
        0.7,
        "The consumer held it back: items were ready {share:.0%} of the time before they were asked for.",
    ),
    ("source", 0.5, "The source of URIs held it back: {share:.0%} of the time was spent waiting for the next one."),
    (
        "decode",
        0.8,
        "Decoding held it back: {workers} were {share:.0%} busy; {more} or a smaller max_size would help.",
    ),
    ("budget", 0.5, "The memory budget held it back {share:.0%} of the time; a larger memory_budget helps."),
    (
        "throttled",
        0.5,
        "The origin held it back: {share:.0%} of the time it was not asked, because it had asked for fewer requests "
        "or answered nobody.",
    ),
    ("cpu", 0.85, "This process's own CPU held it back: the event loop was {share:.0%} busy; a second process helps."),
    (
        "cache",
        0.8,
        "The cache's disk held it back: its thread was {share:.0%} busy; a faster disk for cache_dir helps.",
    ),
    (
        "network",
        0.7,
        "The origin held it back: {lanes} lanes were {share:.0%} busy, {latency} an object; "
        "a larger concurrency may help.",
    ),
)


def judge(before: Snapshot, after: Snapshot, *, consumer: float = 0.0, source: float = 0.0) -> Verdict:
    """Says which stage held a run back between two snapshots."""
    found = shares(before, after, consumer=consumer, source=source)
    objects = after.objects - before.objects
    if objects == 0:
        return Verdict("none", "Nothing was fetched.")
    lane_ms = (after.lane_seconds - before.lane_seconds) / objects * 1e3
    facts = {
        "workers": _workers(after.workers),
        "more": _more_workers(found, after.workers),
        "lanes": after.lanes,
        "latency": f"{lane_ms:.3g} ms",
    }
    for stage, full, sentence in _FULL:
        share = getattr(found, stage)
        if share >= full:
            return Verdict(stage, sentence.format(share=share, **facts))
    stage, share = max(zip(found._fields, found, strict=True), key=lambda pair: pair[1])
    return Verdict("none", f"No stage was full; the busiest was {_NAMES[stage]}, at {share:.0%}.")


def _more_workers(found: Shares, workers: int) -> str:
    """How many more decode workers it takes until some other stage is as busy as decoding was, as a sentence has it."""
    # The others' work grows with the objects. Further than eightfold nothing can be told of a stage that did so little.
    most = max(found.cpu, found.cache, found.network, found.decode / 8)
    more = max(1, math.ceil(workers * found.decode / most) - workers) if most else 1
    room = cores()
    return _workers(more, "more ") + (f" (with cores for them: here are {room})" if workers + more > room else "")


def _workers(count: int, more: str = "") -> str:
    return f"{count} {more}worker{'s' * (count != 1)}"


_NAMES = {
    "consumer": "the consumer",
    "source": "the source of URIs",
    "decode": "decoding",
    "cpu": "this process's CPU",
    "cache": "the cache's disk",
    "network": "the network",
    "budget": "the memory budget",
    "throttled": "the origin, by asking for fewer requests",
}
