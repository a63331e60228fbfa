"""Changes to the index: each a statement and its row, so that those of a batch can be made in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.records import RefKey

if TYPE_CHECKING:
    from asyncfetch.cache.records import Ref

_ONE = "endpoint = ? AND container = ? AND key = ? AND version = ?"

# Not OR REPLACE, whose removal of the old row no trigger sees: the sums would not be told.
_REMEMBER = """
INSERT INTO refs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest,
size = excluded.size, etag = excluded.etag, last_modified = excluded.last_modified, validated = excluded.validated
"""
_CONFIRM = f"UPDATE refs SET validated = ? WHERE {_ONE} AND algorithm = ? AND digest = ? AND etag IS ?"  # noqa: S608
_FORGET = f"DELETE FROM refs WHERE {_ONE}"  # noqa: S608
_DISOWN = f"{_FORGET} AND algorithm = ? AND digest = ?"
_STORED = """
INSERT INTO blobs VALUES (?, ?, ?, ?, (SELECT max(epoch) FROM epochs), 0) ON CONFLICT DO UPDATE SET
size = excluded.size, used = max(used, excluded.used), epoch = excluded.epoch
"""
_MET = """
INSERT INTO blobs VALUES (?, ?, ?, ?, -1, 0) ON CONFLICT DO UPDATE SET
size = excluded.size, used = max(used, excluded.used)
"""
_TOUCH = "UPDATE blobs SET used = ? WHERE algorithm = ? AND digest = ? AND used < ?"
_UNCLAIM = f"DELETE FROM claims WHERE {_ONE} AND algorithm = ? AND owner = ?"  # noqa: S608
_DISTRUST = "UPDATE blobs SET epoch = -1 WHERE algorithm = ? AND digest = ?"
_LOST = "DELETE FROM blobs WHERE algorithm = ? AND digest = ?"
_COUNT = "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"

Row = tuple[str | bytes | int | float | None, ...]


class Change(NamedTuple):
    """One change to the index, as a statement and its row. Made by the functions below."""

    statement: str
    row: Row


def remember(key: RefKey, ref: Ref) -> Change:
    """The object is this blob."""
    algorithm, name = split(ref.digest)
    return Change(_REMEMBER, (*key, algorithm, name, ref.size, ref.etag, ref.last_modified, ref.validated))


def confirm(key: RefKey, ref: Ref, at: float) -> Change:
    """The object was still what `ref` says at this time; nothing where the index says another thing by now."""
    algorithm, name = split(ref.digest)
    return Change(_CONFIRM, (at, *key, algorithm, name, ref.etag))


def forget(key: RefKey) -> Change:
    """There is no such object."""
    return Change(_FORGET, tuple(key))


def disown(key: RefKey, digest: str) -> Change:
    """The object is not this blob any more; nothing where the index says another thing by now."""
    return Change(_DISOWN, (*key, *split(digest)))


def forgotten(change: Change) -> RefKey | None:
    """The object that a change has forgotten, None for another change."""
    return RefKey(*change.row) if change.statement is _FORGET else None  # type: ignore[arg-type]  # a key's own row


def stored(digest: str, size: int, at: float) -> Change:
    """The blob was written just now: it belongs to the open epoch."""
    return Change(_STORED, (*split(digest), size, at))


def met(digest: str, size: int, at: float) -> Change:
    """The blob lay there when it was wanted; one that the index did not know may not be whole."""
    return Change(_MET, (*split(digest), size, at))


def touch(digest: str, at: float) -> Change:
    """Somebody uses this blob."""
    algorithm, name = split(digest)
    return Change(_TOUCH, (at, algorithm, name, at))


def lost(digest: str) -> Change:
    """The blob is not there any more, or is no good."""
    return Change(_LOST, split(digest))


def distrust(digest: str) -> Change:
    """Nothing vouches for the bytes of this blob."""
    return Change(_DISTRUST, split(digest))


def count(name: str, number: int) -> Change:
    """Adds to a counter that lives as long as the index."""
    return Change(_COUNT, (name, number))


def unclaim(key: RefKey, algorithm: str, owner: str) -> Change:
    """An owner does not bring the object any more, if it was the one that did."""
    return Change(_UNCLAIM, (*key, algorithm, owner))


def blob_of(change: Change) -> str:
    """The digest that a change by `stored`, `met` or `touch` is about."""
    algorithm, name = change.row[1:3] if change.statement is _TOUCH else change.row[:2]
    assert isinstance(algorithm, str)
    assert isinstance(name, bytes)
    return f"{algorithm}:{name.hex()}"


def split(digest: str) -> tuple[str, bytes]:
    """A digest as the index keeps it."""
    algorithm, _, name = digest.partition(":")
    return algorithm, bytes.fromhex(name)
