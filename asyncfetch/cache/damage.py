"""What is done with a blob that is not what its name says: it is set aside, counted and told, never served."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from asyncfetch.cache.changes import disown, lost

if TYPE_CHECKING:
    from asyncfetch.cache import files
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.proofs import Proofs
    from asyncfetch.cache.records import Ref, RefKey

_log = logging.getLogger(__name__)


class Damage:
    """For the cache's thread; `count` may be read by anybody."""

    def __init__(self, blobs: Blobs, index: Index, proofs: Proofs) -> None:
        self.count = 0
        self._blobs, self._index, self._proofs = blobs, index, proofs

    def look_at(self, key: RefKey, ref: Ref) -> None:
        """Looks why there is no blob of the right size; mostly there is none at all."""
        size = self._blobs.size_of(ref.digest)
        if size is not None and size != ref.size:
            self.set_aside(key, ref.digest, f"it has {size} bytes instead of {ref.size}")

    def set_aside(self, key: RefKey, digest: str, fault: str, seen: files.Stamp | None = None) -> None:
        """Takes a blob out of the cache. Where that cannot be done it is not believed again until it was replaced.

        Nothing happens where another lies there by now than was `seen` damaged: somebody else was first, and has
        fetched it again.
        """
        if seen is not None and self._blobs.stamp_of(digest) not in (None, seen):
            return
        self.count += 1
        self._proofs.reject(digest)
        path = self._blobs.path(digest)
        _log.warning("%s is damaged (%s); it is set aside and fetched anew", path, fault)
        try:
            self._blobs.set_aside(digest)
        except OSError as error:
            _log.warning("%s could not be set aside (%s)", path, error)
        self._index.apply([lost(digest), disown(key, digest)])
