"""Bodies are read on the loop where the page cache has them, and on threads where it has not."""

from __future__ import annotations

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.engine.bodies import Bodies, BodyJob
from asyncfetch.engine.credits import Credits
from asyncfetch.errors import ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SIZE = 50_000


class Threads(ThreadPoolExecutor):
    asked = 0

    def submit(self, *what: Any, **rest: Any) -> Any:
        self.asked += 1
        return super().submit(*what, **rest)


class Reader:
    """Reads what lies in a directory, and tells how often it asked a thread."""

    def __init__(self, near: Path, *, in_memory: bool = False, budget: int = 100 * SIZE) -> None:
        loop = asyncio.get_running_loop()
        self.credits = Credits(budget, loop.call_soon_threadsafe)
        self.bodies = Bodies(loop, self.credits, near=str(near), in_memory=in_memory)
        self.credits.subscribe(self.bodies.pump)
        self._executor = Threads(2)
        loop.set_default_executor(self._executor)

    async def read(self, *paths: Path, size: int = SIZE) -> list[Any]:
        futures = [asyncio.get_running_loop().create_future() for _ in paths]
        for order, (path, future) in enumerate(zip(paths, futures, strict=True)):
            self.bodies.submit(BodyJob(f"file://{path}", str(path), size, order, future.set_result))
        return await asyncio.gather(*futures)

    @property
    def threads(self) -> int:
        return self._executor.asked


def made(directory: Path, count: int = 1) -> list[Path]:
    paths = [directory / f"{number:03}" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode() * (SIZE // 3))
    return paths


@pytest.fixture
def evict(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Has a file in memory no more, until it has been read: as a slow disk shows it.

    A quick one may bring it before it can say that it did not have it, and the page cache keeps it as it likes.
    """
    gone: set[int] = set()
    preadv = os.preadv

    def read(descriptor: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        inode = os.fstat(descriptor).st_ino
        if flags and inode in gone:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        gone.discard(inode)
        return preadv(descriptor, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", read)
    return lambda path: gone.add(path.stat().st_ino)


@pytest.fixture
def tells(tmp_path: Path) -> bool:
    """Whether the system reads what is in memory and nothing else, here: macOS does not, nor do all file systems."""
    (path,) = made(tmp_path)
    try:
        with path.open("rb") as file:
            return os.preadv(file.fileno(), [bytearray(9)], 0, os.RWF_NOWAIT) == 9
    except (OSError, AttributeError):
        return False


async def test_what_the_page_cache_has_needs_no_thread(tmp_path: Path, tells: bool) -> None:
    reader, paths = Reader(tmp_path), made(tmp_path, 30)
    assert await reader.read(*paths) == [path.read_bytes() for path in paths]
    assert (reader.threads == 0) is tells


async def test_what_it_lacks_is_read_on_a_thread_with_what_comes_next(
    tmp_path: Path, tells: bool, evict: Callable[[Path], None]
) -> None:
    reader, paths = Reader(tmp_path), made(tmp_path, 80)
    evict(paths[10])
    assert await reader.read(*paths) == [path.read_bytes() for path in paths]
    assert reader.threads > 0
    again = Reader(tmp_path)
    await again.read(*paths)
    assert (again.threads == 0) is tells


@pytest.mark.parametrize("size", [SIZE, 2 << 20])
async def test_what_is_large_or_lies_elsewhere_is_read_on_a_thread(tmp_path: Path, size: int) -> None:
    near = tmp_path / "near"
    near.mkdir()
    (path,) = made(tmp_path if size == SIZE else near)
    reader = Reader(near)
    assert await reader.read(path, size=size) == [path.read_bytes()]
    assert reader.threads > 0


async def test_a_file_system_in_memory_is_read_on_the_loop_whatever_it_says(
    tmp_path: Path, evict: Callable[[Path], None]
) -> None:
    reader, paths = Reader(tmp_path, in_memory=True), made(tmp_path, 3)
    evict(paths[0])
    assert await reader.read(*paths) == [path.read_bytes() for path in paths]
    assert reader.threads == 0


async def test_what_has_grown_gone_or_shrunk(tmp_path: Path) -> None:
    reader, (path,) = Reader(tmp_path), made(tmp_path)
    assert await reader.read(path, size=10) == [path.read_bytes()]
    assert await reader.read(path, size=SIZE * 2) == [path.read_bytes()]
    path.unlink()
    (gone,) = await reader.read(path)
    assert isinstance(gone, ObjectNotFound)


async def test_the_budget_bounds_what_is_read(tmp_path: Path) -> None:
    reader, paths = Reader(tmp_path, in_memory=True, budget=4 * SIZE), made(tmp_path, 12)
    came: list[Any] = []
    for order, path in enumerate(paths):
        reader.bodies.submit(BodyJob(f"file://{path}", str(path), SIZE, order, came.append))
    seen = 0
    while seen < len(paths):
        await asyncio.sleep(0)
        assert len(came) <= 4
        seen += len(came)
        came.clear()
    assert reader.threads == 0


async def test_a_body_that_is_in_memory_is_read_at_once_but_not_many_in_a_turn(
    tmp_path: Path, tells: bool, evict: Callable[[Path], None]
) -> None:
    reader, paths = Reader(tmp_path), made(tmp_path, 30)
    came: list[Any] = []

    def now(path: Path, size: int = SIZE) -> bool:
        return reader.bodies.read_now(BodyJob(f"file://{path}", str(path), size, 0, came.append))

    assert now(paths[0]) is tells
    if tells:
        assert came == [paths[0].read_bytes()]
        count = next(number for number in range(1, 30) if not now(paths[number]))
        assert count < 22, "1 MiB"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        came.clear()
        assert now(paths[0], size=10), "it has grown, and is read later"
        assert came == []
        while not came:
            await asyncio.sleep(0)
        assert came == [paths[0].read_bytes()]
    evict(paths[-1])
    assert not now(paths[-1])
    assert not reader.bodies.at_hand(str(paths[0]), SIZE)
