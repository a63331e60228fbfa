"""Files as an origin: what is no file, what cannot be read, what changes meanwhile, and directories in every shape."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import (
    InvalidURI,
    ObjectNotFound,
    OriginError,
    RequestRefused,
    TransferInterrupted,
)
from asyncfetch.objects import ObjectStat
from asyncfetch.origins.file import FileOrigin, stat_files
from asyncfetch.uris import Location, parse
from tests.leaks import census
from tests.origins.sinks import Collector


def at(path: Path | str) -> Location:
    return Location("file", "", str(path))


async def names_in(directory: Path, *, recursive: bool = True) -> list[str]:
    found = [stat async for stat in FileOrigin().list(at(directory), recursive=recursive)]
    return [parse(stat.uri).key.removeprefix(f"{directory}/") for stat in found]


@pytest.fixture
def odd_things(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        previous = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket may have 104 bytes on macOS
        try:
            listener.bind("socket")
        finally:
            os.chdir(previous)
    return {
        "a directory": tmp_path / "directory",
        "a named pipe": tmp_path / "pipe",
        "a socket": tmp_path / "socket",
        "a character device": Path("/dev/zero"),
    }


async def test_what_is_no_file_is_refused_by_name(odd_things: dict[str, Path]) -> None:
    before = census().descriptors
    for name, path in odd_things.items():
        for call in (FileOrigin().stat(at(path)), FileOrigin().read(at(path), Collector())):
            with pytest.raises(RequestRefused, match=f"it is {name}"):
                await call
    assert census().descriptors == before


async def test_a_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="List it"):
        await FileOrigin().stat(at(f"{tmp_path}/"))


async def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(3 << 20))

    class Swapping(Collector):
        def advance(self, count: int) -> None:
            super().advance(count)
            if not path.is_fifo():
                path.unlink()
                os.mkfifo(path)

    with pytest.raises(RequestRefused, match="named pipe"):
        await FileOrigin().read(at(path), Swapping())


@pytest.mark.parametrize("change", ["rewritten", "cut", "replaced"])
async def test_a_file_that_changes_while_it_is_read_is_not_mixed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(3 << 20))

    class Changing(Collector):
        def advance(self, count: int) -> None:
            super().advance(count)
            if change == "rewritten":
                path.write_bytes(b"x" * (3 << 20))
                os.utime(path, ns=(1, 1))
            elif change == "cut":
                os.truncate(path, 100)
            else:
                path.with_name("b").write_bytes(bytes(3 << 20))
                path.with_name("b").replace(path)

    with pytest.raises(TransferInterrupted, match="changed while it was read"):
        await FileOrigin().read(at(path), Changing())


def test_what_this_user_may_not_read_is_denied_and_named() -> None:
    # The super-user may read everything: the program becomes another one, once it has imported what it needs.
    program = """
import asyncio, os, pathlib, sys
from asyncfetch.errors import AsyncfetchError
from asyncfetch.origins.file import FileOrigin, stat_files
from asyncfetch.uris import parse

async def names(path):
    found = []
    try:
        async for stat in FileOrigin().list(parse(path)):
            found.append(stat.uri)
    except AsyncfetchError as error:
        found.append(f"{type(error).__name__} {error.uri}")
    return found

root = sys.argv[1]
asyncio.run(names(root + "/open"))
if os.geteuid() == 0:
    os.setuid(65534)
print(type(stat_files([parse(root + "/shut/file")])[0]).__name__)
print(*asyncio.run(names(root)), sep="\\n")
"""
    with TemporaryDirectory(dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        for directory in ("open", "shut"):
            (root / directory).mkdir()
            (root / directory / "file").write_bytes(b"x")
        (root / "shut").chmod(0)
        try:
            done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
        finally:
            (root / "shut").chmod(0o755)
        assert done.stdout.splitlines() == [
            "AccessDenied",
            f"file://{root}/open/file",
            f"AccessDenied file://{root}/shut/",
        ]


def test_many_looks_give_a_stat_or_an_error_each(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    found = stat_files([at(tmp_path / "a"), at(tmp_path / "b"), at(tmp_path), at("/nul\0"), at("/\ud800")])
    assert isinstance(found[0], ObjectStat)
    assert found[0].size == 3
    assert [type(error) for error in found[1:]] == [ObjectNotFound, RequestRefused, InvalidURI, InvalidURI]


async def test_the_etag_is_of_inode_time_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    os.utime(path, ns=(5, 10**9 + 7))
    stat = await FileOrigin().stat(at(path))
    assert stat.etag == f"{path.stat().st_ino:x}-{10**9 + 7:x}-3"
    assert stat.last_modified is not None
    assert stat.last_modified.timestamp() == pytest.approx(1, abs=1e-3)


async def test_a_link_is_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    sink = Collector()
    await FileOrigin().read(at(tmp_path / "link"), sink)
    assert sink.data == b"abc"
    (tmp_path / "lost").symlink_to("nothing")
    with pytest.raises(ObjectNotFound):
        await FileOrigin().stat(at(tmp_path / "lost"))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(RequestRefused, match="symbolic links"):
        await FileOrigin().stat(at(tmp_path / "circle"))


async def test_links_that_lead_back_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(b"x")
    (tmp_path / "a" / "b" / "up").symlink_to("../..")
    (tmp_path / "a" / "b" / "here").symlink_to(".")
    (tmp_path / "beside").symlink_to("a")
    assert await names_in(tmp_path) == ["a/file", "beside/file"]


async def test_a_listing_yields_what_comes_before_an_error_and_names_the_culprit(tmp_path: Path) -> None:
    for name in ("a", "c"):
        (tmp_path / name).write_bytes(b"x")
    for target in ("nothing", "b"):  # a link to nowhere, and one to itself
        (tmp_path / "b").symlink_to(target)
        found = []
        with pytest.raises(OriginError) as caught:
            async for stat in FileOrigin().list(at(tmp_path)):
                found.append(stat.uri)
        assert found == [f"file://{tmp_path}/a"]
        assert caught.value.uri == f"file://{tmp_path}/b"
        (tmp_path / "b").unlink()


async def test_what_is_no_file_is_left_out_of_a_listing(odd_things: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert await names_in(tmp_path) == ["file"]
    assert await names_in(tmp_path, recursive=False) == ["directory/", "file"]


async def test_a_directory_may_be_named_without_its_slash(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"")
    (tmp_path / "d2").write_bytes(b"")
    assert [stat.uri async for stat in FileOrigin().list(at(tmp_path / "d"))] == [f"file://{tmp_path}/d/x"]
    assert [stat.uri async for stat in FileOrigin().list(at(tmp_path / "d2"))] == [f"file://{tmp_path}/d2"]


async def test_a_deep_tree_is_walked_to_its_bottom(tmp_path: Path) -> None:
    depth = 1200  # deeper than Python's stack
    try:
        here = os.open(tmp_path, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        assert await names_in(tmp_path) == ["d/" * depth + "file"]
    finally:
        # shutil, and so pytest, cannot remove it.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


async def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff caf\xe9")
    try:
        (tmp_path / name).write_bytes(b"x")
    except OSError:  # macOS has only UTF-8
        name = "caf\u00e9"
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "😀").write_bytes(b"x")
    stats = [stat async for stat in FileOrigin().list(at(tmp_path))]
    assert all(stat.uri.isascii() for stat in stats)
    assert [(await FileOrigin().stat(parse(stat.uri))).size for stat in stats] == [1, 1]
    assert await names_in(tmp_path) == sorted([name, "😀"], key=os.fsencode)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@given(st.dictionaries(names, st.sampled_from(["file", "directory"]) | st.frozensets(names, max_size=3), max_size=6))
async def test_any_tree_is_listed_in_the_order_of_bytes(tree: dict[str, str | frozenset[str]]) -> None:
    with TemporaryDirectory() as root:
        for name, kind in tree.items():
            path = Path(root, name)
            if kind == "file":
                path.write_bytes(b"")
                continue
            path.mkdir()
            for inner in kind if isinstance(kind, frozenset) else ():
                (path / inner).write_bytes(b"")
        every = sorted((str(path) for path in Path(root).rglob("*") if path.is_file()), key=os.fsencode)
        assert await names_in(Path(root)) == [path.removeprefix(f"{root}/") for path in every]
        for after in every:
            found = [parse(stat.uri).key async for stat in FileOrigin().list(at(root), start_after=after)]
            assert found == [path for path in every if os.fsencode(path) > os.fsencode(after)]
