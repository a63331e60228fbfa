"""Objects as the bytes that are stored of them, and back.

What an object is encoded to is a temporary file, a file of the user's, or bytes where they are few. A
large array is hashed as it lies in memory, and written into a file only when its bytes turn out to be new.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from asyncfetch.datastore import arrays, tables
from asyncfetch.datastore.canonical import decode_json, encode_json
from asyncfetch.datastore.digests import HashingFile, measure, stamp_of
from asyncfetch.datastore.errors import DataDamaged, NotStorable, SourceChanged
from asyncfetch.datastore.layout import plain_extension

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.datastore.references import Kind

INLINE = 4 << 20  # bytes: up to so many are held in memory, read once, and sent as they were hashed

_EXTENSIONS: dict[Kind, str] = {
    "dataframe": "parquet",
    "table": "parquet",
    "array": "npy",
    "json": "json",
    "bytes": "bin",
    "directory": "tree",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of an object: their digest, how many, and where they are.

    `body` is the bytes themselves, the path of a file, or what writes them into a file when they are needed.
    """

    kind: Kind
    extension: str
    digest: str
    size: int
    body: bytes | Path | Callable[[Path], object]
    stamp: tuple[int, int, int, int] | None = None  # of a file that is the user's

    def check(self) -> None:
        """Raises `SourceChanged` where the user's file is not the one that was hashed. Blocks."""
        if self.stamp is not None and isinstance(self.body, Path) and stamp_of(self.body) != self.stamp:
            raise SourceChanged(f"{self.body}: it was written while it was stored")


def encode(obj: object, spool: Path) -> Encoded:
    """Encodes anything but a directory, a table into the file `spool`. Blocks.

    Raises `NotStorable` for what would not come back as it is, and may leave the file then.
    """
    if isinstance(obj, bytes | bytearray | memoryview):
        return held("bytes", bytes(obj))
    if isinstance(obj, os.PathLike):
        return _encode_file(Path(cast("os.PathLike[str]", obj)))
    if isinstance(obj, dict | list):
        return held("json", encode_json(obj, f"the {type(obj).__name__}"))
    if _is_array(obj):
        return _encode_array(obj)
    if tables.is_frame(obj):
        return _encode_frame(cast("Any", obj), spool)
    if tables.is_table(obj):
        return _encode_table(cast("Any", obj), spool)
    raise NotStorable(_refusal(obj), remedy=_remedy(obj))


def held(kind: Kind, data: bytes) -> Encoded:
    """Bytes that are in memory."""
    hashing = HashingFile()
    hashing.write(data)
    return Encoded(kind, _EXTENSIONS[kind], hashing.digest, hashing.size, data)


def decode(kind: Kind, path: Path, uri: str) -> Any:
    """The object that was encoded into a file: an array, DataFrame, table, dict, list or bytes. Blocks.

    Nothing is unpickled. Raises `DataDamaged`, which names `uri`, for a file that is of another kind.
    """
    try:
        match kind:
            case "array":
                return arrays.read_array(path)
            case "dataframe":
                return tables.frame_of(tables.read_table(path))
            case "table":
                return tables.read_table(path)
            case "json":
                return decode_json(path.read_bytes(), uri)
            case _:
                return path.read_bytes()
    except (ValueError, EOFError) as error:
        raise DataDamaged(f"{uri}: it cannot be read as {kind}: {error}") from None


def kind_of(extension: str) -> Kind:
    """What data of which nothing else is known comes back as."""
    told: dict[str, Kind] = {
        "npy": "array",
        "parquet": "dataframe",
        "json": "json",
        "tree": "directory",
        "bin": "bytes",
    }
    return told.get(extension, "file")


def _encode_file(path: Path) -> Encoded:
    if not path.is_file():
        raise NotStorable(f"{path} is neither file nor directory" if path.exists() else f"{path} does not exist")
    pieces = BytesIO()

    def keep(piece: bytes) -> None:
        if pieces.tell() + len(piece) <= INLINE:
            pieces.write(piece)

    measured = measure(path, keep)
    extension = plain_extension(path.suffix)
    if measured.size == pieces.tell():  # small enough to have been kept whole
        return Encoded("file", extension, measured.digest, measured.size, pieces.getvalue())
    return Encoded("file", extension, measured.digest, measured.size, path.absolute(), measured.stamp)


def _is_array(obj: object) -> bool:
    import sys

    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, numpy.ndarray)


def _encode_array(array: Any) -> Encoded:
    version = arrays.check_array(array)
    if array.nbytes <= INLINE:
        small = BytesIO()
        arrays.write_array(array, HashingFile(small), version)
        return held("array", small.getvalue())
    hashing = HashingFile()
    arrays.write_array(array, hashing, version)
    return Encoded("array", "npy", hashing.digest, hashing.size, partial(_write_array, array, version, hashing.digest))


def _write_array(array: Any, version: tuple[int, int], digest: str, path: Path) -> None:
    with path.open("xb") as file:
        hashing = HashingFile(file)
        arrays.write_array(array, hashing, version)
    if hashing.digest != digest:
        raise SourceChanged("The array was changed while it was stored")


def _encode_frame(frame: Any, spool: Path) -> Encoded:
    written = _write_table(tables.table_of(frame), spool)
    tables.check_frame(frame, spool)
    return Encoded("dataframe", "parquet", written.digest, written.size, spool)


def _encode_table(table: Any, spool: Path) -> Encoded:
    written = _write_table(table, spool)
    tables.check_table(table, spool)
    return Encoded("table", "parquet", written.digest, written.size, spool)


def _write_table(table: Any, spool: Path) -> HashingFile:
    with spool.open("xb") as file:
        hashing = HashingFile(file)
        tables.write_table(table, hashing)
    return hashing


def _refusal(obj: object) -> str:
    if isinstance(obj, str):
        return "A text could be data, or the path of a file"
    return f"A store does not keep objects of type {type(obj).__name__}"


def _remedy(obj: object) -> str:
    if isinstance(obj, str):
        return 'Store Path(text) for the file, text.encode() or {"text": text} for the text.'
    if tables.is_series(obj):
        return "Store its .to_frame()."
    if hasattr(obj, "dtype"):
        return "Store np.asarray(…) of it."
    return "It keeps arrays, tables of pandas and Arrow, dicts and lists of JSON, bytes, files and directories."
