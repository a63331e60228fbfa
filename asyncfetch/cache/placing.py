"""Where one body goes: under its digest where there is room for it, else into a file of its own."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import files
from asyncfetch.cache.changes import met, stored
from asyncfetch.cache.failures import retry_on_full_disk
from asyncfetch.cache.records import Published

if TYPE_CHECKING:
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.eviction import Room
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.sinks import Body


class Placed(NamedTuple):
    """A body on the disk. `change` tells the index of a blob, and is None for a private file.

    A blob that was there before (`published.stored` False) is to be `confirmed` once the index has taken its change.
    """

    published: Published
    change: Change | None


class Placing:
    """Puts bodies in their places. For the cache's thread alone; counters may be read by anybody."""

    def __init__(self, blobs: Blobs, room: Room, owner: Owner) -> None:
        self._blobs, self._room, self._owner = blobs, room, owner
        self.published = self.stored = self.stored_bytes = self.private = self.refused = 0

    def place(self, body: Body, *, private: bool, evict: bool = True) -> Placed:
        """Puts a body in its place. Raises `OSError`; a body in a file may be lost then, one in memory is not.

        Where the disk is full for one in memory it may `evict` others.
        """
        try:
            placed = self._place(body, private=private)
        except OSError as error:
            if body.view is None or not evict:
                raise
            again = partial(self._place, body, private=private)
            placed = retry_on_full_disk(again, error, partial(self._room.make_on_full_disk, body.size))
        self._tally(placed, refused=not private and placed.change is None)
        return placed

    def confirm(self, body: Body, placed: Published) -> Published:
        """Looks once more at a blob that was there before its body came; writes it if it was evicted until then."""
        if body.view is None:
            path, new = self._blobs.adopt(placed.digest, placed.size, body.path)
            if not new:
                with contextlib.suppress(OSError):  # it goes with its directory
                    files.remove(body.path)
        else:
            path, new = self._blobs.put(placed.digest, body.view)
        return placed._replace(path=path, stored=new)

    def _place(self, body: Body, *, private: bool) -> Placed:
        blobs, digest, size = self._blobs, body.digest, body.size
        if private or not (self._room.takes(size) or blobs.find(digest, size)):
            path = body.path if body.view is None else blobs.keep(body.view)
            return Placed(Published(path, digest, size, stored=True, private=True), None)
        if body.view is None:
            path, new = blobs.adopt(digest, size, body.path)
        else:
            path, new = blobs.put(digest, body.view)
        change = (stored if new else met)(digest, size, self._owner.now())
        return Placed(Published(path, digest, size, stored=new), change)

    def _tally(self, placed: Placed, *, refused: bool) -> None:
        if placed.change is None:
            self.private += 1
            self.refused += refused
        else:
            self.published += 1
            self.stored += placed.published.stored
            self.stored_bytes += placed.published.size if placed.published.stored else 0
