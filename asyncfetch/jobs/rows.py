"""The rows of a list of names: CSV, TSV, JSON lines, plain lines, Parquet, a ledger of failures. Read as they come."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from contextlib import closing
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.errors import UsageError
from asyncfetch.jobs.columnar import KINDS, Columnar
from asyncfetch.jobs.text import PIECE, Text
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INVENTORY = "inventory"  # a manifest of S3's, which is no list of names: `jobs.inventory` reads it
LISTS = ("csv", "tsv", "jsonl", "lines", *KINDS)
FORMATS = (*LISTS, INVENTORY)
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".orc": "orc",
}
# What the column of names is called where nobody says: the ledger's own word first.
_KNOWN = ("uri", "s3_uri", "url", "key", "s3_key", "path", "name", "filename", "file_name", "file", "image", "object")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Row(NamedTuple):
    """One name of a list."""

    line: int  # in the file, from 1; the last one where a row has several
    name: str
    payload: Any = None  # what a ledger of failures kept with it


class Reading(NamedTuple):
    """How a list is to be read; None is found out from the file's name and its first row.

    `column` is a header's name, or a number from 1; in Parquet and ORC dots lead into structs.
    """

    format: str | None = None
    column: str | None = None
    header: bool | None = None
    encoding: str | None = None


AS_FOUND = Reading()


def read_rows(
    path: str,
    reading: Reading = AS_FOUND,
    *,
    filename: str | None = None,
    waiting: Callable[[], None] | None = None,
) -> Iterator[Row]:
    """Reads the names that a file, or with `"-"` standard input, holds, one at a time.

    Rows without a name are passed over, and what gzip has packed is unpacked. `filename` is where the file lies, if not
    at `path`. `waiting` is called before each read, which may take for ever in a pipe. Blocks. Raises `UsageError` in
    one line for what cannot be read as names: a directory, a column that is not there, another encoding, a broken row;
    and `OSError`.
    """
    format = format_of(path, reading)
    if format not in LISTS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, not {format!r}")
    if path != "-" and os.path.isdir(filename or path):  # noqa: PTH112
        raise UsageError(f"{path} is a directory, not a list of names", remedy="Name a file, or - for standard input.")
    if format in KINDS:
        yield from _columnar(filename or path, format, path, reading)
        return
    text = Text(path, reading.encoding, filename=filename, lenient=format == "lines", waiting=waiting)
    with closing(text):
        if format == "lines":
            for number, line in enumerate(text, 1):
                if name := line.rstrip("\r\n"):
                    yield Row(number, name)
        elif format == "jsonl":
            yield from _json_lines(text, path, reading)
        else:
            yield from _table(text, path, reading, "," if format == "csv" else "\t")


def format_of(path: str, reading: Reading = AS_FOUND) -> str:
    """The format of a list: as it is said, or by the end of its name, or plain lines. `path` may be a URI."""
    if reading.format is not None:
        return reading.format
    name = parse(path).key.partition("?")[0] if is_remote(path) else path
    if name.endswith("manifest.json"):
        return INVENTORY
    return _SUFFIXES.get(PurePath(name.removesuffix(".gz")).suffix.lower(), "lines")


def is_remote(path: str) -> bool:
    """Whether a list is named by a URI, and has to be fetched."""
    return _URI.match(path) is not None


def _table(text: Text, path: str, reading: Reading, delimiter: str) -> Iterator[Row]:
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    place: int | None = None
    lines = 0  # that another reader has read
    while True:
        began = lines + rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            reason = "its quote is not closed" if "end of data" in str(error) or "field limit" in str(error) else error
            raise UsageError(f"{path}: the row that begins in line {began} is none: {reason}") from None
        if cells is None:
            return
        if not any(cells):
            continue
        if place is None:
            if delimiter == "," and len(cells) == 1 and _has_semicolons(cells[0], reading):
                lines, delimiter = rows.line_num, ";"  # as spreadsheets write where the comma is in numbers
                [cells] = csv.reader(cells, delimiter=delimiter)
                rows = csv.reader(text, delimiter=delimiter, strict=True)
            place, header = _find_column(cells, path, reading)
            if header:
                continue
        if place < len(cells) and (name := cells[place]):
            yield Row(lines + rows.line_num, name)


def _has_semicolons(cell: str, reading: Reading) -> bool:
    """Whether the only cell of a first row is a header whose columns semicolons divide."""
    names = [name.strip().strip('"').lower() for name in cell.split(";")]
    return len(names) > 1 and (reading.column in names or any(name in _KNOWN for name in names))


def _find_column(cells: list[str], path: str, reading: Reading) -> tuple[int, bool]:
    """Which column the names are in, and whether the first row is a header."""
    column, names = reading.column, [cell.strip().lower() for cell in cells]
    known = [names.index(name) for name in _KNOWN if name in names]
    if column is not None and column.isdecimal():
        place = int(column) - 1
        if not 0 <= place < len(cells):
            raise UsageError(f"{path} has {len(cells)} columns, and none with the number {column}")
        return place, bool(known) and not _URI.match(cells[place]) if reading.header is None else reading.header
    if column is not None:
        if reading.header is False:
            raise UsageError(f"--column {column} needs a header", remedy="Give its number, from 1.")
        for place, cell in enumerate(cells):
            if column in (cell, cell.strip()):
                return place, True
        raise UsageError(f"{path} has no column {column!r}", remedy=f"It has {_shown(cells)}.")
    if known and reading.header is not False:
        return known[0], True
    if len(cells) == 1:
        return 0, bool(reading.header)
    uris = [place for place, cell in enumerate(cells) if _URI.match(cell)]
    if len(uris) == 1 and not reading.header:
        return uris[0], False
    raise UsageError(
        f"{path} has {len(cells)} columns, and it is not clear which has the names",
        remedy=f"Say --column: {_shown(cells)}.",
    )


def _json_lines(text: Text, path: str, reading: Reading) -> Iterator[Row]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            if line.startswith('{"uri": ') and not line.rstrip().endswith("}"):
                continue  # a ledger's line whose writer died in it
            raise UsageError(f"{path}: line {number} is not JSON") from None
        payload = None
        if isinstance(value, dict):
            name, payload = _member(value, path, number, reading), value.get("payload")
        else:
            name = value
        if name is None or name == "":
            continue
        if not isinstance(name, str):
            raise UsageError(f"{path}: line {number} has no name, but {str(name)[:40]}")
        yield Row(number, name, payload)


def _columnar(filename: str, format: str, path: str, reading: Reading) -> Iterator[Row]:
    with contextlib.ExitStack() as opened:
        if path == "-":  # what such a file holds is told at its end
            spooled = opened.enter_context(TemporaryFile())
            while piece := os.read(0, PIECE):
                spooled.write(piece)
            spooled.flush()
            filename = f"/dev/fd/{spooled.fileno()}"
        file = Columnar(filename, format, path)
        column = _choose(file, path, reading.column)
        binary = file.check_text(column)
        for number, (value,) in enumerate(file.rows([column]), 1):
            if binary and value is not None:
                try:
                    value = value.decode()
                except UnicodeDecodeError:
                    raise UsageError(f"{path}: row {number} of {column!r} holds bytes that are no text") from None
            if value:
                yield Row(number, value)


def _choose(file: Columnar, path: str, column: str | None) -> str:
    """Which column has the names."""
    names = file.names
    if column is not None and column not in names and column.isdecimal():
        if not 0 < int(column) <= len(names):
            raise UsageError(f"{path} has {len(names)} columns, and none with the number {column}")
        return names[int(column) - 1]
    if column is not None:
        return column
    lower = [name.lower() for name in names]
    known = [names[lower.index(name)] for name in _KNOWN if name in lower]
    likely = known or file.texts()
    if known or len(likely) == 1:
        return likely[0]
    raise UsageError(f"{path}: it is not clear which column has the names", remedy=f"Say --column: {file.told()}.")


def _member(value: dict[str, Any], path: str, number: int, reading: Reading) -> Any:
    for name in (reading.column,) if reading.column is not None else _KNOWN:
        if name in value:
            return value[name]
    wanted = repr(reading.column) if reading.column is not None else "name that is known"
    raise UsageError(
        f"{path}: line {number} has no {wanted}", remedy=f"It has {_shown([str(key) for key in value])}; say --column."
    )


def _shown(names: list[str]) -> str:
    return ", ".join(name[:40] for name in names[:20])
