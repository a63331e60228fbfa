"""Where one body goes: under its digest where there is room for it, else into a file of its own."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.failures import retry_on_full_disk
from asyncfetch.cache.records import Published

if TYPE_CHECKING:
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.eviction import Room
    from asyncfetch.cache.sinks import Body


class Placing:
    """Puts bodies in their places. For the cache's thread alone; counters may be read by anybody."""

    def __init__(self, blobs: Blobs, room: Room) -> None:
        self._blobs, self._room = blobs, room
        self.published = self.stored = self.stored_bytes = self.private = self.refused = 0

    def place(self, body: Body, *, private: bool, evict: bool = True) -> Published:
        """Puts a body in its place. Raises `OSError`; a body in a file may be lost then, one in memory is not.

        Where the disk is full for one in memory it may `evict` others. A blob that was there before (`stored` False) is
        to be `confirmed` once the index knows of it.
        """
        try:
            placed = self._place(body, private=private)
        except OSError as error:
            if body.view is None or not evict:
                raise
            again = partial(self._place, body, private=private)
            placed = retry_on_full_disk(again, error, partial(self._room.make_on_full_disk, body.size))
        if placed.private:
            self.private += 1
            self.refused += not private
        else:
            self.published += 1
            if placed.stored:
                self.stored += 1
                self.stored_bytes += placed.size
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

    def _place(self, body: Body, *, private: bool) -> Published:
        blobs, digest, size = self._blobs, body.digest, body.size
        if private or not (self._room.takes(size) or blobs.find(digest, size)):
            path = body.path if body.view is None else blobs.keep(body.view)
            return Published(path, digest, size, True, True)
        if body.view is None:
            path, new = blobs.adopt(digest, size, body.path)
        else:
            path, new = blobs.put(digest, body.view)
        return Published(path, digest, size, new)
