"""Syncs what was stored to the disk in the background, long after, so that a loss of power takes no proof with it.

An fsync for each blob costs some 5 ms on a disk when it is published; a minute later the kernel has mostly written it
by itself, and there is little left to wait for. So an epoch of the index is closed, left alone for as long as the
kernel may take, its blobs are synced a few at a time, and then it is proven: one row for all of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from asyncfetch.cache import files

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index

_log = logging.getLogger(__name__)

# Linux writes what is 30 s old when it looks the next time, every 5 s (Documentation/admin-guide/sysctl/vm.rst,
# dirty_expire_centisecs and dirty_writeback_centisecs).
DELAY_SECONDS = 60.0
_SHARDS = 256  # the first byte of a digest: what is listed at once
_TOGETHER = 16  # files synced without a pause
_REST = 19  # times as long as syncing took: a twentieth of the disk's time, and of a core's, is what it gets


class Syncer:
    """Belongs to the loop's thread. One cycle after another, for as long as something is stored."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        index: Index,
        blobs: Blobs,
        ask: Callable[[Callable[[], object], Callable[[object], None]], None],
    ) -> None:
        """`ask` has a function called on the cache's thread, and its result, or exception, handed over on the loop."""
        self._loop, self._index, self._blobs, self._ask = loop, index, blobs, ask
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._busy = self._wanted = False
        self._epoch, self._generation = 0, ""

    def wanted(self) -> None:
        """Says that a body is being stored."""
        self._wanted = True
        if not self._busy:
            self._busy = True
            self._timer = self._loop.call_later(DELAY_SECONDS, self._begin)

    def close(self) -> None:
        """Ends what is under way; what is not proven by now is left to another process, or to be hashed one day."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()

    def join(self) -> None:
        """Waits, after `close`, for the file that is being synced."""
        if self._thread is not None:
            self._thread.join()

    def _begin(self) -> None:
        self._wanted = False
        self._request(self._index.close_epoch, self._begun)

    def _begun(self, closed: object) -> None:
        if not isinstance(closed, tuple):
            self._give_up(closed)
            return
        self._epoch, self._generation = closed
        self._timer = self._loop.call_later(DELAY_SECONDS, self._list, 0)

    def _list(self, shard: int) -> None:
        if shard < _SHARDS:
            self._request(partial(self._index.unsynced, self._epoch, shard), partial(self._listed, shard))
        else:
            self._request(partial(self._index.prove, self._epoch, self._generation), self._proven)

    def _listed(self, shard: int, digests: object) -> None:
        if not isinstance(digests, list):
            self._give_up(digests)
        elif digests:
            self._thread = threading.Thread(
                target=self._sync, args=(shard, digests), name="asyncfetch-sync", daemon=True
            )
            self._thread.start()
        else:
            self._list(shard + 1)

    def _sync(self, shard: int, digests: Sequence[str]) -> None:
        """On a thread."""
        failure: OSError | None = None
        for start in range(0, len(digests), _TOGETHER):
            began = time.perf_counter()
            try:
                for digest in digests[start : start + _TOGETHER]:
                    files.sync(self._blobs.path(digest))
            except OSError as error:
                failure = error
                break
            if self._stop.wait(_REST * (time.perf_counter() - began)):
                return
        with contextlib.suppress(RuntimeError):  # the loop was closed over it
            self._loop.call_soon_threadsafe(self._synced, shard, failure)

    def _synced(self, shard: int, failure: OSError | None) -> None:
        if failure is None:
            self._list(shard + 1)
        else:
            self._give_up(failure)

    def _proven(self, _: object) -> None:
        self._busy = False
        if self._wanted:
            self.wanted()

    def _give_up(self, why: object) -> None:
        """Leaves this process's blobs unproven: after a failed sync the kernel may call the next one a success."""
        _log.warning("stored blobs could not be synced (%s); they are hashed when they are read after a restart", why)

    def _request(self, function: Callable[[], object], done: Callable[[object], None]) -> None:
        if not self._stop.is_set():
            self._ask(function, done)
