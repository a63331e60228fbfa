"""Ephemeral caches: they go with their owner, however that ends, and nobody else's are touched."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from asyncfetch import CachePolicy, Fetcher
from asyncfetch.cache.scratch import Scratch
from asyncfetch.errors import CacheUnusable
from asyncfetch.testing import ScriptedServer, answer

from .helpers import key, look_up, opened_by, publish

# Opens an ephemeral cache, puts something into it, says where that is, and waits to be killed.
VICTIM = """
import asyncio, sys
from asyncfetch import Fetcher

async def main():
    async with Fetcher(ephemeral=True) as fetcher:
        print((await fetcher.fetch(sys.argv[1])).path, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, for this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


async def test_an_ephemeral_cache_is_one_while_it_lives_and_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(elsewhere))
    async with (
        ScriptedServer([answer(b"body", headers=['ETag: "1"'])]) as server,
        Fetcher(ephemeral=True) as fetcher,
    ):
        entry = await fetcher.fetch(f"{server.url}/o")
        again = await fetcher.fetch(f"{server.url}/o")
        assert (again.path, again.from_cache) == (entry.path, True)
        (directory,) = temporary.iterdir()
        assert directory in entry.path.parents
        assert directory.stat().st_mode & 0o777 == 0o700
        async with Fetcher(fetcher.settings):
            assert len(list(temporary.iterdir())) == 2, "made from the same settings, it has its own"
    assert not list(temporary.iterdir())
    assert not list(elsewhere.iterdir()), "the cache of others is not touched"


async def test_it_lies_below_a_directory_that_is_given(tmp_path: Path) -> None:
    parent = tmp_path / "made" / "for it"
    async with opened_by(CachePolicy(cache_dir=parent, ephemeral=True)) as cache:
        published = await publish(cache, b"x", key("a"))
        assert parent in Path(published.path).parents
        assert (await look_up(cache, key("a")))[0] is not None
    assert not list(parent.iterdir())


async def test_what_a_killed_owner_left_goes_with_the_next_start_and_the_living_keep_theirs(temporary: Path) -> None:
    async with ScriptedServer(lambda _: answer(b"body")) as server:
        victims = [
            subprocess.Popen([sys.executable, "-c", VICTIM, f"{server.url}/o"], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        try:
            async with Fetcher(ephemeral=True):
                paths = [Path(await _line(victim)) for victim in victims]
                victims[0].send_signal(signal.SIGKILL)
                victims[0].wait()
                assert paths[0].exists()
            async with Fetcher(ephemeral=True):
                assert not paths[0].exists()
                assert paths[1].exists()
                assert len(list(temporary.iterdir())) == 2
        finally:
            for victim in victims:
                victim.kill()
                victim.communicate()


async def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).decode().strip()


def test_strangers_directories_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = tmp_path / "asyncfetch-0123456789abcdef"
    others = [tmp_path / name for name in ("asyncfetch-demo-1", "asyncfetch-0123", "something", "file")]
    link, target = tmp_path / "asyncfetch-ffffffffffffffff", tmp_path / "something"
    for directory in (dead, *others[:3]):
        directory.mkdir()
        (directory / "kept").write_text("")
    others[3].write_text("")
    link.symlink_to(target)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # as it looks to another user
    Scratch(str(tmp_path)).close()
    assert (dead / "kept").exists()
    monkeypatch.undo()
    scratch = Scratch(str(tmp_path))
    assert not dead.exists()
    Scratch(str(tmp_path)).close()
    assert Path(scratch.path).exists()
    scratch.close()
    assert sorted(tmp_path.iterdir()) == sorted([*others, link])
    assert (target / "kept").exists()


async def test_a_temporary_directory_that_cannot_serve_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match="file"):
        async with Fetcher(cache_dir=tmp_path / "file", ephemeral=True):
            raise AssertionError("it opened")
