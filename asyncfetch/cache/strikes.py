"""Strikes: how often bytes have killed who used them, by their digest, kept from run to run.

They are counted apart from blobs, because bytes that were evicted and come again are the same bytes. They go with the
index: after that the bytes have to kill once more to be known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.changes import Change, split
from asyncfetch.errors import CacheUnusable

if TYPE_CHECKING:
    import sqlite3

    from asyncfetch.cache.index import Index

_STRIKE = """
INSERT INTO strikes VALUES (?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET
count = count + 1, why = excluded.why, last = excluded.last
"""
_LIFT = "DELETE FROM strikes WHERE algorithm = ? AND digest = ?"
_READ = "SELECT algorithm, digest, count, why, last FROM strikes ORDER BY last, digest"


class Strikes(NamedTuple):
    """What is known of bytes that have killed."""

    deaths: int
    why: str  # how it ended the last time
    last: float  # when that was, in seconds since 1970


def strike(digest: str, why: str, at: float) -> Change:
    """The bytes have killed once more."""
    return _STRIKE, (*split(digest), why, at)


def lift(digest: str) -> Change:
    """The bytes are as if they had never killed."""
    return _LIFT, split(digest)


def read(connection: sqlite3.Connection) -> dict[str, Strikes]:
    """All strikes by digest, the oldest first. Raises `sqlite3.Error`."""
    rows = connection.execute(_READ).fetchall()
    return {f"{algorithm}:{digest.hex()}": Strikes(*rest) for algorithm, digest, *rest in rows}


def known(index: Index) -> dict[str, Strikes]:
    """The same of an index that may not be readable: then none."""
    try:
        return index.ask(read)
    except CacheUnusable:
        return {}


def add(index: Index, digest: str, why: str, at: float) -> dict[str, Strikes]:
    """Counts a strike, and gives what all processes have counted by now."""
    index.apply([strike(digest, why, at)])
    return known(index)
