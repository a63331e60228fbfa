"""Who waits in line, and who no longer does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from asyncfetch.engine.credits import Credits
from asyncfetch.engine.errand import Errand
from asyncfetch.engine.lanes import Lanes
from asyncfetch.engine.meter import Meter
from asyncfetch.settings import NetworkPolicy
from asyncfetch.uris import Location


class Flown(Errand):
    """An errand of a given size that says when it was flown."""

    def __init__(self, need: int) -> None:
        super().__init__(Location("s3", "bucket", "key"))
        self.flown = asyncio.Event()
        self._need = need

    @property
    def need(self) -> int:
        return self._need

    async def fly(self) -> None:
        self.release()
        self.flown.set()

    def fail(self, error: Exception) -> None:
        raise AssertionError from error


async def test_who_gives_up_its_place_holds_up_nobody_behind_it() -> None:
    async with anyio.create_task_group() as group:
        meter, credits = Meter(), Credits(10, asyncio.get_running_loop().call_soon_threadsafe)

        def start(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
            group.start_soon(run)

        lanes = Lanes(NetworkPolicy(attempts=1), 1, credits, meter, start)
        held = credits.take(8)
        large, small = Flown(5), Flown(1)
        lanes.add(large)
        lanes.add(small)
        lanes.pump()
        assert meter.budget.level == 1
        lanes.give_up(large)
        await asyncio.wait_for(small.flown.wait(), 5)
        assert held is not None
        group.cancel_scope.cancel()


async def test_a_line_that_was_given_up_is_no_line() -> None:
    async with anyio.create_task_group() as group:
        meter, credits = Meter(), Credits(10, asyncio.get_running_loop().call_soon_threadsafe)

        def start(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
            group.start_soon(run)

        lanes = Lanes(NetworkPolicy(attempts=1), 1, credits, meter, start)
        held = credits.take(8)
        errands = [Flown(5) for _ in range(3)]
        for errand in errands:
            lanes.add(errand)
        lanes.pump()
        for errand in errands:
            lanes.give_up(errand)
        await asyncio.sleep(0)
        assert lanes.waiting == 0
        assert meter.budget.level == 0, "nobody is held back by the budget"
        assert held is not None
        group.cancel_scope.cancel()
