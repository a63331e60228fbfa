"""A cache in memory that nobody shares: the loop does its batches itself, and the thread what may take long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.cache import Cache, Published, files, mounts
from asyncfetch.settings import CachePolicy

from .helpers import blobs, check_accounts, check_blobs, fill, key, look_up, opened, publish, settled, whole


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "tmpfs", "tmpfs")])


class Watch:
    """On which threads a file operation is made: `"loop"` or `"cache"`, in their order."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self.seen: list[str] = []
        self._operation: Callable[..., Any] = getattr(files, name)
        patch.setattr(files, name, self._watched)

    def _watched(self, *args: Any, **options: Any) -> Any:
        self.seen.append("loop" if threading.current_thread() is threading.main_thread() else "cache")
        return self._operation(*args, **options)


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
        read: asyncio.Future[bytes | Exception | None] = asyncio.get_running_loop().create_future()
        cache.read(key("a"), lambda ref: True, read.set_result)
        assert await read == b"one"
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


async def test_thread_does_while_others_use_the_cache(tmp_path: Path, renames: Watch) -> None:
    async with opened(tmp_path) as cache:
        async with opened(tmp_path):
            renames.seen.clear()
            await publish(cache, b"one", key("a"))
            assert set(renames.seen) == {"cache"}
        number = 0
        while "loop" not in renames.seen:  # as soon as the thread has let go of its last batch
            await publish(cache, b"%d" % number, key(str(number)))
            number += 1


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
