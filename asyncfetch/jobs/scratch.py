"""A database for as long as a job needs it: what is too much for memory and not worth a file that stays."""

from __future__ import annotations

import sqlite3
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

BATCH = 1000  # rows written or read at once, as many as a page of a listing has
_CACHE_KIB = 16_384


def scratch() -> sqlite3.Connection:
    """A new database in the system's temporary directory (SQLITE_TMPDIR, TMPDIR), in a file without a name.

    It holds 16 MiB in memory, and is gone when it is closed or its process ends, however that ends. It may be used by
    several threads, one at a time.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "temp_store = FILE"):
        database.execute(f"PRAGMA {pragma}")
    database.text_factory = _decoded
    return database


def text(value: str) -> bytes:
    """A text as it is handed in, for `CAST(? AS TEXT)`: names of files may hold surrogates (PEP 383)."""
    return value.encode("utf-8", "surrogatepass")


def define(database: sqlite3.Connection, name: str, function: Callable[..., str | None]) -> None:
    """Makes a pure function of texts one of SQL, which takes and gives blobs: for `CAST(… AS BLOB)`, and back.

    sqlite3 decodes a text for a function by itself, and not one with surrogates.
    """

    def call(*values: bytes | None) -> bytes | None:
        result = function(*[None if value is None else _decoded(value) for value in values])
        return None if result is None else text(result)

    database.create_function(name, -1, call, deterministic=True)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, so many at a time as are written at once."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
