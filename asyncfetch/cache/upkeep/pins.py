"""Pins: what begins with a prefix is not evicted, whoever fetches it and whenever."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.changes import split
from asyncfetch.cache.upkeep.catalog import PAGE, Pin
from asyncfetch.cache.upkeep.selection import Selection
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asyncfetch.cache.upkeep.session import Upkeep

_ADD = "INSERT OR IGNORE INTO pins VALUES (?, ?, ?)"
_REMOVE = "DELETE FROM pins WHERE endpoint = ? AND container = ? AND prefix = ?"
_MARK = "UPDATE blobs SET pinned = ? WHERE algorithm = ? AND digest = ? AND pinned <> ?"


class Marked(NamedTuple):
    """What a pin was put on, or taken from."""

    pins: int
    blobs: int  # that may not be evicted from now on, or may again


def pin_of(selection: Selection, *, endpoint: str) -> Pin:
    """The pin that a selection means, at an endpoint unless it is one on the web.

    Raises `UsageError` for one object's version, and for what names no bucket.
    """
    if selection.container is None or selection.scheme is None:
        raise UsageError("A pin needs a bucket", remedy="Write s3://bucket/prefix.")
    if selection.version is not None:
        raise UsageError("A pin is a prefix, and cannot be one version of an object", remedy="Leave ?versionId= out.")
    web = selection.scheme != "s3"
    return Pin(f"{selection.scheme}://" if web else endpoint.rstrip("/"), selection.container, selection.key)


def pin(keeping: Upkeep, added: Pin) -> Marked:
    """Pins a prefix, and all that is cached of it. Raises `CacheUnusable`; what is pinned already stays so."""
    pins = keeping.make([(_ADD, added)])  # first: the index marks what is fetched from then on
    return Marked(pins, sum(_mark(keeping, digests, 1) for digests in _covered(keeping, added)))


def unpin(keeping: Upkeep, removed: Selection) -> Marked:
    """Takes away the pins on just this prefix, at every endpoint that the selection admits.

    Blobs that another pin covers stay pinned. Raises `CacheUnusable`.
    """
    gone = [
        pinned for pinned in keeping.catalog.pins() if removed.admits(pinned.place) and pinned.prefix == removed.key
    ]
    if not gone:
        return Marked(0, 0)
    keeping.make([(_REMOVE, pinned) for pinned in gone])
    free = {digest for pinned in gone for digests in _covered(keeping, pinned) for digest in digests}
    for left in keeping.catalog.pins():
        for digests in _covered(keeping, left):
            free.difference_update(digests)
    names = sorted(free)
    parts = (names[start : start + PAGE] for start in range(0, len(names), PAGE))
    return Marked(len(gone), sum(_mark(keeping, part, 0) for part in parts))


def mark_pinned(keeping: Upkeep) -> None:
    """Marks what the pins cover once more, after blobs were made known without their names."""
    for pinned in keeping.catalog.pins():
        for digests in _covered(keeping, pinned):
            _mark(keeping, digests, 1)


def _covered(keeping: Upkeep, pinned: Pin) -> Iterator[list[str]]:
    place = pinned.place
    for page in keeping.catalog.refs(Selection(place.endpoint, place.scheme, place.container, pinned.prefix)):
        yield [listed.known.ref.digest for listed in page]


def _mark(keeping: Upkeep, digests: Iterable[str], pinned: int) -> int:
    return keeping.make([(_MARK, (pinned, *split(digest), pinned)) for digest in digests])
