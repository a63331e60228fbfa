"""Lists as Parquet and ORC: which column has the names, which kinds can be names, and how much is held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import orc, parquet

from asyncfetch.errors import UsageError
from asyncfetch.jobs import Reading, Row, read_rows
from tests.cli.terminal import environment

PICTURES = pa.array([{"bytes": b"\xff\xd8", "path": "a.jpg"}, None, {"bytes": b"\xff", "path": None}])
TEXT = ["a.jpg", None, "é.jpg"]
STAMPS = pa.array([1, 2, 3], pa.timestamp("ms"))


def names(path: Path, **reading: Any) -> list[Row]:
    return list(read_rows(str(path), Reading(**reading)))


@pytest.mark.parametrize("kind", ["parquet", "orc"])
@pytest.mark.parametrize(
    ("columns", "asked", "found"),
    [
        ({"label": [1, 2, 3], "key": TEXT}, None, [(1, "a.jpg"), (3, "é.jpg")]),
        ({"label": [1, 2, 3], "Photo": TEXT}, None, [(1, "a.jpg"), (3, "é.jpg")]),
        ({"label": TEXT[::-1], "Photo": TEXT}, "Photo", [(1, "a.jpg"), (3, "é.jpg")]),
        ({"label": TEXT[::-1], "Photo": TEXT}, "2", [(1, "a.jpg"), (3, "é.jpg")]),
        ({"key": ["", "b", " c "]}, None, [(2, "b"), (3, " c ")]),
        ({"key": ["é".encode(), None, b"b"]}, None, [(1, "é"), (3, "b")]),
        ({"image": PICTURES, "label": [1, 2, 3]}, "image.path", [(1, "a.jpg")]),
    ],
)
def test_names_are_found(
    tmp_path: Path, kind: str, columns: dict[str, Any], asked: str | None, found: list[tuple[int, str]]
) -> None:
    path = tmp_path / f"list.{kind}"
    write = parquet.write_table if kind == "parquet" else orc.write_table
    write(pa.table(columns), path)
    assert [(row.line, row.name) for row in names(path, column=asked)] == found


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
        (pa.array(["x", "y"], pa.string_view()), ["x", "y"]),
        (pa.nulls(3), []),
        (pa.array([], pa.string()), []),
    ],
)
def test_text_of_every_kind(tmp_path: Path, values: pa.Array, found: list[str]) -> None:
    path = tmp_path / "list.pq"
    parquet.write_table(pa.table({"key": values}), path)
    assert [row.name for row in names(path)] == found


def test_a_column_with_dots_in_its_name_goes_before_a_path(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    parquet.write_table(pa.table({"image": PICTURES, "image.path": ["x", "y", "z"]}), path)
    assert [row.name for row in names(path, column="image.path")] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("columns", "asked", "told"),
    [
        ({"a": TEXT, "b": TEXT}, None, r"Say --column: a \(string\), b \(string\)"),
        ({"a": [1, 2]}, None, r"Say --column: a \(int64\)"),
        ({"key": [1, 2]}, None, "column 'key' holds int64, and not names"),
        ({"key": STAMPS}, None, r"column 'key' holds timestamp\[ms\]"),
        ({"key": [["a"], ["b"]]}, None, "column 'key' holds list<"),
        ({"image": PICTURES}, None, "'image' is a struct. Name a part of it: image.bytes, image.path"),
        ({"picture": PICTURES}, "picture", "Name a part of it: picture.bytes, picture.path"),
        ({"picture": PICTURES}, "picture.bytes", "row 1 of 'picture.bytes' holds bytes that are no text"),
        ({"picture": PICTURES}, "picture.size", "no column 'picture.size'"),
        ({"picture": [1]}, "picture.size", "no column 'picture.size'"),
        ({"a": TEXT}, "file", r"no column 'file'. It has a \(string\)"),
        ({"a": TEXT}, "2", "1 columns, and none with the number 2"),
    ],
)
def test_what_cannot_be_names_is_one_line(tmp_path: Path, columns: dict[str, Any], asked: str, told: str) -> None:
    path = tmp_path / "list.parquet"
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(UsageError, match=told) as raised:
        names(path, column=asked)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_damage_is_told_wherever_it_lies(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"list.{kind}"
    write = parquet.write_table if kind == "parquet" else orc.write_table
    write(pa.table({"key": [f"{number:08}" for number in range(10_000)]}), path, compression="zstd")
    whole = path.read_bytes()
    damages = [b"", b"key\na.jpg\n", whole[:-20]]
    if kind == "parquet":  # ORC has no checksums
        damages.append(whole[:9] + bytes(len(whole) // 2) + whole[9 + len(whole) // 2 :])
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="or is damaged") as raised:
            names(path)
        assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_told_as_any_other(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        names(tmp_path / "list.parquet")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        names(tmp_path / "folder.parquet")


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from asyncfetch.jobs import read_rows\n"
        "try: list(read_rows('list.parquet'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ExtraMissing list.parquet needs pyarrow to be read. Install it: pip install")


def test_only_such_files_load_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\n")
    code = "import sys, asyncfetch.jobs as j; list(j.read_rows(sys.argv[1])); print('pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "list")], env=environment(), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False"


def test_standard_input_is_read_to_its_end_first(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"key": ["a", "b"]}), tmp_path / "list")
    code = "import asyncfetch.jobs as j; print([row.name for row in j.read_rows('-', j.Reading('parquet'))])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        input=(tmp_path / "list").read_bytes(),
        check=True,
    )
    assert done.stdout.strip() == b"['a', 'b']"


def test_a_long_list_is_not_held(tmp_path: Path) -> None:
    """One row group of 800,000 rows: 26 MB of names beside 100 MB that nobody asked for."""
    path = tmp_path / "long.parquet"
    keys = [f"photos/{number % 1000:04}/{number:012}.jpg" for number in range(800_000)]
    label = pa.array([b"x" * 128] * len(keys))
    parquet.write_table(pa.table({"label": label, "key": keys}), path, row_group_size=len(keys), use_dictionary=False)
    count = (
        "import json, resource, sys\nfrom asyncfetch.jobs import read_rows\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = read_rows(sys.argv[1])\nnext(rows)\nbefore = peak()\n"
        "print(json.dumps([1 + sum(1 for _ in rows), peak() - before]))"
    )
    done = subprocess.run([sys.executable, "-c", count, str(path)], env=environment(), capture_output=True, check=True)
    rows, grown = json.loads(done.stdout)
    assert rows == len(keys)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 12 << 20
