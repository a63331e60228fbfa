"""Single flight across processes: who fetches is agreed upon, who waits never waits for nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncfetch.cache import Cache, Elsewhere, Found, RefKey, claims, database, files
from asyncfetch.cache.claims import Missed
from asyncfetch.cache.owner import Owner

from .helpers import held, key, opened, publish, taken
from .test_owner import forsake

ELSEWHERE = Elsewhere.ELSEWHERE
A, B = key("a"), key("b")


class Asker:
    """One cache that looks up in order to fetch, and keeps what it is told later."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.told: asyncio.Queue[tuple[RefKey, Found | None]] = asyncio.Queue()
        self.calls: list[set[RefKey]] = []  # what it was told of at a time

    async def ask(self, *names: RefKey) -> list[Found | Elsewhere | None]:
        def hear(settled: Mapping[RefKey, Found | None]) -> None:
            self.calls.append(set(settled))
            for answer in settled.items():
                self.told.put_nowait(answer)

        return await taken(lambda done: self.cache.look_up(names, done, later=hear))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Asker, Asker]]:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        yield Asker(one), Asker(other)


async def test_second_waits_and_is_told_where_it_is(two: tuple[Asker, Asker]) -> None:
    one, other = two
    assert await one.ask(A) == [None]
    assert await other.ask(A, B) == [ELSEWHERE, None]
    assert await one.ask(B) == [ELSEWHERE]
    published = await publish(one.cache, b"bytes", A)
    name, found = await other.told.get()
    assert name == A
    assert found is not None
    assert found.path == published.path
    await publish(other.cache, b"more", B)
    name, found = await one.told.get()
    assert (name, found is not None) == (B, True)
    assert other.cache.statistics().awaited == 1
    assert all(isinstance(answer, Found) for answer in await other.ask(A, B))


async def test_given_up_by_the_first_it_is_the_seconds(two: tuple[Asker, Asker]) -> None:
    one, other = two
    await one.ask(A, B)
    assert await other.ask(A) == [ELSEWHERE]
    one.cache.release(A)
    assert await other.told.get() == (A, None)
    assert await one.ask(A) == [ELSEWHERE]
    await publish(other.cache, b"bytes", A)
    assert (await one.told.get())[1] is not None


async def test_all_waiters_of_one_process_are_told(two: tuple[Asker, Asker]) -> None:
    one, other = two
    await one.ask(A)
    assert await other.ask(A) == [ELSEWHERE]
    assert await other.ask(A) == [ELSEWHERE]
    await publish(one.cache, b"bytes", A)
    answers = [await other.told.get(), await other.told.get()]
    assert all(name == A and found is not None for name, found in answers)


async def test_waiter_is_told_together_of_what_becomes_known_together(two: tuple[Asker, Asker]) -> None:
    one, other = two
    names = [key(str(number)) for number in range(100)]
    await one.ask(*names)
    assert await other.ask(*names) == [ELSEWHERE] * 100
    for name in names:
        one.cache.release(name)  # all within one turn of the loop, and of the thread two batches at most
    assert {await other.told.get() for _ in names} == {(name, None) for name in names}
    assert len(other.calls) <= 3


async def test_who_only_waits_needs_no_lock(tmp_path: Path, two: tuple[Asker, Asker]) -> None:
    one, other = two
    await one.ask(A)
    with held(tmp_path):
        async with asyncio.timeout(database.BUSY_SECONDS / 2):
            assert await other.ask(A) == [ELSEWHERE]


async def test_while_another_holds_the_index_what_is_awaited_keeps_no_turn(
    tmp_path: Path, two: tuple[Asker, Asker]
) -> None:
    """For which the loop would wait; and it is brought in time, though whoever holds the index never lets go of it."""
    one, other = two
    await one.ask(A)
    assert await other.ask(A) == [ELSEWHERE]
    turn = other.cache._thread._turn
    with held(tmp_path) as stranger:
        stranger.execute("DELETE FROM claims")
        stranger.execute("COMMIT")
        stranger.execute("BEGIN IMMEDIATE")  # the next look would take the claim over
        async with asyncio.timeout(20):
            while not math.isfinite(other.cache._work._blocked_since):
                await asyncio.sleep(0)
        assert turn.acquire(timeout=database.BUSY_SECONDS / 4)
        turn.release()
        async with asyncio.timeout(20):
            assert await other.told.get() == (A, None)


async def test_closed_it_leaves_its_claims_to_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        other = Asker(kept)
        async with opened(tmp_path) as cache:
            assert await Asker(cache).ask(A) == [None]
            assert await other.ask(A) == [ELSEWHERE]
        assert await other.told.get() == (A, None)


async def test_claims_of_the_dead_are_taken_over(tmp_path: Path, two: tuple[Asker, Asker]) -> None:
    dead = Owner(str(tmp_path / "v1" / "tmp"))
    await two[0].ask(B)  # both know that others live
    _claim(tmp_path, A, dead)
    assert await two[0].ask(A) == [ELSEWHERE]
    assert await two[1].ask(A) == [ELSEWHERE]
    forsake(dead)
    teller = [asyncio.create_task(asker.told.get()) for asker in two]
    first, _ = await asyncio.wait(teller, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in first] == [(A, None)], "one of them, and the other waits for it"
    one, other = two if teller[0] in first else two[::-1]
    await publish(one.cache, b"bytes", A)
    assert (await next(task for task in teller if task not in first))[1] is not None
    assert other.told.empty()


async def test_waiter_races_after_a_bounded_time(two: tuple[Asker, Asker], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    await one.ask(A)
    monkeypatch.setattr(claims, "RACE_SECONDS", 0.0)
    assert await other.ask(A) == [ELSEWHERE]
    assert await other.told.get() == (A, None)
    assert (await publish(one.cache, b"bytes", A)).stored
    assert not (await publish(other.cache, b"bytes", A)).stored


async def test_waiters_for_what_hangs_race_all_together_and_not_one_after_the_other(
    tmp_path: Path, two: tuple[Asker, Asker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first takes the claim over, and is waited for only until the time of the others is up too."""
    one, other = two
    async with opened(tmp_path) as cache:
        third = Asker(cache)
        await one.ask(A)
        assert await other.ask(A) == await third.ask(A) == [ELSEWHERE]
        hour = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600, time=time.time)
        monkeypatch.setattr(claims, "RACE_SECONDS", 3600)
        monkeypatch.setattr(claims, "time", hour)
        async with asyncio.timeout(10):
            assert await other.told.get() == await third.told.get() == (A, None)


async def test_what_was_under_way_before_the_other_came_is_claimed_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        first = Asker(cache)
        assert await first.ask(A) == [None]
        async with opened(tmp_path) as later:
            second = Asker(later)
            assert await first.ask(B) == [None]
            assert await second.ask(A) == [ELSEWHERE]


async def test_object_that_came_in_between_is_found(two: tuple[Asker, Asker], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the look-up has missed it and before it is claimed."""
    one, other = two
    await one.ask(B)
    claim = claims.Claims.claim
    loop = asyncio.get_running_loop()

    def overtaken(self: claims.Claims, missed: list[claims.Missed]) -> None:
        monkeypatch.setattr(claims.Claims, "claim", claim)
        asyncio.run_coroutine_threadsafe(publish(one.cache, b"bytes", A), loop).result()
        claim(self, missed)

    monkeypatch.setattr(claims.Claims, "claim", overtaken)
    (answer,) = await other.ask(A)
    assert isinstance(answer, Found)
    Path(answer.path).unlink()
    assert await one.ask(A) == [None], "nobody has kept a claim on it"


async def test_full_cache_makes_nobody_wait(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=5) as one, opened(tmp_path, max_bytes=5) as other:
        first, second = Asker(one), Asker(other)
        await publish(one, b"bytes", key("c"))
        for cache in (one, other):
            assert (await publish(cache, b"other", key("d"))).private
        assert await first.ask(A) == await second.ask(A) == [None]


@pytest.mark.usefixtures("no_locks")
@pytest.mark.timeout(120)
async def test_without_locks_all_that_is_lost_is_bandwidth(tmp_path: Path) -> None:
    names = [key(str(number)) for number in range(20)]

    async def use(cache: Cache) -> None:
        asker = Asker(cache)
        answers = await asker.ask(*names)
        for name in (name for name, answer in zip(names, answers, strict=True) if answer is None):
            assert Path((await publish(cache, name.key.encode() * 1000, name)).path).exists()
        for _ in range(answers.count(ELSEWHERE)):
            name, found = await asker.told.get()
            if found is None:
                await publish(cache, name.key.encode() * 1000, name)

    async with opened(tmp_path) as one, opened(tmp_path) as other, opened(tmp_path) as third:
        await asyncio.gather(use(one), use(other), use(third))
        for answer, name in zip(await Asker(third).ask(*names), names, strict=True):
            assert isinstance(answer, Found)
            assert Path(answer.path).read_bytes() == name.key.encode() * 1000


async def test_index_that_takes_no_claims_makes_nobody_wait(
    two: tuple[Asker, Asker], monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncfetch.cache.index import Index

    one, other = two
    await one.ask(B)
    monkeypatch.setattr(Index, "apply", lambda *_: False)
    assert await one.ask(A) == [None]
    assert await other.ask(A) == [None]


async def test_fault_in_claiming_leaves_nobody_waiting(
    two: tuple[Asker, Asker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise OSError(5, "Input/output error")

    one, _ = two
    monkeypatch.setattr(files, "stamp_of", refuse)
    assert await one.ask(A) == [None]


async def test_claim_of_another_generation_is_no_longer_waited_for(
    tmp_path: Path, two: tuple[Asker, Asker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in which another was first, and gave way amid the claim to an empty one, in which this one is."""
    one, other = two
    await other.ask(B)  # both know that others live
    await one.ask(B)
    index, go_on, read = one.cache._index, one.cache._index._follower.go_on, one.cache._index.read
    raced: list[str] = []

    def read_and_then_another(work: Any) -> Any:
        found = read(work)
        if not raced:
            raced.append("claimed")
            other.cache._work.claims.claim([Missed([A], [None], [0], lambda settled: None, lambda *answer: None)])
        return found

    def go_on_with_an_empty_one() -> bool:
        if raced == ["claimed"]:
            raced.append("restarted")
            index.restart()
            return True
        return go_on()

    monkeypatch.setattr(index, "read", read_and_then_another)
    monkeypatch.setattr(index._follower, "go_on", go_on_with_an_empty_one)
    assert await one.ask(A) == [None]
    assert raced == ["claimed", "restarted"]


def _claim(directory: Path, name: RefKey, owner: Owner) -> None:
    import sqlite3
    from contextlib import closing

    path = directory / "v1" / "index"
    with closing(sqlite3.connect(path / f"index-{(path / 'CURRENT').read_text()}.sqlite")) as connection:
        row = (*name, "blake3", owner.directory.rpartition("/")[2], 0.0)
        connection.execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()
