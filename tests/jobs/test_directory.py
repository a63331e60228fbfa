"""The directory of a job: whole files, never over a stranger's, never outside."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncfetch.cache import digest_file
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Directory, DirectoryBusy, Way
from asyncfetch.jobs.directory import Source
from asyncfetch.jobs.layout import apart


@contextlib.contextmanager
def source(tmp_path: Path, body: bytes = b"body", *, shared: bool = True) -> Iterator[Source]:
    """A file as the cache has it."""
    path = tmp_path / f"blob-{body.hex()[:20]}"
    path.write_bytes(body)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Source(str(path), descriptor, digest_file(str(path), "blake3"), shared)
    finally:
        os.close(descriptor)


def all_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("way", "shared"), [("auto", True), ("auto", False), ("link", True), ("copy", True)])
@pytest.mark.parametrize("own", [True, False])
def test_a_file_comes_whole(tmp_path: Path, way: Way, shared: bool, own: bool) -> None:
    with Directory(tmp_path / "out", way) as directory, source(tmp_path, shared=shared) as blob:
        placed = directory.place(blob, "a/b/c.jpg", "s3://b/k", own=own)
        again = directory.place(blob, "a/b/c.jpg", "s3://b/k", own=own)
        assert placed.path == again.path == "a/b/c.jpg"
        assert directory.look("a/b/c.jpg") == again
        file, of_cache = (tmp_path / "out/a/b/c.jpg").stat(), Path(blob.filename).stat()
        if file.st_ino == of_cache.st_ino:
            assert shared
            assert not of_cache.st_mode & 0o222, "who writes it would write the cache"
        else:
            assert way != "link"
    assert all_files(tmp_path / "out") == {"a/b/c.jpg": b"body", ".asyncfetch/lock": b""}


def test_a_file_that_a_full_disk_cuts_short_is_not_there(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Directory(tmp_path / "out", "copy") as directory, source(tmp_path, bytes(30_000)) as blob:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # as a full disk: the first write is a short one
        try:
            with pytest.raises(OSError, match="large"):
                directory.place(blob, "a", "s3://b/k", own=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all_files(tmp_path / "out") == {".asyncfetch/lock": b""}


def test_what_cannot_be_linked_is_said_when_nothing_else_is_allowed(tmp_path: Path) -> None:
    with (
        Directory(tmp_path / "out", "link") as directory,
        source(tmp_path, shared=False) as blob,
        pytest.raises(OSError, match="cannot be linked"),
    ):
        directory.place(blob, "a", "s3://b/k", own=False)


def test_a_blob_that_has_left_the_cache_is_copied_from_what_is_open(tmp_path: Path) -> None:
    with Directory(tmp_path / "out") as directory, source(tmp_path) as blob:
        Path(blob.filename).unlink()
        directory.place(blob, "a", "s3://b/k", own=False)
    assert (tmp_path / "out/a").read_bytes() == b"body"


def test_a_strangers_file_stays_and_the_same_bytes_are_taken_for_the_file(tmp_path: Path) -> None:
    with Directory(tmp_path / "out") as directory, source(tmp_path) as blob:
        (tmp_path / "out/a.jpg").write_bytes(b"stranger's")
        (tmp_path / "out/same.jpg").write_bytes(b"body")
        aside = apart("a.jpg", "s3://b/k")
        assert directory.place(blob, "a.jpg", "s3://b/k", own=False).path == aside
        assert directory.place(blob, "same.jpg", "s3://b/k", own=False).path == "same.jpg"
        (tmp_path / "out" / aside).unlink()
        (tmp_path / "out" / aside).mkdir()
        with pytest.raises(FileExistsError):
            directory.place(blob, "a.jpg", "s3://b/k", own=False)
    assert (tmp_path / "out/a.jpg").read_bytes() == b"stranger's"


def test_own_files_are_replaced(tmp_path: Path) -> None:
    with Directory(tmp_path / "out") as directory:
        for body in (b"old", b"new"):
            with source(tmp_path, body) as blob:
                directory.place(blob, "a", "s3://b/k", own=True)
    assert (tmp_path / "out/a").read_bytes() == b"new"


@pytest.mark.parametrize("own", [True, False])
def test_no_link_leads_outside(tmp_path: Path, own: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    with Directory(tmp_path / "out") as directory, source(tmp_path) as blob:
        (tmp_path / "out/folder").symlink_to(outside)
        (tmp_path / "out/file").symlink_to(outside / "precious")
        placed = [
            directory.place(blob, path, "s3://b/k", own=own).path for path in ("folder/x/y", "folder/precious", "file")
        ]
        assert placed[:2] == ["folder~/x/y", "folder~/precious"]
        assert directory.look("folder/precious") is None
        with pytest.raises(OSError):
            directory.remove("folder/precious")
    assert all_files(outside) == {"precious": b"precious"}


def test_a_file_where_a_folder_is_needed_and_the_other_way_round(tmp_path: Path) -> None:
    with Directory(tmp_path / "out") as directory, source(tmp_path) as blob:
        assert directory.place(blob, "a", "s3://b/1", own=False).path == "a"
        assert directory.place(blob, "a/b/c", "s3://b/2", own=False).path == "a~/b/c"
        assert directory.place(blob, "x/y", "s3://b/3", own=False).path == "x/y"
        assert directory.place(blob, "x", "s3://b/4", own=False).path == apart("x", "s3://b/4")


def test_a_folder_goes_with_its_last_file(tmp_path: Path) -> None:
    with Directory(tmp_path / "out") as directory, source(tmp_path) as blob:
        for path in ("a/b/c", "a/b/d", "a/e"):
            directory.place(blob, path, "s3://b/k", own=False)
        directory.remove("a/b/c")
        assert (tmp_path / "out/a/b").exists()
        directory.remove("a/b/d")
        assert not (tmp_path / "out/a/b").exists()
        assert directory.place(blob, "a/b/d", "s3://b/k", own=False).path == "a/b/d"


def test_more_folders_than_are_kept_open(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    with Directory(tmp_path / "out") as directory, source(tmp_path) as blob:
        for number in range(300):
            directory.place(blob, f"a/{number}/b/c", "s3://b/k", own=False)
        assert len(os.listdir("/dev/fd")) < before + 200
    assert len(os.listdir("/dev/fd")) == before
    assert len(list((tmp_path / "out/a").iterdir())) == 300


def test_one_job_at_a_time_and_no_rest_of_a_killed_one(tmp_path: Path) -> None:
    with Directory(tmp_path / "out"), pytest.raises(DirectoryBusy), Directory(tmp_path / "out"):
        pass
    (tmp_path / "out/.asyncfetch/1234.part").write_text("half")
    with Directory(tmp_path / "out"):
        assert os.listdir(tmp_path / "out/.asyncfetch") == ["lock"]


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Directory(tmp_path, "teleport")  # type: ignore[arg-type]
