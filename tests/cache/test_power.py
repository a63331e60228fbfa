"""Power loss: what was not synced may be anything afterwards, is hashed before it is believed, and only then."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch import bell
from asyncfetch.cache import SMALL, Cache, files, mounts, syncer
from asyncfetch.cache.epochs import Closed
from asyncfetch.cache.index import Index
from asyncfetch.settings import CachePolicy
from tests.interrupts import interrupted
from tests.soak import examples

from .helpers import HASHES, blobs, check_blobs, key, look_up, opened, opened_by, publish, settled, whole

SIZES = {"empty": 0, "small": 5_000, "large": SMALL + 1}
BODIES = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeroed": lambda data: bytes(len(data)),
    "truncated": lambda data: data[: len(data) // 2],
    "gone": lambda data: b"",
    "whole": lambda data: data,
}


@contextmanager
def boot(name: str) -> Iterator[None]:
    """Caches that are opened meanwhile take this for the machine's boot."""
    with patch("asyncfetch.cache.opening.boot_id", lambda: name):
        yield


@contextmanager
def synced_at_once() -> Iterator[asyncio.Event]:
    """Caches sync what they store without delay; the event is set whenever an epoch was proven."""
    proven, loop, prove = asyncio.Event(), asyncio.get_running_loop(), Index.prove

    def proving(*arguments: object) -> None:
        prove(*arguments)  # type: ignore[arg-type]
        loop.call_soon_threadsafe(proven.set)

    with patch.object(syncer, "DELAY_SECONDS", 0.0), patch.object(Index, "prove", proving):
        yield proven


def epochs(directory: Path) -> list[tuple[str, int]]:
    """The boot of each epoch, and whether it is proven."""
    current = (directory / "v1" / "index" / "CURRENT").read_text()
    with closing(sqlite3.connect(directory / "v1" / "index" / f"index-{current}.sqlite")) as connection:
        return connection.execute("SELECT boot, proven FROM epochs ORDER BY epoch").fetchall()


async def fill_cache(directory: Path) -> None:
    async with opened(directory) as cache:
        for name, body in BODIES.items():
            await publish(cache, body, key(name))


async def doubts(cache: Cache) -> list[str | None]:
    return [found and found.doubt for found in await look_up(cache, *map(key, BODIES))]


def damage(directory: Path, how: str) -> None:
    for path in blobs(directory).values():
        path.write_bytes(DAMAGES[how](path.read_bytes()))


async def sync_now(cache: Cache, proven: asyncio.Event) -> None:
    """Has one whole cycle of syncing done without its delays."""
    with patch.object(syncer, "DELAY_SECONDS", 0.0):
        assert cache._syncer is not None
        cache._syncer._begin()
        proven.clear()
        await proven.wait()


@pytest.mark.parametrize("how", ["zeroed", "truncated", "gone"])
@pytest.mark.parametrize("verify", ["size", "first"])
async def test_what_was_not_synced_is_hashed_after_another_boot(tmp_path: Path, how: str, verify: str) -> None:
    with boot("one"):
        await fill_cache(tmp_path)
    damage(tmp_path, how)
    policy = CachePolicy(cache_dir=tmp_path, verify=verify)  # type: ignore[arg-type]
    with boot("two"):
        async with opened_by(policy) as cache:
            assert [await whole(cache, key(name)) for name in BODIES] == [b"", None, None]
            assert cache.statistics().damaged == 2
            for name, body in BODIES.items():
                await publish(cache, body, key(name))
            assert [await whole(cache, key(name)) for name in BODIES] == list(BODIES.values())
    check_blobs(tmp_path)


async def test_good_ones_are_hashed_once_a_boot_and_others_never(tmp_path: Path) -> None:
    with boot("one"):
        await fill_cache(tmp_path)
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == [None] * 3, "nothing was lost under this boot"
    with boot("two"):
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == ["unproven"] * 3
            assert [await whole(cache, key(name)) for name in BODIES] == list(BODIES.values())
            assert await doubts(cache) == [None] * 3
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == [None] * 3, "other processes of this boot know it too"
    with boot("three"):
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == ["unproven"] * 3, "read from memory is not synced"


async def test_a_small_object_that_is_doubted_is_not_read_past_the_check(tmp_path: Path) -> None:
    with boot("one"):
        await fill_cache(tmp_path)
    damage(tmp_path, "zeroed")
    with boot("two"):
        async with opened(tmp_path) as cache:
            assert await cache.read(key("small"), lambda _: True) is None
            assert await whole(cache, key("small")) is None


async def test_what_the_background_has_synced_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")])
    synced: set[str] = set()
    sync = files.sync

    def seen(path: str) -> None:
        sync(path)
        synced.add(path)

    monkeypatch.setattr(files, "sync", seen)
    with boot("one"), synced_at_once() as proven:
        async with opened(tmp_path) as cache:
            for name, body in BODIES.items():
                await publish(cache, body, key(name))
            await proven.wait()
            while not synced >= {str(path) for path in blobs(tmp_path).values()}:
                proven.clear()  # the first cycle began before the last was stored
                await proven.wait()
            assert epochs(tmp_path)[-1] == ("one", 0), "what comes next is not proven by that"
            assert epochs(tmp_path)[0] == ("one", 1)
    with boot("two"):
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == [None] * 3
            await publish(cache, b"new", key("new"))
    assert epochs(tmp_path)[-1] == ("two", 0)


async def test_on_a_file_system_in_memory_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "tmpfs", "tmpfs")])
    monkeypatch.setattr(files, "sync", lambda path: pytest.fail(f"{path} was synced"))
    with synced_at_once() as proven:
        async with opened(tmp_path) as cache:
            for name, body in BODIES.items():
                await publish(cache, body, key(name))
            await settled(cache)
        assert not proven.is_set()


async def test_an_interrupt_at_any_moment_of_closing_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, over, sync = 0, False, files.sync
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")])
    with patch.object(syncer, "DELAY_SECONDS", 0.0), patch.object(syncer, "_REST", 1e9):
        while not over:
            at += 1
            begun = asyncio.Event()
            telling = partial(asyncio.get_running_loop().call_soon_threadsafe, begun.set)
            async with opened(tmp_path / str(at)) as cache:  # it is closed once more as it is left
                with patch.object(files, "sync", lambda path, told=telling: (sync(path), told())):
                    await publish(cache, b"small", key("a"))
                    await begun.wait()
                assert cache._syncer is not None
                over = not interrupted(cache._syncer.close, at, syncer.__file__, bell.__file__, threading.__file__)
    assert at > 3


async def test_closing_does_not_wait_for_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")])
    begun, loop, sync = asyncio.Event(), asyncio.get_running_loop(), files.sync

    def seen(path: str) -> None:
        sync(path)
        loop.call_soon_threadsafe(begun.set)

    monkeypatch.setattr(files, "sync", seen)
    monkeypatch.setattr(syncer, "_REST", 1e6)
    monkeypatch.setattr(syncer, "DELAY_SECONDS", 1e6)  # a cycle of its own could end before anything is stored
    async with opened(tmp_path) as cache:
        await publish(cache, b"x" * 1000, key("a"))
        monkeypatch.setattr(syncer, "DELAY_SECONDS", 0.0)
        assert cache._syncer is not None
        cache._syncer._begin()
        await begun.wait()
    assert epochs(tmp_path)[0][1] == 0


async def test_what_a_disk_cannot_sync_is_never_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")])
    sync, refused = files.sync, set[str]()

    def refuse_once(path: str) -> None:
        if path.endswith(unlucky) and path not in refused:
            refused.add(path)  # as the kernel does: the next sync is a success again
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(path)

    monkeypatch.setattr(files, "sync", refuse_once)
    unlucky = HASHES["blake3"](BODIES["small"])
    with boot("one"), synced_at_once() as proven, patch.object(syncer, "DELAY_SECONDS", 1e6):
        async with opened(tmp_path) as cache:
            for name, body in BODIES.items():
                await publish(cache, body, key(name))
            for _ in range(2):
                await sync_now(cache, proven)
    assert len(refused) == 1
    assert "could not be synced" in caplog.text
    with boot("two"):
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == [None, "unproven", None]


async def test_an_index_that_is_lost_meanwhile_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")])
    with boot("one"), synced_at_once() as proven, patch.object(syncer, "DELAY_SECONDS", 1e6):
        async with opened(tmp_path) as cache:
            await publish(cache, BODIES["small"], key("small"))
            unsynced = Index.unsynced

            def lose(index: Index, closed: Closed, byte: int) -> list[str]:
                if byte == 100:
                    index.restart()
                    index.close_epoch()  # which may get the number of one that is being synced
                    index.close_epoch()
                return unsynced(index, closed, byte)

            monkeypatch.setattr(Index, "unsynced", lose)
            await sync_now(cache, proven)
    assert [was for _, was in epochs(tmp_path)] == [0, 0, 0]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("lost", ["power", "index"])
async def test_bytes_that_lie_there_unproven_are_looked_at_before_they_are_taken(
    tmp_path: Path, how: str, lost: str
) -> None:
    with boot("one"):
        await fill_cache(tmp_path)
    damage(tmp_path, how)
    if lost == "index":
        for path in (tmp_path / "v1" / "index").iterdir():
            path.unlink()
    before = {path: path.stat().st_ino for path in blobs(tmp_path).values()}
    with boot("two" if lost == "power" else "one"):
        async with opened(tmp_path) as cache:
            published = {name: await publish(cache, body, key(name)) for name, body in BODIES.items()}
            check_blobs(tmp_path)
            stored = [published[name].stored for name in ("empty", "small")]
            assert stored == [False, how != "whole"]
            if how == "whole":
                small = Path(published["small"].path)
                assert small.stat().st_ino == before[small], "it was not written a second time"
            assert [await whole(cache, key(name)) for name in BODIES] == list(BODIES.values())
        async with opened(tmp_path) as cache:
            assert await doubts(cache) == [None] * 3


# Publishes an object and says so, as the machine's own boot, until it is killed.
VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.cache.helpers import key, opened, publish
from tests.cache.test_power import BODIES

async def main():
    async with opened(Path(sys.argv[1])) as cache:
        for name, body in BODIES.items():
            await publish(cache, body, key(name))
        print("stored", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_process_and_its_machine_die_together(tmp_path: Path, how: str) -> None:
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert await asyncio.to_thread(victim.stdout.readline) == b"stored\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    damage(tmp_path, how)
    with boot("the next"):
        async with opened(tmp_path) as cache:
            for name, body in BODIES.items():
                assert await whole(cache, key(name)) in ((body,) if how == "whole" else (None, b""))


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["publish", "read", "sync", "reboot", "reopen", "lose index"]), st.integers(0, 5)),
    max_size=25,
)


@settings(max_examples=examples(30), deadline=None)
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_whatever_the_power_takes_no_wrong_byte_is_served(steps: list[Step], seed: int) -> None:
    """The cache against a dictionary: at a reboot, whatever no sync has proven may become anything."""
    with (
        tempfile.TemporaryDirectory() as made,
        patch.object(mounts, "mounts", lambda: [mounts.Mount("/", "ext4", "/dev/vda")]),
    ):
        asyncio.run(_play(Path(made), steps, random.Random(seed)))


async def _play(directory: Path, steps: list[Step], rng: random.Random) -> None:
    bodies = [rng.randbytes(rng.choice((0, 1, 3_000))) for _ in range(6)]
    durable: set[str] = set()  # blobs that a sync has reached
    boots = 0
    sync = files.sync

    def synced(path: str) -> None:
        sync(path)
        durable.add(path)

    with patch.object(files, "sync", synced), synced_at_once() as proven, patch.object(syncer, "DELAY_SECONDS", 1e6):
        at = 0
        while at < len(steps) or at == 0:
            with boot(str(boots)):
                async with opened(directory) as cache:
                    while at < len(steps):
                        what, number = steps[at]
                        at += 1
                        if what == "publish":
                            published = await publish(cache, bodies[number], key(str(number)))
                            if published.stored:
                                durable.discard(published.path)
                            assert Path(published.path).read_bytes() == bodies[number]
                        elif what == "read":
                            assert await whole(cache, key(str(number))) in (None, bodies[number])
                        elif what == "sync":
                            await sync_now(cache, proven)
                        else:
                            break
                    else:
                        return
            if what == "reboot":
                boots += 1
                for path in blobs(directory).values():
                    if str(path) not in durable:
                        path.write_bytes(DAMAGES[rng.choice(list(DAMAGES))](path.read_bytes()))
            elif what == "lose index":
                for path in (directory / "v1" / "index").iterdir():
                    path.unlink()
