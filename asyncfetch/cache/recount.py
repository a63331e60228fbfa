"""Counts the blobs that a new index does not know, in the background, so that limits hold for them too.

An index that is lost takes no blob with it, only the knowledge of them: their bytes would not count, and nothing would
evict them, until each was met again. So whoever opens a cache whose index has not seen all shards goes through those
that are left, at a low rate, and tells it of what lies there. Their bytes are vouched for by nothing, and so they are
hashed before they are served. What objects they are stays unknown: their bytes are met, or `cache verify` finds them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.bell import Bell
from asyncfetch.cache import files
from asyncfetch.cache.changes import make, met, split

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index

_log = logging.getLogger(__name__)

DELAY_SECONDS = 5.0  # a job that begins has better things to do
AGAIN_SECONDS = 60.0  # between looks whether the index is another one by now
_SHARDS = 256
_TOGETHER = 64  # blobs for one transaction, 1 ms
_REST = 9  # times as long as listing and counting took: a tenth of the time is what it gets
_NAME = re.compile(r"[0-9a-f]{64}\Z")

# The row is there from the first shard on, so that what was counted for one index is not taken as counted for the next.
_COUNTED = "SELECT value FROM counters WHERE name = 'counted'"
_BEGIN = "INSERT OR IGNORE INTO counters VALUES ('counted', 0)"
_NOTE = "UPDATE counters SET value = ? WHERE name = 'counted' AND value < ?"
_KNOWN = "SELECT 1 FROM blobs WHERE algorithm = ? AND digest = ?"


class _Lying(NamedTuple):
    digest: str
    modified: float


class Recount:
    """Belongs to the loop's thread, and has a thread of its own while there is something to count."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        index: Index,
        blobs: Blobs,
        ask: Callable[[Callable[[], object], Callable[[object], None]], None],
        counted: Callable[[], None],
    ) -> None:
        """`ask` has a function called on the cache's thread, and its result, or exception, handed over on the loop.

        `counted` is called, on any thread, when there may be more bytes than the index knew of.
        """
        self._loop, self._index, self._blobs, self._ask, self._told = loop, index, blobs, ask, counted
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._news = Bell()  # there is an answer, or it is to stop
        self._timer = loop.call_later(DELAY_SECONDS, self._begin)

    def close(self) -> None:
        """Ends what is under way; what is not counted by now is left to whoever opens the cache next."""
        self._timer.cancel()
        self._stop()

    def join(self) -> None:
        """Waits for the directory that is being listed. Where the loop was closed over it nobody has called `close`."""
        self._stop()
        if self._thread is not None:
            self._thread.join()

    def _stop(self) -> None:
        self._stopped = True
        self._news.ring()

    def _begin(self) -> None:
        self._timer = self._loop.call_later(AGAIN_SECONDS, self._begin)
        if self._thread is None or not self._thread.is_alive():
            self._ask(partial(self._index.first_rows, _COUNTED, [()]), self._begun)

    def _begun(self, rows: object) -> None:
        if self._stopped or not isinstance(rows, list):
            return
        first = rows[0][0] if rows[0] else 0
        if first < _SHARDS:
            self._thread = threading.Thread(target=self._run, args=(first,), name="asyncfetch-recount", daemon=True)
            self._thread.start()

    def _run(self, first: int) -> None:
        """On its thread."""
        done = self._has_done(lambda connection: connection.execute(_BEGIN))
        algorithms: list[str] = []
        for byte in range(first, _SHARDS):
            began = time.perf_counter()
            try:
                algorithms = algorithms or files.names(self._blobs.root)
                lying = self._list(algorithms, byte)
            except OSError:
                _log.warning("%s: not all blobs could be counted now", self._blobs.root, exc_info=True)
                return
            for start in range(0, len(lying), _TOGETHER):
                done = done and self._has_done(partial(self._add, lying[start : start + _TOGETHER]))
                if not done or self._rests(_REST * (time.perf_counter() - began)):
                    return
                began = time.perf_counter()
            if lying or byte + 1 == _SHARDS:
                done = done and self._has_done(partial(_note, byte + 1))
                self._told()
            if not done:
                return

    def _rests(self, seconds: float) -> bool:
        """Waits so long. True when it is to stop."""
        self._news.until(lambda: self._stopped, seconds)
        return self._stopped

    def _has_done(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Has the index changed, and waits for that. False when it was not, or when it is to stop."""
        answers: list[object] = []

        def answered(answer: object) -> None:
            answers.append(answer)
            self._news.ring()

        try:
            self._loop.call_soon_threadsafe(self._ask, partial(self._index.apply, (), (work,)), answered)
        except RuntimeError:  # the loop was closed over it
            return False
        self._news.until(lambda: answers or self._stopped)
        return answers == [True] and not self._stopped

    def _list(self, algorithms: Sequence[str], byte: int) -> list[_Lying]:
        now = time.time()
        found = []
        for algorithm in algorithms:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # nothing of that shard is there
                found += [
                    _Lying(f"{algorithm}:{one.name}", min(one.modified, now))
                    for one in files.listing(f"{self._blobs.root}/{algorithm}/{byte:02x}")
                    if one.size is not None and _NAME.match(one.name)
                ]
        return found

    def _add(self, lying: Sequence[_Lying], connection: sqlite3.Connection) -> None:
        """Under the write lock, where nobody evicts: what is there by now, and not known by now."""
        found = []
        for digest, modified in lying:
            if connection.execute(_KNOWN, split(digest)).fetchone() is None:
                size = files.size_of(self._blobs.path(digest))
                if size is not None:
                    found.append(met(digest, size, modified))
        make(connection, found)


def _note(shards: int, connection: sqlite3.Connection) -> None:
    connection.execute(_NOTE, (shards, shards))
