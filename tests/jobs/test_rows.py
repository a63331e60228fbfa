"""Lists of names: every format, every accident, and never more of them in memory than a piece."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.jobs import Reading, read_rows
from asyncfetch.jobs.rows import format_of
from asyncfetch.ledger import Ledger
from asyncfetch.objects import Failure
from tests.cli.terminal import environment


def names(path: Path, **reading: object) -> list[str]:
    return [row.name for row in read_rows(str(path), Reading(**reading))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "reading", "found"),
    [
        ("a.csv", b"\xef\xbb\xbfid,filename\r\n1,a.jpg\r\n\r\n2,b.jpg\r\n", {}, ["a.jpg", "b.jpg"]),
        (
            "a.csv",
            b'name,label\n"a, b.jpg",x\n"say ""hi"".jpg",y\n"two\nlines",z\n',
            {},
            ["a, b.jpg", 'say "hi".jpg', "two\nlines"],
        ),
        ("a.csv", b"a.jpg\nb.jpg", {}, ["a.jpg", "b.jpg"]),
        ("a.csv", b"Photo,Label\na.jpg,cat\nb.jpg\n,dog\n", {"column": "Photo"}, ["a.jpg", "b.jpg"]),
        ("a.csv", b"cat,a.jpg\ndog,b.jpg\nbird\n", {"column": "2"}, ["a.jpg", "b.jpg"]),
        ("a.csv", b"label,thing\ncat,a.jpg\n", {"column": "2", "header": True}, ["a.jpg"]),
        ("a.csv", b"cat,s3://b/a.jpg\ndog,s3://b/b.jpg\n", {}, ["s3://b/a.jpg", "s3://b/b.jpg"]),
        ("a.csv", b"key\nname\n", {"header": False}, ["key", "name"]),
        ("a.csv", "key\nné.jpg\n".encode("utf-16"), {}, ["né.jpg"]),
        ("a.csv", "key\nné.jpg\n".encode("latin-1"), {"encoding": "latin-1"}, ["né.jpg"]),
        ("a.tsv", b"label\tkey\ncat\ta b.jpg\n", {}, ["a b.jpg"]),
        ("a.jsonl", b'{"key": "a"}\n\n"b"\n{"key": null}\n{"key": ""}\n{"key": "c"}', {}, ["a", "b", "c"]),
        ("a.jsonl", b'{"picture": "a"}\n', {"column": "picture"}, ["a"]),
        ("a.txt", b"\xef\xbb\xbfa\r\n\r\n b \nc", {}, ["a", " b ", "c"]),
        ("list", b"a,b\n", {}, ["a,b"]),
        ("list", b"a,b\n", {"format": "csv", "column": "2", "header": False}, ["b"]),
        ("a.csv", b"", {}, []),
        ("a.csv", b"\n\n", {}, []),
        ("a.csv", b"a.jpg\na.jpg\n", {}, ["a.jpg", "a.jpg"]),
    ],
)
def test_names_are_found(tmp_path: Path, name: str, text: bytes, reading: dict[str, object], found: list[str]) -> None:
    (tmp_path / name).write_bytes(text)
    assert names(tmp_path / name, **reading) == found


@pytest.mark.parametrize(
    ("name", "text", "reading", "told"),
    [
        ("a.csv", b"id,label\n1,a\n", {}, "Say --column: id, label"),
        ("a.csv", b"id,label\n1,a\n", {"column": "file"}, "no column 'file'. It has id, label"),
        ("a.csv", b"id,label\n1,a\n", {"column": "3"}, "2 columns, and none with the number 3"),
        ("a.csv", b"id,label\n1,a\n", {"column": "id", "header": False}, "needs a header"),
        ("a.csv", "key\nn\né.jpg\n".encode("latin-1"), {}, "near line 3 .* not utf-8"),
        ("a.csv", b"k\0e\0y\0\n\0", {}, "is no text"),
        ("a.csv", b'key\n"a\n' + b"x" * 200_000, {}, "is none: its quote is not closed"),
        ("a.csv", b"key\na\rb\n", {}, "line 2 is none"),
        ("a.jsonl", b'{"key": "a"}\n{"key"\n', {}, "line 2 is not JSON"),
        ("a.jsonl", b"[" * 100_000, {}, "line 1 is not JSON"),
        ("a.jsonl", b'{"key": 7}\n', {}, "line 1 has no name, but 7"),
        ("a.jsonl", b'{"picture": "a"}\n', {}, "It has picture; say --column"),
        ("a.csv", b"key\n", {"format": "xml"}, "--format"),
        ("a.csv", b"key\n", {"encoding": "klingon"}, "klingon"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(
    tmp_path: Path, name: str, text: bytes, reading: dict[str, object], told: str
) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=told) as raised:
        names(tmp_path / name, **reading)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("members", [1, 2, 7])
def test_what_is_packed_is_unpacked_whatever_it_is_called(tmp_path: Path, members: int) -> None:
    text = "\ufeffkey\r\n" + "".join(f"photos/{number:05}.jpg\r\n" for number in range(20_000))
    packed = text.encode("utf-16-le")
    size = -(-len(packed) // members)
    body = b"".join(gzip.compress(packed[start : start + size]) for start in range(0, len(packed), size))
    for name, reading in (("a.csv.gz", {}), ("b", {"format": "csv"})):
        (tmp_path / name).write_bytes(body)
        assert names(tmp_path / name, **reading) == text.split()[1:]


@pytest.mark.parametrize("kept", [12, 1000, -5])
def test_what_is_packed_and_cut_off_is_told(tmp_path: Path, kept: int) -> None:
    body = gzip.compress("".join(f"{number * 7919:06}\n" for number in range(20_000)).encode())
    (tmp_path / "a.csv.gz").write_bytes(body[:kept])
    with pytest.raises(UsageError, match=r"a\.csv\.gz is cut off or damaged behind line") as raised:
        names(tmp_path / "a.csv.gz")
    assert "\n" not in str(raised.value)
    (tmp_path / "a.csv.gz").write_bytes(body[:1000] + bytes(1000) + body[2000:])
    with pytest.raises(UsageError, match="is cut off or damaged"):
        names(tmp_path / "a.csv.gz")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("s3://b/list.csv", "csv"),
        ("s3://b/list.csv.gz?versionId=x.tsv", "csv"),
        ("https://host/a.tsv?X-Amz-Signature=x.csv", "tsv"),
        ("s3://b/x/manifest.json", "inventory"),
        ("A.PARQUET", "parquet"),
        ("a.csv/list", "lines"),
        ("a.gz", "lines"),
    ],
)
def test_a_name_tells_the_format(name: str, format: str) -> None:
    assert format_of(name) == format


def test_a_directory_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        names(tmp_path)


def test_bytes_that_are_not_utf_8_pass_in_plain_lines(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"/a/\xff\n")
    assert [os.fsencode(name) for name in names(tmp_path / "list")] == [b"/a/\xff"]


def test_a_ledger_of_failures_is_a_list_whose_payloads_come_along(tmp_path: Path) -> None:
    with Ledger(tmp_path / "failures.jsonl") as ledger:
        ledger.write(Failure("s3://b/k", 3, {"label": 1}, "fetch", 2, ObjectNotFound("s3://b/k", "gone")))
    with (tmp_path / "failures.jsonl").open("ab") as file:
        file.write(b'{"uri": "s3://b/torn')
    assert list(read_rows(str(tmp_path / "failures.jsonl"))) == [(1, "s3://b/k", {"label": 1})]


@given(
    rows=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), min_size=1),
    newline=st.sampled_from(["\n", "\r\n"]),
    piece=st.integers(1, 40),
)
def test_what_a_csv_writer_wrote_comes_back_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], newline: str, piece: int
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([["key"], *([row] for row in rows)])
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    path.write_bytes(written.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asyncfetch.jobs.text.PIECE", piece)
        assert names(path) == rows


def test_rows_come_before_the_pipe_has_ended() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"key\na\nb\n")
    asked = []
    rows = read_rows(f"/dev/fd/{reading}", Reading(format="csv"), waiting=lambda: asked.append(1))
    assert [next(rows).name, next(rows).name] == ["a", "b"]
    os.write(writing, b"c\n")
    assert next(rows).name == "c"
    assert len(asked) == 2, "it said so each time before it read"
    rows.close()  # type: ignore[attr-defined]
    os.close(reading)
    os.close(writing)


def test_a_long_list_is_not_held(tmp_path: Path) -> None:
    with (tmp_path / "long.csv").open("w") as file:
        file.write("key\n")
        for part in range(30):
            file.writelines(f"photos/{part:04}/{number:08}.jpg\n" for number in range(10_000))
    count = (
        "import resource, sys\nfrom asyncfetch.jobs import read_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = sum(1 for _ in read_rows(sys.argv[1]))\n"
        "import json; print(json.dumps([rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", count, str(tmp_path / "long.csv")], env=environment(), capture_output=True, check=True
    )
    rows, grown = json.loads(done.stdout)
    assert rows == 300_000
    assert grown * (1 if sys.platform == "darwin" else 1024) < 8 << 20, "of a file of 8 MB"
