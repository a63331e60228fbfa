"""A cache that is only read: it serves what it has, is never changed, and what it lacks comes from somewhere else."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncfetch import CachePolicy, Fetcher
from asyncfetch.cache import files, seal
from asyncfetch.cache.below import Below
from asyncfetch.errors import CacheUnusable, ObjectNotFound, UsageError
from asyncfetch.testing import ScriptedServer, answer
from asyncfetch.testing.scripted import RawRequest

from .helpers import blobs, key, look_up, opened, opened_by, owners, publish, settled, whole


def tree(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """All there is, with its modes and times of change."""
    return {
        str(path.relative_to(directory)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in directory.rglob("*")
    }


def reading(directory: Path) -> CachePolicy:
    return CachePolicy(cache_dir=directory, read_only=True)


@pytest.fixture
async def prepared(tmp_path: Path) -> Path:
    """A cache with objects a, b and c, sealed."""
    directory = tmp_path / "prepared"
    async with opened(directory) as cache:
        for name in "abc":
            await publish(cache, name.encode() * 100, key(name), etag=name, validated=5.0)
    seal(directory)
    return directory


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, for this test alone."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture
def read_only_medium(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The prepared cache as it looks on a medium that cannot be written: root writes through any mode."""

    def refuse(name: str) -> None:
        real = getattr(files, name)

        def wrapped(path: str, *rest: Any, **options: Any) -> Any:
            if str(path).startswith(f"{prepared}/") and (name != "make_directory" or not os.path.isdir(path)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return real(path, *rest, **options)

        monkeypatch.setattr(files, name, wrapped)

    for name in ("make_directory", "create", "rename", "remove", "link"):
        refuse(name)
    before = tree(prepared)
    yield prepared
    assert tree(prepared) == before


async def test_hits_are_served_and_the_rest_goes_into_a_temporary_directory(prepared: Path, temporary: Path) -> None:
    before = tree(prepared)
    async with opened_by(reading(prepared)) as cache:
        found = await look_up(cache, key("a"), key("z"), key("b"))
        assert [each and each.ref.etag for each in found] == ["a", None, "b"]
        assert found[0] is not None
        assert Path(found[0].path).read_bytes() == b"a" * 100
        assert prepared in Path(found[0].path).parents
        published = await publish(cache, b"z", key("z"), etag="z")
        assert temporary in Path(published.path).parents
        found = await look_up(cache, key("z"), key("a"))
        assert [each and each.ref.etag for each in found] == ["z", "a"]
        stats = await settled(cache)
        assert (stats.objects, stats.blobs, stats.object_bytes, stats.blob_bytes) == (4, 4, 301, 301)
        with pytest.raises(CacheUnusable, match="only read"):
            await cache.clear()
    assert tree(prepared) == before
    assert not list(temporary.iterdir())


async def test_what_is_learned_of_an_object_holds_as_long_as_it_is_open(prepared: Path) -> None:
    async with opened_by(reading(prepared)) as cache:
        for name in "ab":
            (found,) = await look_up(cache, key(name))
            assert found is not None
            cache.validate(key(name), found.ref, 77.0)
            (found,) = await look_up(cache, key(name))
            assert found is not None
            assert found.ref.validated == 77.0
        cache.forget(key("b"))
        await publish(cache, b"new", key("c"), etag="new")
        for _ in range(2):  # before and after the changes are in the index
            found_a, found_b, found_c = await look_up(cache, key("a"), key("b"), key("c"))
            assert found_a is not None
            assert found_a.ref.validated == 77.0
            assert found_b is None
            assert found_c is not None
            assert found_c.ref.etag == "new"
            await settled(cache)
    async with opened_by(reading(prepared)) as cache:
        below = await look_up(cache, *map(key, "abc"))
        assert [each and (each.ref.etag, each.ref.validated) for each in below] == [("a", 5), ("b", 5), ("c", 5)]


async def test_a_fetcher_over_it_checks_transfers_and_forgets_as_ever(tmp_path: Path) -> None:
    bodies = {"/a": b"first", "/b": b"second"}

    def serve(request: RawRequest) -> bytes:
        body = bodies.get(request.target)
        if body is None:
            return answer(status="404 Not Found")
        etag = f'"{body.decode()}"'
        if request.header("If-None-Match") == etag:
            return answer(status="304 Not Modified", headers=[f"ETag: {etag}"])
        return answer(body, headers=[f"ETag: {etag}"])

    async with ScriptedServer(serve) as server:
        a, b, c = (f"{server.url}/{name}" for name in "abc")
        async with Fetcher(cache_dir=tmp_path) as fetcher:
            await fetcher.prefetch([a, b])
        seal(tmp_path)
        before = tree(tmp_path)
        bodies["/b"] = b"replaced"
        bodies["/c"] = b"third"
        async with Fetcher(cache=reading(tmp_path)) as fetcher:
            for _ in range(2):
                assert [await fetcher.read_bytes(uri) for uri in (a, b, c)] == [b"first", b"replaced", b"third"]
                assert await fetcher.read_bytes(a, 1, 3) == b"ir"
            assert (fetcher.stats().revalidated, fetcher.stats().downloaded) == (1, 2)
        del bodies["/a"]
        async with Fetcher(cache=reading(tmp_path)) as fetcher:
            for _ in range(2):
                with pytest.raises(ObjectNotFound):
                    await fetcher.fetch(a)
        assert tree(tmp_path) == before


async def test_a_read_only_medium_is_noticed_and_told_once(
    read_only_medium: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with opened(read_only_medium) as cache:
        found = await look_up(cache, *map(key, "abc"))
        assert all(found)
        await publish(cache, b"z", key("z"))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "Read-only file system: it is only read" in told[0]


async def test_a_read_only_medium_without_a_cache_is_refused_as_ever(
    read_only_medium: Path,
) -> None:
    with pytest.raises(CacheUnusable, match="Read-only file system. Point cache_dir at a disk that can be written"):
        async with opened(read_only_medium / "elsewhere"):
            raise AssertionError("it opened")


# As somebody who may read and not write: what is opened, and how.
AS_NOBODY = """
import asyncio, os, shutil, sys, tempfile  # all that is needed: another user may not see where Python lies
from asyncfetch.cache import Cache, RefKey
from asyncfetch.errors import CacheUnusable
from asyncfetch.settings import CachePolicy
if os.geteuid() == 0:
    os.setuid(65534)

async def main():
    loop = asyncio.get_running_loop()
    policy = CachePolicy(cache_dir=sys.argv[1], read_only=sys.argv[2] == "read_only")
    try:
        cache = Cache.open(policy, loop=loop)
    except CacheUnusable as error:
        print(error)
        return
    answer = loop.create_future()
    cache.look_up([RefKey("http://127.0.0.1:9000", "bucket", "a")], answer.set_result)
    (found,) = await answer
    print(open(found.path).read())
    await cache.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["sealed", "unsealed", "in use"])
@pytest.mark.parametrize("how", ["plain", "read_only"])
async def test_a_cache_that_lost_its_permissions_is_read_only_if_that_is_meant(state: str, how: str) -> None:
    def told_by_another_user() -> str:
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            command = [sys.executable, "-W", "error", "-c", AS_NOBODY, str(directory), how]
            done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout
        finally:
            for path in (directory, *directory.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)

    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        directory = Path(made) / "cache"
        async with opened(directory) as cache:
            await publish(cache, b"the body", key("a"))
            if state == "in use":
                told = told_by_another_user()
        if state != "in use":
            if state == "sealed":
                seal(directory)
            told = told_by_another_user()
        meant = how == "read_only" or state == "sealed"
        assert told == "the body\n" if meant else "Permission denied. Make it writable for this user" in told


async def test_it_is_read_while_others_write_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        await publish(writer, b"before", key("a"))
    async with opened_by(reading(tmp_path)) as reader:
        assert (await look_up(reader, key("a")))[0] is not None
        async with opened(tmp_path) as writer:
            await publish(writer, b"meanwhile", key("b"))
            assert (await look_up(reader, key("b")))[0] is not None
            await writer.clear()
            assert await look_up(reader, key("a"), key("b")) == [None, None]
            await publish(writer, b"after", key("c"))
            assert (await look_up(reader, key("c")))[0] is not None


async def test_there_must_be_one_to_read(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CacheUnusable, match="no cache that could be read"):
            async with opened_by(reading(directory)):
                raise AssertionError("it opened")
        with pytest.raises(CacheUnusable, match="no cache that could be closed"):
            seal(directory)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UsageError, match="ephemeral and read_only"):
        CachePolicy(ephemeral=True, read_only=True)


async def test_a_damaged_index_below_is_no_index(prepared: Path) -> None:
    (database,) = prepared.glob("v1/index/*.sqlite")
    database.write_bytes(b"\0" * 5000)
    with pytest.raises(CacheUnusable, match="no cache that could be read"):
        async with opened_by(reading(prepared)):
            raise AssertionError("it opened")


async def test_an_index_below_that_could_not_be_opened_is_tried_again_at_times(
    prepared: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there were no file descriptors left; here its name comes before it does."""
    (database,) = prepared.glob("v1/index/*.sqlite")
    with closing(Below(prepared, "blake3")) as below:
        (prepared / "v1/index/CURRENT").write_text("0" * 16)
        below.follow()
        assert below.find([key("a")]) == [None]
        monkeypatch.setattr("asyncfetch.cache.below.RETRY_SECONDS", 0.0)
        below.follow()
        monkeypatch.undo()
        database.rename(database.with_name(f"index-{'0' * 16}.sqlite"))
        below.follow()
        assert below.find([key("a")]) == [None], "no look-up is to pay for an attempt"
        monkeypatch.setattr("asyncfetch.cache.below.RETRY_SECONDS", 0.0)
        below.follow()
        (found,) = below.find([key("a")])
        assert found is not None
    assert [record.message.count("the index cannot be read") for record in caplog.records] == [1]


@pytest.mark.parametrize("named", [b"", b"../../etc/passwd"], ids=["empty", "nonsense"])
async def test_a_name_below_that_is_none_of_an_index_is_no_index(
    prepared: Path, caplog: pytest.LogCaptureFixture, named: bytes
) -> None:
    """As after a loss of power, which may leave a young file without its bytes."""
    async with opened_by(reading(prepared)) as cache:
        (prepared / "v1/index/CURRENT").write_bytes(named)
        for _ in range(2):
            assert await look_up(cache, key("a")) == [None]
    with pytest.raises(CacheUnusable, match="no cache that could be read"):
        async with opened_by(reading(prepared)):
            raise AssertionError("it opened")
    assert [record.message.count("the index cannot be read") for record in caplog.records] == [1, 1]


async def test_a_blob_below_of_the_wrong_size_is_a_miss(prepared: Path) -> None:
    for path in blobs(prepared).values():
        path.write_bytes(path.read_bytes()[:-1])
    async with opened_by(reading(prepared)) as cache:
        assert await look_up(cache, *map(key, "abc")) == [None] * 3
        await publish(cache, b"a" * 100, key("a"))
        assert (await look_up(cache, key("a")))[0] is not None


@pytest.mark.parametrize("verify", ["first", "always"])
async def test_a_damaged_blob_below_is_not_served_and_its_object_is_fetched_above(tmp_path: Path, verify: Any) -> None:
    body = b"the right bytes" * 1000
    async with ScriptedServer(lambda _: answer(body, headers=['ETag: "1"'])) as server:
        uri = f"{server.url}/o"
        async with Fetcher(cache_dir=tmp_path) as fetcher:
            await fetcher.fetch(uri)
        seal(tmp_path)
        (blob,) = blobs(tmp_path).values()
        blob.write_bytes(bytes(len(body)))
        before = tree(tmp_path)
        policy = CachePolicy(cache_dir=tmp_path, read_only=True, verify=verify, revalidate="never")
        async with Fetcher(cache=policy) as fetcher:
            for _ in range(2):
                assert await fetcher.read_bytes(uri) == body
                assert (await fetcher.fetch(uri)).path.read_bytes() == body
            assert (fetcher.stats().damaged, fetcher.stats().downloaded) == (1, 1)
        assert tree(tmp_path) == before


async def test_what_no_sync_has_proven_is_doubted_below_as_well(tmp_path: Path) -> None:
    async def doubts() -> list[str | None]:
        with patch("asyncfetch.cache.below.boot_id", lambda: "the next"):
            async with opened_by(reading(tmp_path)) as cache:
                before: list[str | None] = [found and found.doubt for found in await look_up(cache, key("a"))]
                assert await whole(cache, key("a")) == b"x"
                assert [found and found.doubt for found in await look_up(cache, key("a"))] == [None]
                return before

    async with opened(tmp_path) as cache:
        await publish(cache, b"x", key("a"))
    assert await doubts() == ["unproven"]
    seal(tmp_path)
    assert await doubts() == [None]


async def test_seal_proves_what_was_written_folds_the_log_and_is_undone_by_a_writer(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"x", key("a"))
        with pytest.raises(CacheUnusable, match="Close every fetcher that uses it first"):
            seal(tmp_path)
        await publish(cache, b"y", key("b"))
    seal(tmp_path)
    seal(tmp_path)  # once more does no harm
    names = {path.name for path in (tmp_path / "v1" / "index").iterdir()}
    (database,) = (path for path in (tmp_path / "v1" / "index").iterdir() if path.suffix == ".sqlite")
    assert names == {"CURRENT", "CLOSED", database.name}
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT count(*) FROM epochs WHERE proven = 0").fetchone() == (0,)
    async with opened(tmp_path) as cache:
        assert len(owners(tmp_path)) == 1
        assert all(await look_up(cache, key("a"), key("b")))
        await publish(cache, b"z", key("c"))
    assert not (tmp_path / "v1" / "index" / "CLOSED").exists()


async def test_a_sealed_cache_is_read_on_a_network_file_system_too(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncfetch.cache import mounts

    table = [mounts.Mount("/", "ext4", "/dev/vda"), mounts.Mount(str(prepared.resolve()), "nfs4", "filer:/home")]
    monkeypatch.setattr(mounts, "mounts", lambda: table)
    async with opened_by(reading(prepared)) as cache:
        assert (await look_up(cache, key("a")))[0] is not None
    (prepared / "v1" / "index" / "CLOSED").unlink()
    with pytest.raises(CacheUnusable, match="network"):
        async with opened_by(reading(prepared)):
            raise AssertionError("it opened")
