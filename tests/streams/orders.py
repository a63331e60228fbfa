"""Orders worked out without a fetcher: plans over numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from asyncfetch.streams.order import AsyncReading, check_step, read
from asyncfetch.streams.plan import Plan, Step
from asyncfetch.streams.progress import Checkpoint, Progress


class Anew:
    """Sources without an index that can be read again."""

    def __init__(self, sources: Iterable[Any]) -> None:
        self.sources = list(sources)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.sources)


def plan_of(*steps: Step, sources: Any = ()) -> Plan:
    plan = Plan()
    for step in steps:
        check_step(step, sources)
        plan = plan.then(step)
    return plan


def placed(sources: Any, *steps: Step, point: Checkpoint | None = None) -> list[tuple[int, int, Any]]:
    """Everything that a plan gives: places, indices, sources."""
    point = point or Checkpoint()
    reading = read(plan_of(*steps, sources=sources), sources, point, Progress(point))
    assert not isinstance(reading, AsyncReading)
    return [found[:3] for found in reading if found is not None]


def ordered(sources: Any, *steps: Step) -> list[Any]:
    """The sources that a plan gives."""
    return [source for _, _, source in placed(sources, *steps)]


async def slowly(sources: Iterable[Any]) -> AsyncIterator[Any]:
    for source in sources:
        await asyncio.sleep(0)
        yield source
