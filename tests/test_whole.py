"""A file that appears whole or not at all, and what is said of it where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncfetch.whole import whole


def test_it_takes_the_place_of_what_was_there_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "name"
    target.write_text("old")
    with whole(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "name"
    target.write_text("old")
    with pytest.raises(LookupError), whole(target) as part:
        part.write_text("half")
        raise LookupError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_may_be_as_long_as_the_file_system_has_it(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 127)  # 254 of 255 bytes
    with whole(target) as part:
        part.write_text("new")
    assert target.read_text() == "new"


@pytest.mark.parametrize("target", ["file/name", "no/name", "directory"])
def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError) as caught, whole(tmp_path / target) as part:
        part.write_text("new")
    assert caught.value.filename == str(tmp_path / target)


def test_what_is_no_plain_file_is_written_itself(tmp_path: Path) -> None:
    with whole(Path(os.devnull)) as part:
        part.write_text("new")
    assert not Path(os.devnull).is_file()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught, whole(tmp_path / "full") as part:
        part.write_text("new")
    assert caught.value.filename == str(tmp_path / "full")
