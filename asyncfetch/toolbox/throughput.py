"""How fast a bucket really is: the same sample read at rising concurrency, and what is enough."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import UsageError
from asyncfetch.fetcher import Fetcher
from asyncfetch.objects import Entry, Failure, Image, Percentiles, Verdict
from asyncfetch.prices import prices_of
from asyncfetch.streams import read_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.objects import ObjectStat
    from asyncfetch.settings import Settings

# What a further step must bring to be called faster, rather than lucky.
ENOUGH = 0.95
# Stages that more requests at once do nothing for.
_OURS = frozenset({"consumer", "decode", "budget", "throttled", "cpu", "cache"})
MOMENT = 0.1  # seconds between two points of the curve


class Moment(NamedTuple):
    """A point of the curve: seconds of reading, all steps one after another, and what had been read by then."""

    seconds: float
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """One pass over the sample, with just so many requests out at once while there are objects for them."""

    concurrency: int  # what was asked for, or what the process has descriptors for
    objects: int
    bytes: int
    failed: int
    seconds: float
    cpu_seconds: float  # of this process and its decode workers
    first_byte: Percentiles
    whole_body: Percentiles
    requests: int  # all that were sent: the parts of an object, repeats, second requests, and what finds the bucket
    verdict: Verdict

    @property
    def objects_per_second(self) -> float:
        """Objects read in a second."""
        return self.objects / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes read in a second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def cpu_seconds_per_gigabyte(self) -> float:
        """CPU-seconds for each 10^9 bytes."""
        return self.cpu_seconds / self.bytes * 1e9 if self.bytes else 0.0


@dataclass(frozen=True, slots=True)
class Survey:
    """All steps, the curve over all of them, and the answer."""

    steps: tuple[Step, ...]
    curve: tuple[Moment, ...]
    verdict: Verdict
    list_requests: int  # what the sample was listed by, as told to `measure`
    dollars: float  # list price of all requests, the listing included; transfer out of AWS is not in it

    @property
    def best(self) -> Step:
        """The step that is enough: the least concurrency whose throughput no other beats by much."""
        return _enough(self.steps)


async def measure(
    settings: Settings,
    sample: Sequence[ObjectStat],
    concurrencies: Sequence[int],
    *,
    decode: bool = False,
    list_requests: int = 0,
    seen: Callable[[int, int | None], None] = lambda concurrency, size: None,
) -> Survey:
    """Reads a sample once for each concurrency, past the cache, and writes nothing to the bucket.

    Each step has as many objects out as it says from its first request on: nothing adapts, except to refusals.
    Bodies go to files of this process that vanish at once, so the disk of `cache_dir` takes part: put it in memory to
    leave it out. With `decode` the objects are decoded as images too. `list_requests` have been sent to make the
    sample, and are priced as well. `seen` is called with the concurrency and the bytes of each object, None for a
    failure. Raises `UsageError` for an empty sample or no concurrency. Cancelled, nothing is left.
    """
    if not sample or not concurrencies:
        raise UsageError("There is nothing to measure", remedy="Name a prefix that has objects.")
    steps: list[Step] = []
    curve: list[Moment] = []
    objects = size = 0
    before = 0.0  # seconds of the steps before
    for concurrency in concurrencies:
        cpu = _cpu()
        network = replace(settings.network, concurrency=concurrency, adaptive=False)
        async with Fetcher(replace(settings, network=network)) as fetcher:
            await fetcher.stat(sample[0])  # credentials, region and the first connection are not the bucket's speed
            stream = (
                fetcher.images(sample, order="completion", on_error="yield", cache=False)
                if decode
                else fetcher.entries(sample, order="completion", on_error="yield", cache=False)
            )
            began = time.perf_counter()
            curve.append(Moment(before, objects, size))
            async with stream:
                async for item in stream:
                    length = _size(item)
                    seen(concurrency, length)
                    objects, size = objects + 1, size + (length or 0)
                    now = before + time.perf_counter() - began
                    if now - curve[-1].seconds >= MOMENT:
                        curve.append(Moment(now, objects, size))
            report, stats = stream.report(), fetcher.stats()
        before += report.seconds
        curve.append(Moment(max(before, curve[-1].seconds), objects, size))
        steps.append(
            Step(
                concurrency=stats.lanes,
                objects=report.objects,
                bytes=report.bytes,
                failed=report.failed,
                seconds=report.seconds,
                cpu_seconds=_cpu() - cpu,  # after the fetcher has closed: its workers have been waited for by then
                first_byte=stats.first_byte,
                whole_body=stats.whole_body,
                requests=stats.requests,
                verdict=report.verdict,
            )
        )
    gets = sum(step.requests for step in steps)
    region = settings.access_for(read_name(sample[0])[1].container).region
    dollars = prices_of(region).requests(gets=gets, lists=list_requests)
    return Survey(tuple(steps), tuple(curve), verdict_of(steps), list_requests, dollars)


def _size(item: Entry | Image | Failure) -> int | None:
    if isinstance(item, Failure):
        return None
    return item.entry.size if isinstance(item, Image) else item.size


def _cpu() -> float:
    """CPU-seconds of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _enough(steps: Sequence[Step]) -> Step:
    most = max(step.bytes_per_second for step in steps)
    return next(step for step in steps if step.bytes_per_second >= ENOUGH * most)


def verdict_of(steps: Sequence[Step]) -> Verdict:
    """One line: what holds the bucket back at the concurrency that is enough for it.

    Where more at once did not bring more, the next step says why.
    """
    best = _enough(steps)
    if not best.objects:
        return Verdict("none", "Nothing could be read.")
    after = steps[steps.index(best) + 1 :]
    held = next((step for step in (best, *after[:1]) if step.verdict.stage in _OURS), None)
    if held is best:
        enough = "more at once would not help." if not after else f"concurrency {best.concurrency} is enough for that."
        return Verdict(best.verdict.stage, f"{best.verdict.sentence[:-1]}; {enough}")
    if held is not None:
        return Verdict(
            held.verdict.stage,
            f"Concurrency {best.concurrency} is enough; with {held.concurrency}: {held.verdict.sentence}",
        )
    if len(steps) == 1:
        return Verdict(
            "network",
            f"network: concurrency {best.concurrency} was the only one tried, and more or fewer may be faster.",
        )
    if not after:
        return Verdict(
            "network", f"network: concurrency {best.concurrency} was the most tried, and more may be faster."
        )
    return Verdict("network", f"network: concurrency {best.concurrency} is enough.")
