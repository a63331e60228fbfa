"""A cache in memory that nobody shares: the loop does its batches itself, and the thread what may take long."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.cache import Cache, Elsewhere, Found, Published, eviction, files, mounts, recount, thread, work
from asyncfetch.cache.claims import Claims, Missed
from asyncfetch.cache.commands import LookUp, Write
from asyncfetch.cache.opening import open_parts
from asyncfetch.cache.turns import READS
from asyncfetch.errors import FetcherClosed
from asyncfetch.settings import CachePolicy
from tests.interrupts import interrupted

from .helpers import (
    blobs,
    check_accounts,
    check_blobs,
    fill,
    held,
    key,
    leftovers,
    look_up,
    opened,
    publish,
    settled,
    whole,
)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "tmpfs", "tmpfs")])


class Watch:
    """On which threads a file operation is made: `"loop"` or `"cache"`, in their order."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, *, within: str = "") -> None:
        self._within = within  # the path, which comes first, has this in it
        self.seen: list[str] = []
        self._operation: Callable[..., Any] = getattr(files, name)
        patch.setattr(files, name, self._watched)

    def _watched(self, *args: Any, **options: Any) -> Any:
        if self._within in str(args[0]):
            self.seen.append("loop" if threading.current_thread() is threading.main_thread() else "cache")
        return self._operation(*args, **options)


async def idle(cache: Cache) -> None:
    """Returns when the thread has nothing to do, so that the loop does what comes next itself."""
    await settled(cache)
    while not cache._thread.is_free():
        await asyncio.sleep(0)


@pytest.fixture
def renames(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch, "rename")


async def test_loop_publishes_and_finds(tmp_path: Path, renames: Watch) -> None:
    async with opened(tmp_path) as cache:
        renames.seen.clear()
        published = await publish(cache, b"one", key("a"))
        assert set(renames.seen) == {"loop"}
        assert Path(published.path).read_bytes() == b"one"
        assert await whole(cache, key("a")) == b"one"
        assert await cache.read(key("a"), lambda ref: True) == b"one"
        cache.forget(key("a"))
        assert await look_up(cache, key("a")) == [None]
        statistics = cache.statistics()
        assert (statistics.published, statistics.stored, statistics.waiting) == (1, 1, 0)
        await settled(cache)
    check_blobs(tmp_path)
    check_accounts(tmp_path)


async def test_on_a_disk_the_thread_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: Watch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")])
    async with opened(tmp_path) as cache:
        renames.seen.clear()
        await publish(cache, b"one", key("a"))
    assert set(renames.seen) == {"cache"}


async def test_thread_does_for_a_while_what_others_would_hold_up(
    tmp_path: Path, renames: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache, opened(tmp_path):
        monkeypatch.setattr(work, "HINDERED_SECONDS", 1e9)
        with held(tmp_path):
            published = asyncio.ensure_future(publish(cache, b"one", key("a")))
            while not math.isfinite(cache._work._hindered_at):
                await asyncio.sleep(0)
        await published
        await idle(cache)
        renames.seen.clear()
        await publish(cache, b"two", key("b"))
        assert set(renames.seen) == {"cache"}
        monkeypatch.setattr(work, "HINDERED_SECONDS", 0.0)  # it was long ago
        await idle(cache)
        renames.seen.clear()
        await publish(cache, b"three", key("c"))
        assert set(renames.seen) == {"loop"}


async def test_no_answer_comes_before_the_method_returns(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        bodies = [await fill(cache.sink(), b"%d" % number) for number in range(200)]
        answers: list[Published | Exception] = []
        last = asyncio.Event()

        def answered(answer: Published | Exception) -> None:
            answers.append(answer)
            if len(answers) == len(bodies):
                last.set()

        for number, body in enumerate(bodies):
            cache.publish(body, key(str(number)), answered)
        assert not answers
        await last.wait()
        assert all(isinstance(answer, Published) for answer in answers)
    assert len(blobs(tmp_path)) == 200


async def test_what_is_asked_for_comes_in_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"))
        body = await fill(cache.sink(), b"two")
        published: asyncio.Future[Published | Exception] = asyncio.get_running_loop().create_future()
        cache.publish(body, key("b"), published.set_result)
        removed = await cache.clear()
        assert (removed.objects, removed.blobs) == (2, 2)
        assert isinstance(await published, Published)
        assert await look_up(cache, key("a"), key("b")) == [None, None]
        await publish(cache, b"three", key("c"))
        assert list(blobs(tmp_path)) != []


async def test_loop_evicts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: Watch) -> None:
    size = 10_000
    async with opened(tmp_path) as cache:
        for number in range(10):
            await publish(cache, b"%04d" % number * (size // 4), key(str(number)))
    removals = Watch(monkeypatch, "remove")
    async with opened(tmp_path, max_bytes=10 * size) as cache:
        removals.seen.clear()
        renames.seen.clear()
        for number in range(10, 20):
            await publish(cache, b"%04d" % number * (size // 4), key(str(number)))
        assert cache.statistics().evicted >= 9
        assert removals.seen
        assert set(removals.seen) == {"cache"}


async def test_interrupted_batch_is_done_by_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: Watch
) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"zero", key("0"))  # the shards and the index are there
        bodies = [await fill(cache.sink(), b"body %d" % number) for number in range(3)]
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in bodies]
        for number, (body, answer) in enumerate(zip(bodies, answers, strict=True)):
            cache.publish(body, key(f"b{number}"), answer.set_result)
        cache._hand_in()
        rename, count = files.rename, 0

        def interrupted(source: str, target: str) -> None:
            nonlocal count
            count += 1
            if count == 2:
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr(files, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache._thread._serve_here()
        published = [await answer for answer in answers]
        assert [Path(one.path).read_bytes() for one in published] == [b"body 0", b"body 1", b"body 2"]
        assert [await whole(cache, key(f"b{number}")) for number in range(3)] == [b"body 0", b"body 1", b"body 2"]
        assert cache.statistics().waiting == 0
        await settled(cache)
    check_blobs(tmp_path)
    check_accounts(tmp_path)


async def test_interruption_at_any_moment_of_a_turn_has_nothing_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is answered twice gives its memory back twice, and then two bodies have the same."""
    monkeypatch.setattr(thread, "LOST_SECONDS", 0.0)
    here = str(Path(thread.__file__).parent)
    told: Counter[str] = Counter()
    at, over = 0, False
    while not over:
        at += 1
        async with opened(tmp_path) as cache:
            for number in range(2):
                name = f"{at}/{number}"
                body = await fill(cache.sink(), name.encode())
                cache.publish(body, key(name), lambda answer, name=name: told.update([name]))  # type: ignore[misc]
            cache.look_up([key("0")], lambda answer, at=at: told.update([f"{at}/look"]))  # type: ignore[misc]
            over = not interrupted(cache._thread._serve_here, at, here)
            await look_up(cache, key("0"))
        buffers = [buffer for idle in cache._pool._classes.values() for buffer in idle]
        assert len(buffers) == len(set(map(id, buffers)))
    assert at > 100
    assert set(told.values()) == {1}
    check_blobs(tmp_path)


@pytest.mark.parametrize("system", ["tmpfs", "ext4"])
async def test_interruption_at_any_moment_of_the_handing_in_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", system, system)])
    monkeypatch.setattr(thread, "LOST_SECONDS", 0.0)
    here = str(Path(thread.__file__).parent)
    told: Counter[int] = Counter()
    at, over = 0, False
    async with opened(tmp_path) as cache:
        while not over:
            at += 1
            cache._gathered.append(LookUp([key("0")], lambda answer, at=at: told.update([at])))  # type: ignore[misc]
            over = not interrupted(cache._hand_in, at, here)
            for _ in range(2):
                await look_up(cache, key("0"))
    assert at > 4
    assert told == Counter(range(1, at + 1))


@pytest.mark.parametrize("way", ["look_up", "read"])
async def test_evictions_beside_look_ups_that_the_loop_does_are_the_loops_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Two threads at it would hand the interpreter to and fro."""
    slices: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
    loop, due = asyncio.get_running_loop(), [False]

    def shrink(room: eviction.Room, *, beside: bool) -> None:
        name = threading.current_thread().name
        loop.call_soon_threadsafe(slices.put_nowait, (name, beside))
        due[0] = name == "MainThread"  # the thread finds nothing more to do

    async def ask() -> None:
        if way == "look_up":
            await look_up(cache, key("a"))
        else:
            await cache.read(key("a"), lambda ref: True)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(work, "HERE_SECONDS", 1e9)
        await idle(cache)
        await ask()
        await idle(cache)
        monkeypatch.setattr(eviction.Room, "shrink", shrink)
        monkeypatch.setattr(eviction.Room, "pause", lambda room: 0.0 if due[0] else None)
        due[0] = True
        await ask()
        assert await slices.get() == ("MainThread", True)
        monkeypatch.setattr(work, "HERE_SECONDS", 0.0)  # it was long ago
        cache._thread._mailbox.put(())
        assert await slices.get() == ("asyncfetch-cache", False)


async def test_eviction_on_the_loop_that_is_interrupted_at_any_moment_leaves_nothing_amiss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, job_started=1.0) as cache:
        await asyncio.gather(*(publish(cache, b"%04d" % number * 250, key(str(number))) for number in range(500)))
    monkeypatch.setattr(eviction, "SLICE", 2)
    monkeypatch.setattr(work, "HERE_SECONDS", 1e9)  # the thread leaves it to the loop
    at, over, package = 0, False, str(Path(thread.__file__).parent)
    async with opened(tmp_path, max_bytes=10_000, job_started=2e12) as cache:
        await idle(cache)
        await look_up(cache, key("none"))
        while not over:
            at += 1
            await idle(cache)
            cache._work.room._slice_at = 0.0
            over = not interrupted(cache._thread._look_after, at, package)
        assert cache.statistics().evicted > 1
        assert await look_up(cache, key("499")) != [None]
    assert 10 < at < 240
    assert not leftovers(tmp_path)
    check_blobs(tmp_path)
    check_accounts(tmp_path)


async def test_turn_that_was_interrupted_as_it_began_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache:
        published: asyncio.Future[Published | Exception] = asyncio.get_running_loop().create_future()
        body = await fill(cache.sink(), b"one")
        monkeypatch.setattr(thread, "LOST_SECONDS", 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(cache._thread, "_serve_here", lambda: None)  # the turn is over before it did anything
            cache.publish(body, key("a"), published.set_result)
            cache._hand_in()
            await asyncio.sleep(0)
        assert not published.done()
        assert await look_up(cache, key("b")) == [None]
        assert isinstance(await published, Published)


async def test_answers_that_an_interruption_held_up_come_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def interrupted() -> None:
            raise KeyboardInterrupt

        cache.look_up([key("a")], answer.set_result)
        with monkeypatch.context() as patch:
            patch.setattr(cache._thread, "_deliver", interrupted)
            with pytest.raises(KeyboardInterrupt):
                cache._thread._serve_here()
        assert not answer.done()
        assert await look_up(cache, key("b")) == [None]
        assert await answer == [None]
        assert cache.statistics().waiting == 0


async def test_one_turn_of_the_loop_does_not_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as cache:
        do_here, turns = cache._work.do_here, list[tuple[int, int]]()

        def watched(commands: Any) -> Any:
            bodies = [command.body.size for command in commands if isinstance(command, Write)]
            keys = [len(command.keys) for command in commands if isinstance(command, LookUp)]
            turns.append((sum(bodies), sum(keys)))
            return do_here(commands)

        monkeypatch.setattr(cache._work, "do_here", watched)
        for number in range(6):
            body = await fill(cache.sink(), bytes([number]) * 900_000)
            cache.publish(body, key(str(number)), lambda answer: None)
        answers, before = [loop.create_future() for _ in range(6)], len(turns)
        for number, answer in enumerate(answers):
            cache.look_up([key(f"{number}/{name}") for name in range(60)], answer.set_result)
        await asyncio.sleep(0)
        assert len(turns) == before + 1
        await asyncio.gather(*answers)
        await settled(cache)
        assert sum(size for size, _ in turns) == 6 * 900_000
        assert max(size for size, _ in turns) <= 2 << 20
        assert max(keys for _, keys in turns) <= 128
        turns.clear()
        assert await look_up(cache, *(key(str(number)) for number in range(1000, 2000))) == [None] * 1000
        assert turns == []


async def test_others_that_come_amid_a_batch_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as cache:
        is_quick, others = cache._work.is_quick, list[Claims]()

        def quick_and_then_another(commands: Any) -> bool:
            quick = is_quick(commands)
            if quick and not others:
                parts = open_parts(CachePolicy(cache_dir=tmp_path), None)
                closing.callback(parts.at_end)
                closing.callback(parts.owner.close)
                closing.callback(parts.index.close)
                others.append(Claims(parts.index, parts.owner, "blake3", lambda keys: [None] * len(keys)))
                others[0].claim(
                    [Missed([key("a")], [None], [0], lambda settled: None, lambda place, found, elsewhere: None)]
                )
            return quick

        with contextlib.ExitStack() as closing:
            monkeypatch.setattr(cache._work, "is_quick", quick_and_then_another)
            answer: asyncio.Future[Any] = loop.create_future()
            later: asyncio.Future[Found | None] = loop.create_future()
            cache.look_up([key("a")], answer.set_result, later=lambda settled: later.set_result(settled[key("a")]))
            assert await answer == [Elsewhere.ELSEWHERE]
            others[0].leave()
            async with asyncio.timeout(20):
                assert await later is None


async def test_beside_others_the_loop_does_all_until_they_hold_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache:
        body = await publish(cache, b"zero", key("0"))
        here, do_here = list[bool](), cache._work.do_here

        def watched(commands: Any) -> Any:
            batch = do_here(commands)
            here.append(batch is not None and batch.finished)
            return batch

        monkeypatch.setattr(cache._work, "do_here", watched)
        with contextlib.ExitStack() as closing:
            parts = open_parts(CachePolicy(cache_dir=tmp_path), None)
            for close in (parts.at_end, parts.owner.close, parts.index.close):
                closing.callback(close)
            await idle(cache)
            (found,) = await look_up(cache, key("0"))
            assert isinstance(found, Found)
            assert found.path == body.path
            assert here == [True]
            await publish(cache, b"one", key("1"))
            await idle(cache)
            assert here == [True, True]
            with held(tmp_path):
                monkeypatch.setattr(work, "HINDERED_SECONDS", 1e9)
                answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                cache.look_up([key("2")], answer.set_result, later=lambda settled: None)  # is claimed in the index
                while len(here) < 3:
                    await asyncio.sleep(0)
                assert here == [True, True, False]
            assert await answer == [None]
            await idle(cache)
            assert await look_up(cache, key("3")) == [None]
            assert len(here) == 3
            await idle(cache)
            monkeypatch.setattr(work, "HINDERED_SECONDS", 0.0)  # it was long ago
            assert await look_up(cache, key("4")) == [None]
            assert here == [True, True, False, True]


async def test_thread_that_is_about_to_sleep_is_woken_for_a_claim_that_the_loop_begins_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen that nothing is due, and has not gone to sleep, as the loop meets what another process brings."""
    monkeypatch.setattr(recount, "DELAY_SECONDS", 1e9)  # it would wake it
    seen, go_on = threading.Event(), threading.Event()
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        told: asyncio.Queue[Found | None] = asyncio.Queue()
        pause = other._work.pause

        def look() -> float | None:
            due = pause()
            if due is None and threading.current_thread() is not threading.main_thread():
                seen.set()
                assert go_on.wait(20)
            return due

        async def ask(cache: Cache, name: str) -> object:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            cache.look_up([key(name)], answer.set_result, later=lambda settled: told.put_nowait(settled[key(name)]))
            return await answer

        try:
            assert await ask(one, "a") == await ask(one, "b") == [None]
            assert await ask(other, "a") == [Elsewhere.ELSEWHERE]  # from now on its thread knows that something is due
            monkeypatch.setattr(other._work, "pause", look)
            await publish(one, b"bytes", key("a"))
            assert await told.get() is not None
            await asyncio.to_thread(seen.wait, 20)  # until it looked again, behind that answer
            assert other._thread.is_free()
            assert await ask(other, "b") == [Elsewhere.ELSEWHERE]
            go_on.set()
            await publish(one, b"bytes", key("b"))
            async with asyncio.timeout(10):
                assert await told.get() is not None
        finally:
            go_on.set()


async def test_index_that_another_holds_keeps_the_thread_waiting_and_not_the_loop(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"zero", key("0"))
        await settled(cache)
        with held(tmp_path):
            published: asyncio.Future[Published | Exception] = asyncio.get_running_loop().create_future()
            body = await fill(cache.sink(), b"one")
            cache.publish(body, key("a"), published.set_result)
            while not blobs(tmp_path).keys() >= {body.digest}:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not published.done()
        assert isinstance(await published, Published)
        assert await whole(cache, key("a")) == b"one"
        statistics = cache.statistics()
        assert (statistics.unremembered, statistics.published, statistics.waiting) == (0, 2, 0)
        await settled(cache)
    check_accounts(tmp_path)


async def test_loop_makes_no_room_where_others_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, free = 10_000, 1 << 40
    monkeypatch.setattr(files, "free_bytes", lambda path: free)
    async with opened(tmp_path, min_free=1 << 30) as cache:
        for number in range(10):
            await publish(cache, b"%04d" % number * (size // 4), key(str(number)))
    removals = Watch(monkeypatch, "remove")
    async with opened(tmp_path, min_free=1 << 30) as cache:
        await publish(cache, b"more", key("more"))
        monkeypatch.setattr(eviction, "LOOK_SECONDS", 0.0)
        removals.seen.clear()
        free = (1 << 30) + 10
        for number in range(3):
            await publish(cache, b"%04d" % (number + 20) * (size // 4), key(str(number + 20)))
        assert cache.statistics().evicted >= 3
        assert set(removals.seen) == {"cache"}


async def test_loop_makes_no_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache:
        for number in range(10):
            await publish(cache, b"%04d" % number * 1000, key(str(number)))
    async with opened(tmp_path) as cache:
        await publish(cache, b"zero", key("zero"))
        removals, write = Watch(monkeypatch, "remove", within="/blobs/"), files.write

        def full(descriptor: int, data: memoryview) -> None:
            if not removals.seen:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(descriptor, data)

        monkeypatch.setattr(files, "write", full)
        published = await publish(cache, b"one", key("one"))
        assert not published.private
        assert await whole(cache, key("one")) == b"one"
        assert removals.seen
        assert set(removals.seen) == {"cache"}
        statistics = cache.statistics()
        assert (statistics.failed, statistics.waiting) == (0, 0)


async def test_closed_loop_ends_the_thread(tmp_path: Path) -> None:
    done = threading.Event()

    def other_loop() -> None:
        loop = asyncio.new_event_loop()
        cache = loop.run_until_complete(_open(tmp_path, loop))
        loop.close()
        cache.look_up([key("a")], lambda answer: None)
        cache._thread._thread.join()
        done.set()

    await asyncio.to_thread(other_loop)
    assert done.is_set()


async def _open(directory: Path, loop: asyncio.AbstractEventLoop) -> Cache:
    return await asyncio.to_thread(Cache.open, CachePolicy(cache_dir=directory), loop=loop)


async def test_object_is_read_without_waiting_for_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"))
        reads = Watch(monkeypatch, "read_whole")
        reading = cache.read(key("a"), lambda ref: True)
        with pytest.raises(StopIteration) as ended:
            reading.send(None)
        assert ended.value.value == b"one"
        assert reads.seen == ["loop"]


async def test_readers_leave_the_loop_to_others(tmp_path: Path) -> None:
    turns, over = 0, False
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not over:
            loop.call_soon(turn)

    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"))
        turn()
        for _ in range(READS * 10):
            assert await cache.read(key("a"), lambda ref: True) == b"one"
        over = True
    assert turns >= 10


async def test_what_was_just_said_of_an_object_comes_before_a_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"), etag="e")
        (found,) = await look_up(cache, key("a"))
        assert found is not None
        cache.validate(key("a"), found.ref, 9.0)
        assert await cache.read(key("a"), lambda ref: ref.validated != 9.0) is None
        assert await cache.read(key("a"), lambda ref: ref.validated == 9.0) == b"one"
        cache.forget(key("a"))
        assert await cache.read(key("a"), lambda ref: True) is None
        await publish(cache, b"two", key("a"))
        assert await cache.read(key("a"), lambda ref: True) == b"two"


async def test_use_that_the_index_cannot_take_now_is_told_it_by_the_thread(tmp_path: Path) -> None:
    async with opened(tmp_path, job_started=1e6) as cache:
        await publish(cache, b"one", key("a"))
        with held(tmp_path) as other:
            other.execute("UPDATE blobs SET used = 1")
            other.execute("COMMIT")
            other.execute("BEGIN IMMEDIATE")
            assert await cache.read(key("a"), lambda ref: True) == b"one"
            other.execute("COMMIT")
            await settled(cache)
            assert other.execute("SELECT used >= 1e6 FROM blobs").fetchall() == [(1,)]


async def test_with_others_too_the_loop_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache, opened(tmp_path):
        await publish(cache, b"one", key("a"))
        await idle(cache)
        reads = Watch(monkeypatch, "read_whole")
        assert await cache.read(key("a"), lambda ref: True) == b"one"
        assert reads.seen == ["loop"]


async def test_read_that_is_cancelled_amid_its_wait_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"))
        waiting = asyncio.ensure_future(cache.read(key("a"), lambda ref: True))
        for _ in range(READS):
            await cache.read(key("a"), lambda ref: True)
        reads = Watch(monkeypatch, "read_whole")
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert reads.seen == []
        assert await cache.read(key("a"), lambda ref: True) == b"one"


async def test_cache_that_closes_while_a_read_waits_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"))
        for _ in range(READS):
            await cache.read(key("a"), lambda ref: True)
        waiting = cache.read(key("a"), lambda ref: True)
        waiting.send(None)
    with pytest.raises(FetcherClosed):
        waiting.send(None)


async def test_while_the_index_is_waited_for_the_loop_does_not_come_for_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"one", key("a"))
        await settled(cache)
    (database,) = tmp_path.glob("v1/index/*.sqlite")
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("UPDATE blobs SET used = 1")  # long ago, so that the next use is noted
        async with opened(tmp_path) as cache:
            other.execute("BEGIN IMMEDIATE")  # a backup, say, which counts as no company
            assert await cache.read(key("a"), lambda ref: True) == b"one"
            assert not cache._thread.is_free()
            other.execute("COMMIT")
            await settled(cache)
            while not cache._thread.is_free():  # it has answered, and has its turn for a moment longer
                await asyncio.sleep(0)
            assert cache.statistics().waiting == 0
