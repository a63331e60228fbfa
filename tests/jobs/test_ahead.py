"""What is read on a thread ahead of the loop: handed over in batches, and left at any moment."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import pytest

from asyncfetch import bell
from asyncfetch.jobs import ahead
from asyncfetch.jobs.ahead import read_ahead
from tests.interrupts import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBER = 7 * ahead._BATCH  # more than is read ahead


def numbers(flush: Callable[[], None]) -> Iterator[int]:
    yield from range(NUMBER)


async def test_all_comes_in_order_and_no_batch_is_empty() -> None:
    async with aclosing(read_ahead(numbers)) as batches:
        taken = [batch async for batch in batches]
    assert all(taken)
    assert [number for batch in taken for number in batch] == list(range(NUMBER))


async def test_what_reading_raises_comes_after_what_was_read() -> None:
    def broken(flush: Callable[[], None]) -> Iterator[int]:
        yield 1
        raise OSError("no more")

    taken: list[int] = []
    with pytest.raises(OSError, match="no more"):
        async for batch in read_ahead(broken):
            taken += batch
    assert taken == [1]


async def test_an_interrupt_at_any_moment_of_taking_leaves_the_thread_able_to_end() -> None:
    at, over = 0, False
    while not over:
        at += 1
        before = set(threading.enumerate())
        reader = ahead._Reader(numbers)
        (thread,) = set(threading.enumerate()) - before
        while reader._queue.qsize() < ahead._AHEAD:
            await asyncio.sleep(0)

        def take(reader: ahead._Reader[int] = reader) -> None:
            with suppress(StopIteration):  # it has something, so that it needs no turn of the loop
                reader.next().send(None)

        over = not interrupted(take, at, ahead.__file__, bell.__file__, threading.__file__)
        reader.leave()
        thread.join()
    assert at > 3
