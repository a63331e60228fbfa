"""What is stored comes back equal, in value, dtype and shape, or is refused by name before anything is sent."""

from __future__ import annotations

import decimal
import hashlib
import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asyncfetch.datastore import DataStore, NotStorable
from asyncfetch.datastore.encoding import Encoded, decode, encode
from tests.datastore.conftest import everywhere
from tests.soak import examples

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.integer_dtypes(endianness=">"),
    hnp.floating_dtypes(endianness=">"),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.byte_string_dtypes(),
    hnp.array_dtypes(allow_subarrays=True),
)


def through(obj: object, scratch: Path) -> Any:
    """An object after its encoding and decoding, without a store."""
    encoded = encoded_of(obj, scratch)
    path = scratch / "there"
    if isinstance(encoded.body, bytes):
        path.write_bytes(encoded.body)
    elif isinstance(encoded.body, Path):
        path.write_bytes(encoded.body.read_bytes())
    else:
        path.unlink(missing_ok=True)
        encoded.body(path)
    data = path.read_bytes()
    assert (encoded.digest, encoded.size) == (hashlib.sha256(data).hexdigest(), len(data))
    return decode(encoded.kind, path, "there")


def encoded_of(obj: object, scratch: Path) -> Encoded:
    return encode(obj, scratch / os.urandom(8).hex())


def with_attrs(frame: pd.DataFrame, attrs: dict[Any, Any]) -> pd.DataFrame:
    frame.attrs = attrs
    return frame


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=examples(60))
@given(
    hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=4), fill=st.nothing()),
    st.sampled_from(["C", "F", "reversed"]),
)
def test_an_array_comes_back_as_it_was(tmp_path: Path, array: npt.NDArray[Any], order: str) -> None:
    if order == "F":
        array = np.asfortranarray(array)
    elif array.ndim and order == "reversed":
        array = array[::-1]
    back = through(array, tmp_path)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["f2", "?", ">f8", "M8[ns]", "m8[D]", "V7", [("a", "i4"), ("日本", "f8", (2, 3))]])
def test_arrays_of_a_dtype_that_is_easily_lost(tmp_path: Path, dtype: Any) -> None:
    array = np.zeros((2, 0, 3), dtype)
    back = through(array, tmp_path)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)


def test_a_large_array_is_written_only_when_its_bytes_are_new(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(4_000_000.0).reshape(2000, 2000))
    assert not isinstance(encoded_of(array, tmp_path).body, bytes | Path)
    np.testing.assert_array_equal(through(array, tmp_path), array, strict=True)


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (np.array([object()]), "pickle"),
        (np.zeros(2, [("a", "O")]), "pickle"),
        (np.ma.masked_array([1, 2], [True, False]), "MaskedArray"),
        (np.zeros(2, {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]}), "dtype"),
        (np.zeros(1, np.dtype("i4", metadata={"a": 1})), "metadata"),
        (np.float64(1), "float64"),
        ("results.csv", "Path"),
        (None, "NoneType"),
        (3, "int"),
        (pd.Series([1]), r"\.to_frame"),
        (pd.DataFrame({"a": [1j]}), "Parquet"),
        (pd.DataFrame({"a": [[1], [2]]}), "'a'"),
        (pd.DataFrame({"a": [{"x": 1}, {"y": 1}]}), "'a'"),
        (pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}), "Parquet"),
        (pd.DataFrame({"a": pd.Series(["x", np.nan], dtype=object)}), "'a'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "same name"),
        (pd.DataFrame([[1, 2]], columns=["a", 1]), "several types"),
        (pd.DataFrame([[1]], columns=[None]), "None"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([3], name=0)), "index"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([1], dtype=object)), "reset_index"),
        (pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False), "duplicate labels"),
        (with_attrs(pd.DataFrame({"a": [1]}), {"a": (1, 2)}), "attrs"),
        (with_attrs(pd.DataFrame({"a": [1]}), {"a": object()}), "attrs"),
        (pd.DataFrame({"a": pd.arrays.FloatingArray(np.array([1, np.nan]), np.array([False, False]))}), "'a'"),
        (pd.DataFrame({"a": pd.array(["x"], pd.StringDtype("python"))}), "storage='python'"),
        (pd.DataFrame({"a": np.array([2**62], "M8[s]")}), "Parquet"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), "same name"),
        (pa.table({"a": [1, 2]}).select([]), "without rows"),
        (pa.table({"a": pa.array([1, 2]).dictionary_encode()}), "'a'"),
        (pa.table({"a": pa.array([1], pa.timestamp("s"))}), "'a'"),
        (Path("/nowhere/at/all"), "does not exist"),
        (Path("/dev/null"), "neither"),
    ],
)
def test_what_would_not_come_back_is_refused_by_name(tmp_path: Path, obj: object, told: str) -> None:
    with pytest.raises(NotStorable, match=told):
        encoded_of(obj, tmp_path)


FRAMES = {
    "rows without columns": pd.DataFrame(index=range(3)),
    "an index without columns": pd.DataFrame(index=["x", "y"]),
    "an index of seconds": pd.DataFrame({"a": [1]}, index=pd.DatetimeIndex(np.array(["2026-01-01"], "M8[s]"))),
    "an index of categories": pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex([5, 6], categories=[6, 5, 4])),
    "no values of categories": pd.DataFrame({"a": pd.Categorical([], categories=["p", "q"], ordered=True)}),
    "no known category": pd.DataFrame({"a": pd.Categorical([None, None], categories=["p", "q"])}),
    "attrs": with_attrs(pd.DataFrame({"a": [1]}), {"unit": ["m", 2]}),
    "infinities": pd.DataFrame({"a": [np.inf, -np.inf, np.nan]}),
    "an index twice": pd.DataFrame({"a": [1, 2]}, index=["x", "x"]),
    "an index named as a column": pd.DataFrame({"a": [1, 2]}, index=pd.Index([3, 4], name="a")),
    "gaps in an index of two": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "x"), (2, None)])),
    "columns of times": pd.DataFrame([[1, 2]], columns=pd.date_range("2026", periods=2, tz="UTC")),
    "columns in their order": pd.DataFrame({"b": [1, 2], "a": [1.5, np.nan]}),
    "text with gaps": pd.DataFrame({"a": ["x", None]}),
    "text as objects": pd.DataFrame({"a": pd.Series(["x", None], dtype=object)}),
    "numbers as objects": pd.DataFrame({"a": pd.Series([1, 2], dtype=object)}),
    "bytes": pd.DataFrame({"a": pd.Series([b"x", b"\0"], dtype=object)}),
    "dates and decimals": pd.DataFrame({"a": [date(2026, 1, 1)], "b": [decimal.Decimal("1.20")]}),
    "categories": pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["z", "y", "x"], ordered=True)}),
    "categories of numbers": pd.DataFrame({"a": pd.Categorical([1, 2], categories=[3, 2, 1])}),
    "time zones": pd.DataFrame({"a": pd.date_range("2026", periods=2, tz="Europe/Berlin")}),
    "seconds": pd.DataFrame({"a": pd.date_range("2026", periods=2).astype("M8[s]")}),
    "nanoseconds": pd.DataFrame({"a": pd.date_range("2026", periods=2).astype("M8[ns]")}),
    "durations": pd.DataFrame({"a": pd.to_timedelta([1, 2], unit="s")}),
    "periods and intervals": pd.DataFrame(
        {"a": pd.period_range("2026", periods=2, freq="M"), "b": pd.interval_range(0, 2)}
    ),
    "numbers with gaps": pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")}),
    "small numbers": pd.DataFrame({"a": np.array([1, 2], "f2"), "b": np.array([1, 2], "u1")}),
    "signs of zero": pd.DataFrame({"a": [0.0, -0.0]}),
    "an index with a name": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="k")),
    "an index of two": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "x"), (2, "y")])),
    "a range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2)),
    "columns of two": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "columns of numbers": pd.DataFrame([[1, 2]]),
    "nothing": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="i4")}),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_dataframe_comes_back_as_it_was_and_has_one_digest(tmp_path: Path, frame: pd.DataFrame) -> None:
    back = through(frame, tmp_path)
    pd.testing.assert_frame_equal(back, frame, check_freq=False, check_exact=True)
    assert back.attrs == frame.attrs
    assert encoded_of(frame.copy(deep=True), tmp_path).digest == encoded_of(frame, tmp_path).digest


def test_a_table_keeps_its_names_metadata_and_what_may_be_missing(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a.b", pa.int64(), nullable=False), pa.field("", pa.string())], {"k": "v"})
    table = pa.table([pa.array([1]), pa.array([None], pa.string())], schema=schema)
    back = through(table, tmp_path)
    assert back.equals(table, check_metadata=True)
    assert not back.schema.field("a.b").nullable


def test_equal_tables_have_one_digest_in_whatever_pieces_they_lie(tmp_path: Path) -> None:
    whole = pa.table({"a": [1, None, 3], "c": pa.array(["x", "y", "x"]).dictionary_encode()})
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert encoded_of(whole, tmp_path).digest == encoded_of(pieces, tmp_path).digest
    assert through(pieces, tmp_path).equals(whole)


def test_names_and_metadata_of_a_table_count(tmp_path: Path) -> None:
    table = pa.table({"a": [1], "b": [2]})
    assert (
        len(
            {
                encoded_of(other, tmp_path).digest
                for other in (table, table.select(["b", "a"]), table.rename_columns(["a", "c"]))
            }
        )
        == 3
    )


@everywhere
async def test_everything_comes_back_from_a_store(store: DataStore, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "ü x.txt").write_text("text")
    (folder / "large.bin").write_bytes(os.urandom(9 << 20))
    objects: list[Any] = [{"a": [1, 2.5, "ü"]}, [], b"", b"bytes", folder / "large.bin", folder]
    references = [await store.store_data(obj) for obj in objects]
    back = [await store.retrieve_data(reference) for reference in references]
    assert back[:4] == objects[:4]
    assert (back[4].name, back[4].read_bytes()) == ("large.bin", (folder / "large.bin").read_bytes())
    assert files(back[5]) == files(folder)
    array = await store.store_data(np.arange(6, dtype=">i2").reshape(2, 3))
    np.testing.assert_array_equal(await store.retrieve_data(array.digest), np.arange(6).reshape(2, 3))
    frame = await store.store_data(FRAMES["categories"])
    pd.testing.assert_frame_equal(await store.retrieve_data(f"sha256:{frame.digest}"), FRAMES["categories"])
    table = await store.store_data(pa.table({"a": [1]}))
    assert (await store.retrieve_data(table.digest)).equals(pa.table({"a": [1]}))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
