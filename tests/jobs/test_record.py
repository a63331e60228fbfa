"""The ledger of a download: appended, whole lines, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncfetch.errors import UsageError
from asyncfetch.jobs import Outcome, Record

DONE = Outcome("s3://b/k", "k", 3, "blake3:00", "etag", 7, 0.5)
FAILED = Outcome("s3://b/f", error="ObjectNotFound", message="s3://b/f: no such object")
JOB: dict[str, Any] = {"flatten": False}


def read(path: Path) -> tuple[list[Outcome], int]:
    with Record(path, JOB) as record:
        return list(record.read()), record.damaged


def test_what_was_added_comes_back_in_later_runs(tmp_path: Path) -> None:
    for outcomes in ([DONE], [FAILED, Outcome("s3://b/gone")]):
        with Record(tmp_path / "ledger", JOB) as record:
            record.add(outcomes)
    assert read(tmp_path / "ledger") == ([DONE, FAILED, Outcome("s3://b/gone")], 0)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_its_writer_died_in_is_dropped(tmp_path: Path, cut: int) -> None:
    with Record(tmp_path / "ledger", JOB) as record:
        record.add([DONE, FAILED])
    whole = (tmp_path / "ledger").read_bytes()
    (tmp_path / "ledger").write_bytes(whole[:-cut])
    assert read(tmp_path / "ledger") == ([DONE], 0)
    with Record(tmp_path / "ledger", JOB) as record:
        record.add([FAILED])
    assert (tmp_path / "ledger").read_bytes() == whole


def test_a_torn_line_longer_than_a_read_and_a_torn_first_line(tmp_path: Path) -> None:
    with Record(tmp_path / "ledger", JOB) as record:
        record.add([DONE])
    with (tmp_path / "ledger").open("ab") as file:
        file.write(b"x" * 10_000)
    assert read(tmp_path / "ledger") == ([DONE], 0)
    (tmp_path / "first").write_bytes(b'{"asyncfe')
    assert read(tmp_path / "first") == ([], 0)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b'{"uri": 3}',
        b'{"uri": "s3://b/k", "path": "../../etc/passwd", "size": 1}',
        b'{"uri": "s3://b/k", "path": "/etc/passwd", "size": 1}',
        b'{"uri": "s3://b/k", "path": 7}',
        b'{"uri": "s3://b/k", "surprise": 1}',
        b'{"uri": "s3://b/k", "path": "k", "size": "3", "digest": "blake3:00"}',
        b"\xff\xfe",
        b'{"uri": "s3://b/k"}, {"uri": "s3://b/l"}',
        b"",
        b'{"uri": "s3://b/k", "error": ["e"]}',
        b"[" * 100_000,
    ],
)
def test_damaged_lines_are_counted_and_passed_over(tmp_path: Path, line: bytes) -> None:
    with Record(tmp_path / "ledger", JOB) as record:
        record.add([DONE])
    with (tmp_path / "ledger").open("ab") as file:
        file.write(line + b"\n")
    with Record(tmp_path / "ledger", JOB) as record:
        record.add([FAILED])
    assert read(tmp_path / "ledger") == ([DONE, FAILED], 1)


@pytest.mark.parametrize("line", [b"name,label\n", b'{"uri": "s3://b/k"}\n', b"[" * 70_000 + b"\n"])
def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "ledger").write_bytes(line)
    with pytest.raises(UsageError, match="not the ledger of a download"), Record(tmp_path / "ledger", JOB):
        pass
    assert (tmp_path / "ledger").read_bytes() == line


def test_that_of_another_job_is_refused(tmp_path: Path) -> None:
    with Record(tmp_path / "ledger", {"flatten": True}):
        pass
    with pytest.raises(UsageError, match="filled by another job \\(--flatten\\)"), Record(tmp_path / "ledger", JOB):
        pass
