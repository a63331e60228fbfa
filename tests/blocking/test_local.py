"""Local paths for whatever has a name, and caches for as long as a `with` lasts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.blocking import CacheManager, Fetcher, LocalResource, local_path
from asyncfetch.errors import CacheUnusable, InvalidURI, ObjectNotFound, UsageError
from asyncfetch.uris import s3
from tests.blocking.scripts import program
from tests.servers import rclone_http

if TYPE_CHECKING:
    from tests.objects import Bucket


def test_objects_files_and_pages_have_paths(empty_bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown/page").write_bytes(b"page")
    uri = empty_bucket.put("a?versionId=1", b"object") + "?versionId="
    with CacheManager(tmp_path / "cache") as cache, rclone_http(tmp_path / "shown") as url:
        cases: list[tuple[Any, bytes, str]] = [
            (uri, b"object", uri),
            (s3(empty_bucket.name, "a?versionId=1"), b"object", uri),
            (f"{url}/page", b"page", f"{url}/page"),
        ]
        for name, body, source in cases:
            found = local_path(name, fetcher=cache.fetcher)
            assert (found.path.read_bytes(), found.source) == (body, source)
            assert found.path.is_relative_to(cache.dir)
        assert not local_path(f"{url}/page?anew", fetcher=cache.fetcher).from_cache
        assert local_path(uri, fetcher=cache.fetcher).from_cache


def test_a_local_file_is_taken_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", "/dev/null/none")  # no cache is needed
    file = tmp_path / "a b"
    file.touch()
    names: list[Any] = [file, str(file), "a b", file.as_uri()]
    for name in names:
        assert local_path(name) == LocalResource(file, False, str(name))
    with pytest.raises(ObjectNotFound, match="none"):
        local_path("none")
    with pytest.raises(InvalidURI):
        local_path("ftp://host/a")


def test_a_persistent_cache_stays_and_another_goes(empty_bucket: Bucket, tmp_path: Path) -> None:
    uri = empty_bucket.put("a", b"1")
    for persistent, stays in ((True, True), (False, False)):
        with CacheManager(tmp_path / "cache", persistent) as cache:
            path = local_path(uri, fetcher=cache.fetcher).path
            directory = cache.dir
            assert directory.is_relative_to(tmp_path / "cache")
            assert path.is_relative_to(directory)
        assert (path.exists(), directory.exists()) == (stays, stays)
        with pytest.raises(UsageError, match="not open"):
            _ = cache.dir


def test_a_cache_lies_where_every_cache_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(tmp_path / "usual"))
    with CacheManager() as cache:
        assert cache.dir == tmp_path / "usual"
        with pytest.raises(UsageError, match="open already"):
            cache.__enter__()
    with CacheManager() as first, CacheManager(persistent=False) as second:
        assert first.dir != second.dir


@pytest.mark.parametrize("persistent", [True, False])
def test_one_that_cannot_open_leaves_nothing(tmp_path: Path, persistent: bool) -> None:
    (tmp_path / "file").touch()
    manager = CacheManager(tmp_path / "file", persistent)
    with pytest.raises(CacheUnusable), manager:
        raise AssertionError("it opened")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


FORKED = """
import os, warnings
from asyncfetch.blocking import CacheManager

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
with CacheManager("cache", persistent=False) as cache:
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], cache.dir.exists(), flush=True)
if not child:
    os._exit(0)
print(os.listdir("cache"))
"""


def test_a_child_leaves_the_cache_to_its_parent(tmp_path: Path) -> None:
    assert program(FORKED, tmp_path) == ["0 True", "[]"]


def test_a_fetcher_of_ones_own(empty_bucket: Bucket, cache_dir: Path) -> None:
    uri = empty_bucket.put("a", b"1")
    with Fetcher(cache_dir=cache_dir) as fetcher:
        assert local_path(uri, fetcher=fetcher).path.is_relative_to(cache_dir)
        with pytest.raises(UsageError, match="one of them"):
            local_path(uri, fetcher=fetcher, s3_client=empty_bucket.client)
