"""Changes to the index: each a statement and its row, so that those of a batch can be made in one transaction."""

from __future__ import annotations

import sqlite3
from functools import cache
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from asyncfetch.cache.records import RefKey
from asyncfetch.cache.sums import STALE, Sums, drop_blobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncfetch.cache.records import Published, Ref

# In one statement. One for each row took 74,600 instructions for a blob and its ref, of 16 together each takes 58,600.
_MOST_TOGETHER = 16


class Insert(NamedTuple):
    """A statement that inserts rows: its beginning, the places of one row, its end, and what it does to a known row."""

    head: str
    row: str
    tail: str
    known: str
    size: int  # the place of the size in a row
    refs: bool  # else blobs


Statement: TypeAlias = str | Insert
Row: TypeAlias = tuple[str | bytes | int | float | None, ...]
BlobName: TypeAlias = tuple[str, bytes]  # a digest as the index keeps it: the algorithm, and its bytes

# One change to the index. Made by the functions below; plain, as there are two for each object.
Change: TypeAlias = tuple[Statement, Row]

_ONE = "endpoint = ? AND container = ? AND key = ? AND version = ?"

# Not OR REPLACE, whose removal of the old row nobody sees: the sums would not be told.
REMEMBER = Insert(
    "INSERT INTO refs VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
    "DO UPDATE SET digest = excluded.digest, size = excluded.size, etag = excluded.etag,"
    " last_modified = excluded.last_modified, validated = excluded.validated",
    size=6,
    refs=True,
)
_CONFIRM = f"UPDATE refs SET validated = ? WHERE {_ONE} AND algorithm = ? AND digest = ? AND etag IS ?"  # noqa: S608
_FORGET = f"DELETE FROM refs WHERE {_ONE}"  # noqa: S608
_DISOWN = f"{_FORGET} AND algorithm = ? AND digest = ?"
_STORED = Insert(
    "INSERT INTO blobs SELECT *, (SELECT max(epoch) FROM epochs), 0, NULL FROM (VALUES",
    "(?, ?, ?, ?)",
    ") WHERE true",
    "DO UPDATE SET size = excluded.size, used = max(used, excluded.used), epoch = excluded.epoch",
    size=2,
    refs=False,
)
_MET = Insert(
    "INSERT INTO blobs VALUES",
    "(?, ?, ?, ?, -1, 0, NULL)",
    "",
    "DO UPDATE SET size = excluded.size, used = max(used, excluded.used)",
    size=2,
    refs=False,
)
_FOUND = _MET._replace(known="DO UPDATE SET size = excluded.size, epoch = excluded.epoch")
_TOUCH = "UPDATE blobs SET used = ? WHERE algorithm = ? AND digest = ? AND used < ?"
_UNCLAIM = f"DELETE FROM claims WHERE {_ONE} AND algorithm = ? AND owner = ?"  # noqa: S608
_DESCRIBED = "UPDATE blobs SET header = ? WHERE algorithm = ? AND digest = ?"
_DISTRUST = "UPDATE blobs SET epoch = -1 WHERE algorithm = ? AND digest = ?"
_LOST = "blobs that went"  # not a statement: see `drop_blobs`
_LIMITED = "INSERT INTO counters VALUES ('limited', ?) ON CONFLICT DO NOTHING"
_SETTLE = f"INSERT INTO counters VALUES ('{STALE}', 0) ON CONFLICT DO UPDATE SET value = max(0, value - ?)"  # noqa: S608
_COUNT = "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"


def make(connection: sqlite3.Connection, changes: Iterable[Change]) -> int:
    """Makes changes in their order, and returns how many rows they changed. Raises `sqlite3.Error`, `ValueError`."""
    changed, sums = 0, Sums()
    for statement, group in groupby(changes, itemgetter(0)):
        rows: list[Row] = [row for _, row in group]
        if statement is _LOST:
            changed += drop_blobs(connection, rows)  # type: ignore[arg-type]  # they are names of blobs
        elif isinstance(statement, str):
            changed += connection.executemany(statement, rows).rowcount
        else:
            for start in range(0, len(rows), _MOST_TOGETHER):
                changed += _insert(connection, statement, rows[start : start + _MOST_TOGETHER], sums)
    sums.add(connection)
    return changed


def _insert(connection: sqlite3.Connection, insert: Insert, rows: Sequence[Row], sums: Sums) -> int:
    """Inserts rows, all new as a rule; where one is not, which SQLite then undoes all for, each by itself."""
    try:
        connection.execute(_together(insert, len(rows)), list(chain.from_iterable(rows)))
    except sqlite3.IntegrityError:
        changed = 0
        for row in rows:
            if connection.execute(_if_new(insert), row).rowcount:
                _count(insert, [row], sums)
                changed += 1
            else:
                changed += connection.execute(_if_known(insert), row).rowcount
        return changed
    _count(insert, rows, sums)
    return len(rows)


def _count(insert: Insert, rows: Sequence[Row], sums: Sums) -> None:
    size = sum(map(itemgetter(insert.size), rows))
    if insert.refs:
        sums.refs, sums.ref_bytes = sums.refs + len(rows), sums.ref_bytes + size
    else:
        sums.blobs, sums.blob_bytes = sums.blobs + len(rows), sums.blob_bytes + size


@cache
def _together(insert: Insert, count: int) -> str:
    """The statement that inserts so many rows."""
    return f"{insert.head} {', '.join([insert.row] * count)} {insert.tail}"


@cache
def _if_new(insert: Insert) -> str:
    """The statement that inserts a row that is not there."""
    return f"{_together(insert, 1)} ON CONFLICT DO NOTHING"


@cache
def _if_known(insert: Insert) -> str:
    """The statement for a row that is there."""
    return f"{_together(insert, 1)} ON CONFLICT {insert.known}"


def remember(key: RefKey, ref: Ref) -> Change:
    """The object is this blob."""
    return learn(key, split(ref.digest), ref.size, ref.etag, ref.last_modified, ref.validated)


def learn(
    key: RefKey, name: BlobName, size: int, etag: str | None, last_modified: float | None, validated: float
) -> Change:
    """The object is this blob, as a ref that says so would remember it."""
    return REMEMBER, (*key, *name, size, etag, last_modified, validated)


def confirm(key: RefKey, ref: Ref, at: float) -> Change:
    """The object was still what `ref` says at this time; nothing where the index says another thing by now."""
    algorithm, name = split(ref.digest)
    return _CONFIRM, (at, *key, algorithm, name, ref.etag)


def forget(key: RefKey) -> Change:
    """There is no such object."""
    return _FORGET, key


def disown(key: RefKey, digest: str) -> Change:
    """The object is not this blob any more; nothing where the index says another thing by now."""
    return _DISOWN, (*key, *split(digest))


def forgotten(change: Change) -> RefKey | None:
    """The object that a change has forgotten, None for another change."""
    statement, row = change
    return RefKey(*row) if statement is _FORGET else None  # type: ignore[arg-type]  # a key's own row


def stored(digest: str, size: int, at: float) -> Change:
    """The blob was written just now: it belongs to the open epoch."""
    return _STORED, (*split(digest), size, at)


def met(digest: str, size: int, at: float) -> Change:
    """The blob lay there when it was wanted; one that the index did not know may not be whole."""
    return _MET, (*split(digest), size, at)


def inherited(digest: str, size: int, at: float) -> Change:
    """The blob lies there, and who placed it is dead: nothing vouches for its bytes, whatever the index says."""
    return _FOUND, (*split(digest), size, at)


def placed(name: BlobName, published: Published, at: float) -> Change:
    """The blob is in its place by now: `stored`, or `met` there."""
    return _STORED if published.stored else _MET, (*name, published.size, at)


def stored_bytes(changes: Iterable[Change]) -> int:
    """The bytes of the blobs that these changes by `placed` say were written just now."""
    return sum(int(row[_STORED.size] or 0) for statement, row in changes if statement is _STORED)


def touch(digest: str, at: float) -> Change:
    """Somebody uses this blob."""
    algorithm, name = split(digest)
    return _TOUCH, (at, algorithm, name, at)


def lost(digest: str) -> Change:
    """The blob is not there any more, or is no good."""
    return _LOST, split(digest)


def described(digest: str, header: int) -> Change:
    """What the header of the image in a blob says; nothing where the index does not know the blob."""
    return _DESCRIBED, (header, *split(digest))


def distrust(digest: str) -> Change:
    """Nothing vouches for the bytes of this blob."""
    return _DISTRUST, split(digest)


def count(name: str, number: int) -> Change:
    """Adds to a counter that lives as long as the index."""
    return _COUNT, (name, number)


def settle(blobs: int) -> Change:
    """The objects of so many blobs that went are forgotten."""
    return _SETTLE, (blobs,)


def unclaim(key: RefKey, algorithm: str, owner: str) -> Change:
    """An owner does not bring the object any more, if it was the one that did."""
    return _UNCLAIM, (*key, algorithm, owner)


def blob_of(change: Change) -> str:
    """The digest that a change by `stored`, `met` or `touch` is about."""
    statement, row = change
    algorithm, name = row[1:3] if statement is _TOUCH else row[:2]
    assert isinstance(algorithm, str)
    assert isinstance(name, bytes)
    return f"{algorithm}:{name.hex()}"


def limited(at: float) -> Change:
    """Somebody evicts, since then: a time in s since 1970."""
    return _LIMITED, (at,)


def split(digest: str) -> BlobName:
    """A digest as the index keeps it."""
    algorithm, _, name = digest.partition(":")
    return algorithm, bytes.fromhex(name)
