"""NumPy arrays as npy files (format versions 1.0 to 3.0, NEP 1), never with a pickle in them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from asyncfetch.datastore.errors import NotStorable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from asyncfetch.datastore.digests import HashingFile

_HEADER = 1 << 20  # bytes: NumPy's own limit, 10,000, is of some 300 named fields; the digest vouches for the text


def check_array(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Sees that an array will come back as it is, and gives the version of the format that can hold it.

    Raises `NotStorable` for dtypes that need a pickle or lose something, and for subclasses such as masked arrays.
    """
    import numpy as np

    if type(array) not in (np.ndarray, np.memmap):
        raise NotStorable(
            f"A {type(array).__name__} would come back as a plain array", remedy="Store np.asarray(…) of it."
        )
    if array.dtype.hasobject:
        raise NotStorable(
            f"An array of dtype {array.dtype} holds Python objects, which only a pickle could keep",
            remedy="Give it a dtype of numbers, text or dates, or store a dict or list.",
        )
    if _has_metadata(array.dtype):
        raise NotStorable(
            "An array whose dtype carries metadata would lose it", remedy="Use .astype with a plain dtype."
        )
    for version in ((1, 0), (2, 0), (3, 0)):
        try:
            told = _dtype_of(array.dtype, version)
        except ValueError:  # too long, or not latin-1
            continue
        if told == array.dtype:
            return version
        break
    raise NotStorable(f"An array of dtype {array.dtype} would not come back with this dtype")


def write_array(array: npt.NDArray[Any], file: HashingFile, version: tuple[int, int]) -> None:
    """Writes an array into a file, in pieces, in C or Fortran order as it has it. Blocks."""
    import numpy as np

    np.lib.format.write_array(file, array, version=version, allow_pickle=False)


def read_array(path: Path) -> npt.NDArray[Any]:
    """Reads an array, whole, into memory of its own. Raises `ValueError` for what is no npy file. Blocks."""
    import numpy as np

    array: npt.NDArray[Any] = np.load(path, allow_pickle=False, max_header_size=_HEADER)
    return array


def _has_metadata(dtype: np.dtype[Any]) -> bool:
    fields: Mapping[str, Any] = dtype.fields or {}
    return (
        dtype.metadata is not None
        or (dtype.subdtype is not None and _has_metadata(dtype.subdtype[0]))
        or any(_has_metadata(field[0]) for field in fields.values())
    )


def _dtype_of(dtype: np.dtype[Any], version: tuple[int, int]) -> np.dtype[Any]:
    """The dtype that is read where this one was written. Raises `ValueError` when it cannot be written so."""
    import numpy as np

    file = io.BytesIO()
    np.lib.format.write_array(file, np.empty(0, dtype), version=version, allow_pickle=False)
    file.seek(0)
    told: np.dtype[Any] = np.load(file, allow_pickle=False, max_header_size=_HEADER).dtype
    return told
