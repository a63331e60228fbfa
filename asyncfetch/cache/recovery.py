"""What a process leaves when it is killed between a file operation and its commit, and how that is mended.

Before blobs are put in place or removed, a batch names their digests in its owner's file `intent`, and empties that
once the index has taken the batch. Whoever removes a dead owner's directory takes its intents over, and sees that the
index says of just these blobs what the disk says: no walk over all blobs is needed for that.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import files
from asyncfetch.cache.changes import inherited, lost, make, split
from asyncfetch.cache.sums import drop_blobs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.partials import Partials
    from asyncfetch.cache.records import CacheStats, Ref, RefKey

_log = logging.getLogger(__name__)

_CLEAR = "clear"
_CLEAR_LINE = f"{_CLEAR}\n".encode()
_DIGEST = re.compile(rb"(?:blake3|sha256):[0-9a-f]{64}(?=\n)")  # a line that was cut short names nothing


class Intents:
    """The blobs that one owner is about to place or to remove. For the cache's thread alone.

    Where they cannot be written a kill may leave a blob that the index does not know; that is no reason to fail.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._path = ""
        self._descriptor = -1
        self._batch = ""
        self._empty = True

    def declare(self, digests: Iterable[str]) -> None:
        """Names the blobs that a batch places, in the place of those named before."""
        self._batch = _lines(digests)
        self._write(self._batch)

    def declare_clear(self) -> None:
        """Says that all blobs are to go."""
        self.declare([_CLEAR])

    def fulfil(self) -> None:
        """Says that the index knows what became of them."""
        self._batch = ""
        self._truncate()

    def declare_victims(self, digests: Iterable[str]) -> None:
        """Names blobs that are evicted, beside those that a batch is placing at the time."""
        self._write(self._batch + _lines(digests))

    def fulfil_victims(self) -> None:
        """Says that the index knows that they are gone."""
        if not self._batch:
            self._truncate()

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                files.close(self._descriptor)
            self._descriptor, self._path = -1, ""

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            if self._path != self._owner.intents:
                self.close()
                self._descriptor = files.create(self._owner.intents)
                self._path = self._owner.intents
            self._empty = False
            files.write_at(self._descriptor, memoryview(text.encode()), 0)

    def _truncate(self) -> None:
        if not self._empty:
            self._empty = True
            with contextlib.suppress(OSError):
                files.truncate(self._descriptor)


def _lines(digests: Iterable[str]) -> str:
    return "\n".join([*digests, ""])


class Lost(NamedTuple):
    """An object whose blob was not in its place."""

    key: RefKey
    ref: Ref


def mend(index: Index, blobs: Blobs, partials: Partials, owner: Owner) -> None:
    """Settles what an owner has taken over from the dead. What the index does not take now is left for later."""
    inherited = owner.inherited()
    digests = [digest for text in inherited for digest in parse_intents(text)]
    try:
        if any(text.startswith(_CLEAR_LINE) for text in inherited):
            clear(index, blobs, partials)
            owner.settle()
        elif not digests or index.apply((), (reconcile(blobs, digests, time.time()),)):
            owner.settle()
    except OSError:
        _log.debug("intents of a dead process could not be settled", exc_info=True)


def is_cleared(owner: Owner) -> bool:
    """Whether another owner is clearing the cache: blobs go before the index that knows of them."""
    return owner.others_intend(_CLEAR_LINE)


def clear(index: Index, blobs: Blobs, partials: Partials) -> CacheStats:
    """Removes all blobs and all that is unfinished, and begins an index without them. Returns what was removed.

    Blobs go first: that makes room on a full disk for the new index. They go once more afterwards, for those that came
    meanwhile and that only the old index knows. Raises `OSError` at last where something unfinished did not go.
    """
    known = index.totals()
    number, size = blobs.clear()
    index.restart()
    more, more_size = blobs.clear()
    gone = partials.clear()
    return known._replace(
        blobs=number + more, blob_bytes=size + more_size, unfinished=len(gone), unfinished_bytes=sum(gone)
    )


def parse_intents(text: bytes) -> list[str]:
    """Reads the digests out of an owner's file, which may have been cut short anywhere."""
    return [found.decode() for found in _DIGEST.findall(text)]


def reconcile(blobs: Blobs, digests: Sequence[str], at: float) -> Callable[[sqlite3.Connection], None]:
    """Has the index say of blobs what the disk says, as work for a transaction, under the write lock.

    Every process places a blob before it tells the index of it, so what is not there under the lock is nobody's. One
    that is there is known from then on, and nothing vouches for its bytes, not even a row that was there before: who
    died may have put it in the place of those that were proven.
    """

    def work(connection: sqlite3.Connection) -> None:
        sizes = {digest: files.size_of(blobs.path(digest)) for digest in digests}
        make(
            connection,
            [lost(digest) if size is None else inherited(digest, size, at) for digest, size in sizes.items()],
        )

    return work


def drop_lost(blobs: Blobs, lost: Sequence[Lost]) -> Callable[[sqlite3.Connection], None]:
    """Has the index forget objects whose blob is still not in its place, and these blobs; work for a transaction."""

    def work(connection: sqlite3.Connection) -> None:
        for key, ref in lost:
            if files.size_of(blobs.path(ref.digest)) is None:
                algorithm, name = split(ref.digest)
                connection.execute(
                    "DELETE FROM refs WHERE endpoint = ? AND container = ? AND key = ? AND version = ? "
                    "AND algorithm = ? AND digest = ?",
                    (*key, algorithm, name),
                )
                drop_blobs(connection, [(algorithm, name)])

    return work
