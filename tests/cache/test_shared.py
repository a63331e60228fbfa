"""A cache that a group of users shares: two of them, as far as the tests may change who they are."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .helpers import blobs

# A member of the group: opens the cache, says of each object whether it was there, readable, and publishes it if not.
MEMBER = """
import asyncio, os, shutil, sys, tempfile  # all that is needed: another user may not see where Python lies
from asyncfetch.cache import Cache, RefKey
from asyncfetch.settings import CachePolicy

directory, who, umask, *names = sys.argv[1:]
os.umask(int(umask, 8))
if os.geteuid() == 0:
    os.setgroups([60000])
    os.setgid(60000)
    os.setuid(60000 + int(who))

async def main():
    loop = asyncio.get_running_loop()
    cache = Cache.open(CachePolicy(cache_dir=directory), loop=loop)

    async def ask(function, *arguments, **options):
        answer = loop.create_future()
        function(*arguments, answer.set_result, **options)
        result = await answer
        if isinstance(result, Exception):
            raise result
        return result

    for name in names:
        key, body = RefKey("", "bucket", name), name.encode() * 1000
        (found,) = await ask(cache.look_up, [key])
        if found is None:
            sink = cache.sink()
            room = sink.get_buffer(len(body))
            room[: len(body)] = body
            sink.advance(len(body))
            path = (await ask(cache.publish, await sink.finish(), key)).path
        else:
            path = found.path
        with open(path, "rb") as file:
            assert file.read() == body
        print("missed" if found is None else "hit", end=" ")
    statistics = cache.statistics()
    assert statistics.unremembered == 0, statistics
    await cache.aclose()

asyncio.run(main())
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that belongs to a group, as an administrator makes it."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        directory = Path(made) / "cache"
        directory.mkdir()
        with contextlib.suppress(PermissionError):  # else there is one user, and all of it must work as well
            os.chown(directory, -1, 60000)
        directory.chmod(0o2775)
        yield directory


def member(directory: Path, number: int, *names: str, umask: str = "002") -> list[str]:
    command = [sys.executable, "-W", "error", "-c", MEMBER, str(directory), str(number), umask, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_what_one_user_has_fetched_another_finds(shared: Path) -> None:
    assert member(shared, 1, "a", "b") == ["missed", "missed"]
    assert member(shared, 2, "a", "b", "c") == ["hit", "hit", "missed"]
    assert member(shared, 1, "c", "d") == ["hit", "missed"]
    assert member(shared, 2, "d") == ["hit"]
    assert stat.S_IMODE(shared.stat().st_mode) == 0o2775
    group = shared.stat().st_gid
    for path in shared.rglob("*"):
        assert path.stat().st_gid == group
        assert path.stat().st_mode & 0o777 == (0o775 if path.is_dir() else 0o664), path


def test_a_blob_that_its_owner_keeps_to_himself_is_a_miss_and_is_replaced(shared: Path) -> None:
    assert member(shared, 1, "a", "b") == ["missed", "missed"]
    for path in blobs(shared).values():
        path.chmod(0o600)
    private = {path.stat().st_ino for path in blobs(shared).values()}
    if member(shared, 2, "a") == ["missed"]:  # another user than the first
        assert len(private - {path.stat().st_ino for path in blobs(shared).values()}) == 1
    assert member(shared, 2, "a") == ["hit"]
    assert member(shared, 1, "a", "b") == ["hit", "hit"]
