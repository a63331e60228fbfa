"""Whether the network is waited for: what comes in heaps lay ready, what comes in packets did not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from asyncfetch.cache import Arrivals
from asyncfetch.engine.slack import HEAP, Slack

if TYPE_CHECKING:
    from collections.abc import Callable


class Object:
    """A large object that wants to know so many times."""

    def __init__(self, times: int, *, writing: bool = False, told: Callable[[], None] = lambda: None) -> None:
        self.writing = writing
        self.seen: list[bool] = []
        self.done = asyncio.Event()
        self._times = times
        self._told = told

    def look(self, waiting: bool) -> bool:
        self.seen.append(waiting)
        self._told()
        if len(self.seen) == self._times:
            self.done.set()
        return len(self.seen) < self._times


@pytest.mark.parametrize(
    ("came", "reads", "waiting"),
    [(HEAP, 1, False), (HEAP - 1, 1, True), (4 * HEAP, 3, False), (4 * HEAP, 5, True), (1448, 1, True)],
)
async def test_small_reads_show_a_network_that_is_waited_for(came: int, reads: int, waiting: bool) -> None:
    arrivals, one = Arrivals(), Object(1)
    slack = Slack(arrivals)
    slack.watch(one)
    arrivals.bytes += came
    arrivals.reads += reads
    await one.done.wait()
    assert one.seen == [waiting]


async def test_a_silent_network_is_waited_for_and_a_full_disk_queue_is_not() -> None:
    for writing in (False, True):
        slack, one = Slack(Arrivals()), Object(1, writing=writing)
        slack.watch(one)
        await one.done.wait()
        assert one.seen == [not writing]


async def test_what_comes_of_one_object_counts_for_all_that_are_under_way() -> None:
    arrivals, silent, writing = Arrivals(), Object(2), Object(2, writing=True)
    slack = Slack(arrivals)
    slack.watch(silent)
    slack.watch(writing)
    arrivals.bytes, arrivals.reads = 10 * HEAP, 5
    await silent.done.wait()
    assert silent.seen == writing.seen == [False, False], "heaps at first, then nothing while the disk was busy"


async def test_only_what_came_since_the_last_look_counts() -> None:
    arrivals = Arrivals()
    arrivals.bytes, arrivals.reads = 100, 50  # before anybody asked

    def packet() -> None:
        arrivals.bytes += 1448
        arrivals.reads += 1

    one = Object(2, told=packet)
    slack = Slack(arrivals)
    slack.watch(one)
    arrivals.bytes += 10 * HEAP
    arrivals.reads += 1
    await one.done.wait()
    assert one.seen == [False, True]


async def test_who_has_left_is_told_no_more_even_in_the_middle_of_a_look() -> None:
    slack = Slack(Arrivals())
    second = Object(10)
    first = Object(3, told=lambda: slack.forget(second))
    slack.watch(first)
    slack.watch(second)
    await first.done.wait()
    assert second.seen == []
    slack.forget(first)
    slack.forget(first)


async def test_it_looks_again_for_who_comes_after_all_had_left() -> None:
    slack = Slack(Arrivals())
    for _ in range(2):
        one = Object(1)
        slack.watch(one)
        await one.done.wait()
        assert one.seen == [True]
