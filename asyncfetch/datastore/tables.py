"""Tables of pandas and Arrow as Parquet files, equal tables as equal bytes.

What Parquet alone does not keep (index, categories, time zones, order of columns that are no text) is kept in the
schema that Arrow and pandas write into the file. Bytes are equal as long as one version of pyarrow and of pandas writes
them, whose names are in the file; another version's file reads the same and has another digest.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, cast

from asyncfetch.datastore.errors import NotStorable
from asyncfetch.errors import ExtraMissing

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from asyncfetch.datastore.digests import HashingFile

_CATEGORIES = b"asyncfetch.categories"
_ROWS = 1 << 20  # in a row group: the default of Parquet writers, said here because digests follow from it


def table_of(frame: pd.DataFrame) -> pa.Table:
    """A DataFrame as a table of Arrow, from which `frame_of` makes an equal one.

    Raises `NotStorable` for columns that would come back changed, which it names, and for columns of one name.
    """
    pa = _arrow()
    import pandas as pd

    if type(frame) is not pd.DataFrame:
        raise NotStorable(f"A {type(frame).__name__} would come back as a plain DataFrame")
    if not frame.columns.is_unique:
        raise NotStorable("Columns of the same name cannot be told apart in Parquet", remedy="Rename them.")
    if len({type(name) for name in frame.columns}) > 1:
        raise NotStorable("Columns whose names are of several types would come back as text", remedy="Rename them.")
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise NotStorable(f"The DataFrame cannot be kept as Parquet: {error}") from None
    _check_same(frame, table)
    return _with_categories(table)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The DataFrame that a table was made of."""
    import pandas as pd

    frame = cast("pd.DataFrame", table.to_pandas())
    categories = _categories(table)
    columns = (table.schema.pandas_metadata or {}).get("columns", ())
    was = {column["field_name"]: column["numpy_type"] for column in columns}
    for place, field in enumerate(table.schema.names[: frame.shape[1]]):  # the index's columns stand behind them
        dtype = frame.dtypes.iloc[place]
        if was.get(field) == "object" and str(dtype) != "object":
            # pandas 3 reads text as str, and dates and numbers always by their own dtype, also where they were objects.
            frame.isetitem(place, pd.Series(table.column(place).to_pylist(), dtype=object, index=frame.index))
        elif was.get(field) == "datetime64[s]" and dtype.kind == "M":  # Parquet counts in ms, us and ns
            frame.isetitem(place, frame.iloc[:, place].dt.as_unit("s"))
        elif field in categories and not isinstance(dtype, pd.CategoricalDtype):
            values, ordered = categories[field]
            frame.isetitem(place, frame.iloc[:, place].astype(pd.CategoricalDtype(values, ordered=ordered)))
    return frame


def write_table(table: pa.Table, file: HashingFile) -> None:
    """Writes a table: equal tables, in however many pieces they lie in memory, as equal bytes. Blocks."""
    pa = _arrow()
    import pyarrow.parquet as pq

    plain = table.combine_chunks().unify_dictionaries()
    try:
        with pq.ParquetWriter(file, plain.schema, version="2.6", compression="zstd", store_schema=True) as writer:
            writer.write_table(plain, row_group_size=_ROWS)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise NotStorable(f"The table cannot be kept as Parquet: {error}") from None


def check_written(path: Path, table: pa.Table, *, frame: bool) -> None:
    """Holds what was written against the table: the types, and the values where categories may have got lost. Blocks.

    `frame`: it will be read by `frame_of`, which sets right what Parquet has no unit for.
    """
    pa = _arrow()
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    for field in table.schema:
        name = field.name
        there = file.schema_arrow.field(name) if name in file.schema_arrow.names else None
        kept = "nothing" if there is None else there.type
        if kept != field.type and not (frame and kept != "nothing" and _sets_right(table, field)):
            raise NotStorable(
                f"Column {name!r} of type {field.type} would come back from Parquet as {kept}",
                remedy="Give it that type first.",
            )
        if pa.types.is_dictionary(field.type) and pa.types.is_dictionary(kept):
            ours, theirs = _dictionary(table.column(name)), _dictionary(file.read([name]).column(name))
            if ours is not None and theirs is not None and not ours.cast(theirs.type).equals(theirs):
                raise NotStorable(
                    f"Column {name!r} has so many categories that Parquet would lose their order",
                    remedy="Store the column as text.",
                )


def read_table(path: Path) -> pa.Table:
    """Reads a table, whole, into memory. Raises `ValueError` for what is no Parquet file. Blocks."""
    pa = _arrow()
    import pyarrow.parquet as pq

    try:
        # One file, whatever its name looks like: key=value in a path is no column here.
        return pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None


def is_frame(value: object) -> bool:
    """Whether a value is a DataFrame, without loading pandas for one that cannot be."""
    return _is_of(value, "pandas", "DataFrame")


def is_series(value: object) -> bool:
    """Whether a value is a Series of pandas."""
    return _is_of(value, "pandas", "Series")


def is_table(value: object) -> bool:
    """Whether a value is a table of Arrow."""
    return _is_of(value, "pyarrow", "Table")


def _is_of(value: object, module: str, name: str) -> bool:
    import sys

    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _check_same(frame: pd.DataFrame, table: pa.Table) -> None:
    """Holds a DataFrame against what will come back: its frame in full, its values where Arrow may reinterpret them."""
    import pandas as pd

    try:
        back = frame_of(table)
    except (ValueError, TypeError) as error:
        raise NotStorable(f"The DataFrame would not come back from Parquet: {error}") from None
    for axis, name in ((0, "index"), (1, "columns")):
        ours, theirs = frame.axes[axis], back.axes[axis]
        if not (ours.equals(theirs) and _dtypes(ours) == _dtypes(theirs) and list(ours.names) == list(theirs.names)):
            raise NotStorable(f"The {name} of the DataFrame would not come back equal from Parquet")
    for place, column in enumerate(frame.columns):
        ours, theirs = frame.iloc[:, place], back.iloc[:, place]
        if ours.dtype != theirs.dtype:
            raise NotStorable(
                f"Column {column!r} of dtype {ours.dtype} would come back from Parquet as {theirs.dtype}",
                remedy="Give it that dtype first.",
            )
        if str(ours.dtype) == "object" and not all(map(_same, ours.array, theirs.array)):
            raise NotStorable(
                f"Column {column!r} holds Python objects that would come back changed from Parquet",
                remedy="Give it a dtype of its own, such as str, or a list of JSON.",
            )
        if isinstance(ours.dtype, pd.ArrowDtype | pd.CategoricalDtype) and not ours.equals(theirs):
            raise NotStorable(f"Column {column!r} of dtype {ours.dtype} would come back changed from Parquet")


def _sets_right(table: pa.Table, field: pa.Field) -> bool:
    """Whether `frame_of` gives a column the type that it had, where Parquet has another."""
    pa = _arrow()
    if pa.types.is_dictionary(field.type):
        return _is_text(field.type.value_type) or field.name in _categories(table)
    return bool(pa.types.is_timestamp(field.type) and field.type.unit == "s")


def _dictionary(column: pa.ChunkedArray) -> pa.Array | None:
    unified = column.unify_dictionaries()
    return unified.chunk(0).dictionary if unified.num_chunks else None


def _is_text(kind: pa.DataType) -> bool:
    pa = _arrow()
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _with_categories(table: pa.Table) -> pa.Table:
    """The table with the categories that are no text beside it: Parquet keeps the values of such columns alone."""
    pa = _arrow()
    kept: dict[str, tuple[str, bool]] = {}
    for field in table.schema:
        if pa.types.is_dictionary(field.type) and not _is_text(field.type.value_type):
            values = _dictionary(table.column(field.name))
            if values is not None:
                batch = pa.record_batch([values], names=["categories"])
                with pa.BufferOutputStream() as out:
                    with pa.ipc.new_stream(out, batch.schema) as writer:
                        writer.write_batch(batch)
                    kept[field.name] = (base64.b64encode(out.getvalue()).decode(), bool(field.type.ordered))
    if not kept:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _CATEGORIES: json.dumps(kept)})


def _categories(table: pa.Table) -> dict[str, tuple[Any, bool]]:
    """The categories that `_with_categories` kept: by column, with whether they are ordered."""
    pa = _arrow()
    kept = json.loads((table.schema.metadata or {}).get(_CATEGORIES, b"{}"))
    return {
        name: (pa.ipc.open_stream(base64.b64decode(text)).read_all().column(0).to_pandas().array, ordered)
        for name, (text, ordered) in kept.items()
    }


def _dtypes(index: pd.Index) -> list[Any]:
    """The dtypes of an index, of each level where it has several."""
    return [level.dtype for level in getattr(index, "levels", [index])]


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or hasattr(one, "__array__"):
        return False
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    return bool(one is other or one == other)


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise ExtraMissing(
            "Tables are kept as Parquet by pyarrow, which is missing", remedy="pip install 'asyncfetch[parquet]'"
        ) from None
    return pa
