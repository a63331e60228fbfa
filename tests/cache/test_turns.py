"""What reads on the loop, one after the other, leaves to everything else."""

from __future__ import annotations

import asyncio

import pytest

from asyncfetch.cache import turns
from asyncfetch.cache.turns import READ_BYTES, READS, Turns


class Clock:
    """Counts the loop's turns."""

    def __init__(self) -> None:
        self.turn = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self.turn += 1
        self._loop.call_soon(self._tick)


async def test_who_never_waits_is_stopped_after_so_many_reads() -> None:
    reads = Turns(asyncio.get_running_loop())
    assert [reads.take() for _ in range(READS + 1)] == [True] * READS + [False]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reads.take()


async def test_a_turn_is_over_after_so_many_bytes() -> None:
    reads = Turns(asyncio.get_running_loop())
    assert reads.take()
    reads.spend(READ_BYTES)
    assert not reads.take()


@pytest.mark.parametrize(("size", "most"), [(10, READS), (READ_BYTES // 4, 4), (READ_BYTES * 2, 1)])
async def test_readers_go_on_in_their_order_and_no_more_than_a_turn_has(size: int, most: int) -> None:
    reads, clock = Turns(asyncio.get_running_loop()), Clock()
    went: list[tuple[int, int]] = []  # turn, reader

    async def reader(number: int) -> None:
        for _ in range(20):
            await reads.wait()
            reads.spend(size)
            went.append((clock.turn, number))

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(reader(number))
    assert len(went) == 800
    in_turn = [[number for at, number in went if at == turn] for turn in sorted({turn for turn, _ in went})]
    assert max(map(len, in_turn[1:])) <= most
    passes = [number for _, number in went][READS:]  # the first reader had the first turn for itself
    assert max(passes.count(number) for number in range(1, 40)) == 20
    for at in range(0, 400, 40):
        assert len(set(passes[at : at + 39])) == 39, "nobody overtook who waited"


async def test_who_is_cancelled_while_waiting_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "READS", 1)
    reads = Turns(asyncio.get_running_loop())
    assert reads.take()
    waiters = [asyncio.ensure_future(reads.wait()) for _ in range(4)]
    reads.take()
    await asyncio.sleep(0)
    for _ in range(2):  # the first has its turn by then, the others wait
        await asyncio.sleep(0)
    waiters[-2].cancel()
    await asyncio.gather(*waiters[:2], waiters[3])
    with pytest.raises(asyncio.CancelledError):
        await waiters[2]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reads.take()


async def test_a_turn_whose_end_was_lost_is_ended_by_who_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Turns(asyncio.get_running_loop())
    with monkeypatch.context() as patch:
        patch.setattr(reads, "_end", lambda: None)  # it was interrupted as it began
        assert reads.take()
        await asyncio.sleep(0)
    monkeypatch.setattr(turns, "LOST_SECONDS", -1.0)  # that is long ago
    for _ in range(3 * READS):
        await reads.wait()
