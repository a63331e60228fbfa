"""The directory of a cache: made with care, and refused with a reason."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from asyncfetch.cache import Cache, files, mounts
from asyncfetch.cache.directory import prepare
from asyncfetch.errors import CacheUnusable, StorageFull
from asyncfetch.settings import CachePolicy

from .helpers import opened, owners, publish


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_is_made_for_its_owner_alone_and_its_parents_by_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        prepare(tmp_path / "parent" / "cache")
    finally:
        os.umask(before)
    assert mode(tmp_path / "parent") == 0o755
    assert mode(tmp_path / "parent" / "cache") == 0o700
    assert mode(tmp_path / "parent" / "cache" / "v1" / "blobs") == 0o755


async def test_directory_that_is_there_keeps_its_mode_and_files_follow_the_umask(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    before = os.umask(0o002)
    try:
        async with opened(shared) as cache:
            published = await publish(cache, b"bytes")
    finally:
        os.umask(before)
    assert mode(shared) == 0o775
    assert mode(Path(published.path)) == 0o664


async def test_directory_can_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    async with opened(tmp_path / "link") as cache:
        await publish(cache, b"bytes")
    assert (tmp_path / "target" / "v1").is_dir()


@pytest.mark.parametrize("below", ["", "below", "far/below"])
async def test_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match=r"file.*Remove that file, or point cache_dir elsewhere"):
        async with opened(tmp_path / "file" / below):
            pass


@pytest.mark.parametrize("below", ["", "/below"])
@pytest.mark.parametrize("target", ["unmounted/cache", "link"], ids=["not there", "itself"])
def test_link_to_nowhere_is_named_and_not_to_be_removed(tmp_path: Path, target: str, below: str) -> None:
    """It may well lead to a disk that is not mounted just now."""
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(CacheUnusable) as caught:
        prepare(Path(f"{link}{below}"))
    assert f"{link} is a link to {target}, which leads nowhere" in str(caught.value)
    assert "Remove" not in caught.value.remedy


def test_path_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheUnusable, match=r"a\\x00b.*embedded null byte"):
        prepare(tmp_path / "a\0b")


def test_newer_layout_is_refused(tmp_path: Path) -> None:
    for name in ("v1", "v2", "v11", "vault", "v2x"):
        (tmp_path / name).mkdir()
    with pytest.raises(CacheUnusable, match=r"newer version of asyncfetch: layout v11.*Upgrade"):
        prepare(tmp_path)


def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = [mounts.Mount("/", "ext4", "/dev/vda"), mounts.Mount(str(tmp_path.resolve()), "nfs4", "filer:/home")]
    monkeypatch.setattr(mounts, "mounts", lambda: table)
    with pytest.raises(CacheUnusable, match=r"network file system \(nfs4 at .*disk of this machine"):
        prepare(tmp_path / "cache")


AS_NOBODY = """
import asyncio, os, sys
from asyncfetch.cache import Cache
from asyncfetch.errors import CacheUnusable
from asyncfetch.settings import CachePolicy
if os.geteuid() == 0:
    os.setuid(65534)
try:
    Cache.open(CachePolicy(cache_dir=sys.argv[1]), loop=asyncio.new_event_loop())
except CacheUnusable as error:
    print(error)
"""


@pytest.mark.parametrize("inside", ["", "cache"])
def test_directory_that_may_not_be_written_is_named_with_a_remedy(inside: str) -> None:
    """Run as somebody without rights where the tests run as root, who has them all."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o555)
        place = Path(made) / inside
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", AS_NOBODY, place],
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )
        Path(made).chmod(0o755)
        assert result.stdout.startswith(f"{place}")
        assert "Permission denied. Make it writable for this user, or point cache_dir elsewhere." in result.stdout


@pytest.mark.parametrize(
    ("function", "errno", "expected"),
    [
        ("make_directory", 30, "Read-only file system. Point cache_dir at a disk that can be written."),
        ("make_directory", 28, "No space left on device. Free space"),
        ("lock", 5, "The disk reports a fault"),
        ("create", 28, "No space left on device. Free space"),
    ],
)
async def test_what_the_system_refuses_is_told_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, errno: int, expected: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno, os.strerror(errno))

    descriptors = len(files.names("/dev/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(files, function, refuse)
        with pytest.raises((CacheUnusable, StorageFull), match=expected):
            Cache.open(CachePolicy(cache_dir=tmp_path / "cache"), loop=asyncio.get_running_loop())
    assert len(files.names("/dev/fd")) == descriptors
    async with opened(tmp_path / "cache"):
        assert len(owners(tmp_path / "cache")) == 1
