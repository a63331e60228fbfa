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
_RENAME = "Rename them."
_ROWS = 1 << 20  # in a row group: the default of Parquet writers, said here because digests follow from it


def table_of(frame: pd.DataFrame) -> pa.Table:
    """A DataFrame as a table of Arrow, from which `frame_of` makes an equal one.

    Raises `NotStorable` for what it can tell at once would not come back; `check_frame` finds the rest.
    """
    pa = _arrow()
    import pandas as pd

    if type(frame) is not pd.DataFrame:
        raise NotStorable(f"A {type(frame).__name__} would come back as a plain DataFrame")
    if not frame.columns.is_unique:
        raise NotStorable("Columns of the same name cannot be told apart in Parquet", remedy=_RENAME)
    if len({type(name) for name in frame.columns}) > 1 or any(name is None for name in frame.columns):
        raise NotStorable("Columns whose names are of several types, or None, would come back as text", remedy=_RENAME)
    if not all(isinstance(name, str | None) for name in frame.index.names):
        raise NotStorable(f"The names {list(frame.index.names)} of the index would come back as text", remedy=_RENAME)
    if not frame.flags.allows_duplicate_labels:
        raise NotStorable("That a DataFrame allows no duplicate labels would be forgotten")
    try:
        if json.loads(json.dumps(frame.attrs)) != frame.attrs:
            raise TypeError("it has more than JSON has words for")
    except (ValueError, TypeError) as error:
        raise NotStorable(f"The attrs of the DataFrame would not come back from Parquet: {error}") from None
    # A plain count of rows lies beside the columns: where there are none, it needs one of its own.
    alone = len(frame) > 0 and not len(frame.columns)
    try:
        return _with_categories(pa.Table.from_pandas(frame, preserve_index=True if alone else None))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise NotStorable(f"The DataFrame cannot be kept as Parquet: {error}") from None


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
        elif field in categories:
            frame.isetitem(place, frame.iloc[:, place].astype(categories[field]))
    index = (table.schema.pandas_metadata or {}).get("index_columns", ())
    if len(index) == 1 and isinstance(index[0], str):
        if was.get(index[0]) == "datetime64[s]" and isinstance(frame.index, pd.DatetimeIndex):
            frame.index = frame.index.as_unit("s")
        elif index[0] in categories:
            frame.index = frame.index.astype(categories[index[0]])
    return frame


def write_table(table: pa.Table, file: HashingFile) -> None:
    """Writes a table: equal tables, in however many pieces they lie in memory, as equal bytes. Blocks."""
    pa = _arrow()
    import pyarrow.parquet as pq

    if len(set(table.column_names)) < table.num_columns:
        raise NotStorable("Columns of the same name cannot be told apart in Parquet", remedy=_RENAME)
    plain = table.combine_chunks().unify_dictionaries()
    try:
        with pq.ParquetWriter(file, plain.schema, version="2.6", compression="zstd", store_schema=True) as writer:
            writer.write_table(plain, row_group_size=_ROWS)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise NotStorable(f"The table cannot be kept as Parquet: {error}") from None


def check_frame(frame: pd.DataFrame, path: Path) -> None:
    """Reads back what was written of a DataFrame, and holds one against the other. Blocks.

    Raises `NotStorable` for what is not equal, in value or dtype, and names the column.
    """
    try:
        back = frame_of(read_table(path))
    except (ValueError, TypeError) as error:
        raise NotStorable(f"The DataFrame would not come back from Parquet: {error}") from None
    if back.attrs != frame.attrs:
        raise NotStorable("The attrs of the DataFrame would not come back equal from Parquet")
    for axis, name in ((0, "index"), (1, "columns")):
        ours, theirs = frame.axes[axis], back.axes[axis]
        if not (ours.equals(theirs) and _dtypes(ours) == _dtypes(theirs) and list(ours.names) == list(theirs.names)):
            raise NotStorable(
                f"The {name} of the DataFrame would not come back equal from Parquet",
                remedy="Use .reset_index()." if axis == 0 else _RENAME,
            )
    for place, column in enumerate(frame.columns):
        ours, theirs = frame.iloc[:, place], back.iloc[:, place]
        if ours.dtype != theirs.dtype:
            raise NotStorable(
                f"Column {column!r} of dtype {_said(ours.dtype)} would come back from Parquet as {_said(theirs.dtype)}",
                remedy="Give it that dtype first.",
            )
        if str(ours.dtype) == "object":
            if not all(map(_same, ours.array, theirs.array)):
                raise NotStorable(
                    f"Column {column!r} holds Python objects that would come back changed from Parquet",
                    remedy="Give it a dtype of its own, such as str, or a list of JSON.",
                )
        elif not ours.equals(theirs):
            raise NotStorable(f"Column {column!r} of dtype {_said(ours.dtype)} would come back changed from Parquet")


def check_table(table: pa.Table, path: Path) -> None:
    """Holds what was written of a table against it: its rows, types, and the values where categories may have got lost.

    Blocks. Raises `NotStorable`, and names the column.
    """
    pa = _arrow()
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if file.metadata.num_rows != table.num_rows:
        raise NotStorable(f"A table of {table.num_rows:,} rows without columns would come back without rows")
    for place, field in enumerate(table.schema):
        kept = file.schema_arrow.field(place)
        if kept.type != field.type or kept.nullable != field.nullable:
            raise NotStorable(
                f"Column {field.name!r} of type {field.type} would come back from Parquet as {kept.type}",
                remedy="Give it that type first.",
            )
        if pa.types.is_dictionary(field.type):
            ours, theirs = _dictionary(table.column(place)), _dictionary(file.read([field.name]).column(0))
            if ours is not None and theirs is not None and not ours.cast(theirs.type).equals(theirs):
                raise NotStorable(
                    f"Column {field.name!r} has categories that Parquet would lose, or their order",
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


def _said(dtype: Any) -> str:
    """A dtype as pandas shows it, with what tells those apart that have one name."""
    return repr(dtype) if str(dtype) == "string" else str(dtype)


def _dictionary(column: pa.ChunkedArray) -> pa.Array | None:
    unified = column.unify_dictionaries()
    return unified.chunk(0).dictionary if unified.num_chunks else None


def _with_categories(table: pa.Table) -> pa.Table:
    """The table with the categories beside it that Parquet does not keep: those that are no text, or have no values."""
    pa = _arrow()
    kept: dict[str, tuple[str, bool]] = {}
    for place, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        column, kind = table.column(place), field.type.value_type
        if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and column.null_count < len(column):
            continue
        values = _dictionary(column)
        if values is not None:
            batch = pa.record_batch([values], names=["categories"])
            with pa.BufferOutputStream() as out:
                with pa.ipc.new_stream(out, batch.schema) as writer:
                    writer.write_batch(batch)
                kept[field.name] = (base64.b64encode(out.getvalue()).decode(), bool(field.type.ordered))
    if not kept:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _CATEGORIES: json.dumps(kept)})


def _categories(table: pa.Table) -> dict[str, pd.CategoricalDtype]:
    """The dtypes of which `_with_categories` kept the categories, by column."""
    pa = _arrow()
    import pandas as pd

    kept = json.loads((table.schema.metadata or {}).get(_CATEGORIES, b"{}"))
    return {
        name: pd.CategoricalDtype(
            pa.ipc.open_stream(base64.b64decode(text)).read_all().column(0).to_pandas().array, ordered=ordered
        )
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
