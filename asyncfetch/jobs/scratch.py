"""A database for as long as a job needs it: what is too much for memory and not worth a file that stays."""

from __future__ import annotations

import sqlite3

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


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
