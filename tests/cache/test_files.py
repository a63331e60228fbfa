"""File operations that have more to them than the call of the system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import files


@given(data=st.binary(max_size=300), most=st.integers(1, 50), offset=st.integers(0, 100))
def test_system_that_takes_little_at_a_time_gets_all(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, most: int, offset: int
) -> None:
    path = tmp_path_factory.mktemp("files") / "file"
    write, pwrite = os.write, os.pwrite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:most]))
        patch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:most], offset))
        descriptor = files.create(str(path))
        files.write(descriptor, memoryview(data))
        files.write_at(descriptor, memoryview(data), len(data) + offset)
        files.close(descriptor)
    assert path.read_bytes() == data + bytes(offset if data else 0) + data


def test_what_is_not_there_is_none_or_nothing(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert files.size_of(nowhere) is None
    assert files.stamp_of(nowhere) is None
    assert files.read(nowhere, 10) is None
    assert files.names(nowhere) == []
    assert list(files.sizes(nowhere)) == []
    assert files.remove(nowhere) is False
    assert files.remove_directory(nowhere) is False
    with pytest.raises(FileNotFoundError):
        files.lock(nowhere)


def test_directory_that_is_there_will_do_and_a_file_will_not(tmp_path: Path) -> None:
    path = str(tmp_path / "directory")
    assert files.make_directory(path) is True
    assert files.make_directory(path) is False
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        files.make_directory(str(tmp_path / "file"))


def test_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    with pytest.raises(FileExistsError):
        files.create(str(tmp_path / "file"))
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        files.create(str(tmp_path / "link"))


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    descriptors = [files.create(str(tmp_path / "file")), files.lock(str(tmp_path / "lock"), create=True)]
    for descriptor in descriptors:
        assert descriptor is not None
        assert os.get_inheritable(descriptor) is False
        files.close(descriptor)


def test_only_files_have_sizes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    assert list(files.sizes(str(tmp_path))) == [("file", 5)]
