"""Parquet and ORC: some columns of a file, a piece of a row group at a time, so that no length of it fills memory."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import ExtraMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

KINDS = ("parquet", "orc")
_INDEX = "__index_level_"  # what pandas calls the columns of an index that nobody named
_BATCH = 4096  # rows made Python's at once
_BUFFER = 1 << 20  # bytes of a column read at once; without it a column of a row group is read whole


class Columnar:
    """A Parquet or ORC file (`kind`), called `shown` in what is said of it.

    Raises `ExtraMissing` without pyarrow, `UsageError` for a file that is none of the kind or is damaged, `OSError`.
    """

    def __init__(self, filename: str, kind: str, shown: str) -> None:
        try:
            import pyarrow as pa  # heavy, and only for this
            from pyarrow import orc, parquet
        except ModuleNotFoundError:
            raise ExtraMissing(
                f"{shown} needs pyarrow to be read", remedy="Install it: pip install 'asyncfetch[parquet]'."
            ) from None
        self._kind, self._shown = kind, shown
        self._errors = (pa.ArrowException, OSError)
        with Path(filename).open("rb"):
            pass  # raises what a file that cannot be read raises, and not in Arrow's words
        with self._damage():
            if kind == "parquet":
                self._file = parquet.ParquetFile(filename, buffer_size=_BUFFER)
                self._schema = self._file.schema_arrow
            else:
                self._file = orc.ORCFile(filename)
                self._schema = self._file.schema

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self._schema.names)

    def told(self) -> str:
        """The columns as people are told them, with their types."""
        return ", ".join(f"{field.name[:40]} ({str(field.type)[:60]})" for field in list(self._schema)[:20])

    def texts(self) -> list[str]:
        """The names of the columns that hold text."""
        return [field.name for field in self._schema if _is_text(field.type) and not field.name.startswith(_INDEX)]

    def rows(self, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        """The rows, of which only these columns are read; a name with dots leads into a struct."""
        with self._damage():
            for batch in self._batches(columns):
                for start in range(0, batch.num_rows, _BATCH):
                    part = batch.slice(start, _BATCH)
                    yield from zip(*(_values(part, name) for name in columns), strict=True)

    def check_text(self, column: str) -> bool:
        """Whether a column holds bytes that are to be text. Raises `UsageError` where it cannot hold names."""
        from pyarrow import types

        field = _field(self._schema, column)
        if field is None:
            raise UsageError(f"{self._shown} has no column {column!r}", remedy=f"It has {self.told()}.")
        kind = field.type
        if _is_struct(kind):
            inner = ", ".join(f"{column}.{child.name}" for child in kind)
            raise UsageError(f"{self._shown}: column {column!r} is a struct", remedy=f"Name a part of it: {inner}.")
        binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
        if not (binary or types.is_null(kind) or _is_text(kind)):
            raise UsageError(f"{self._shown}: column {column!r} holds {kind}, and not names")
        return bool(binary)

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self._kind == "parquet":
            # One thread: more would hold more row groups at once, and the rows are read while objects are.
            yield from self._file.iter_batches(batch_size=_BATCH, columns=columns, use_threads=False)
        else:
            for stripe in range(self._file.nstripes):
                yield self._file.read_stripe(stripe, columns)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = str(error).partition("\n")[0][:200]
            kind = {"parquet": "Parquet", "orc": "ORC"}[self._kind]
            raise UsageError(f"{self._shown} is no {kind} file, or is damaged: {said}") from None


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_struct(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind))


def _field(schema: pa.Schema, column: str) -> pa.Field | None:
    """A column, or what a name with dots leads to; a column whose own name has dots goes first."""
    if column in schema.names:
        return schema.field(column)
    first, *rest = column.split(".")
    field = schema.field(first) if first in schema.names else None
    for name in rest:
        if field is None or not _is_struct(field.type):
            return None
        field = {child.name: child for child in field.type}.get(name)
    return field


def _values(batch: pa.RecordBatch, column: str) -> list[Any]:
    if column in batch.schema.names:
        return list(batch.column(column).to_pylist())
    first, *rest = column.split(".")
    values = batch.column(first).to_pylist()
    for name in rest:
        values = [None if value is None else value[name] for value in values]
    return list(values)
