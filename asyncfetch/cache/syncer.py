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

from asyncfetch.bell import Bell
from asyncfetch.cache import files
from asyncfetch.cache.changes import distrust
from asyncfetch.cache.epochs import Closed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.index import Index

_log = logging.getLogger(__name__)

# Linux writes what is 30 s old when it looks the next time, every 5 s (Documentation/admin-guide/sysctl/vm.rst,
# dirty_expire_centisecs and dirty_writeback_centisecs).
DELAY_SECONDS = 60.0
_BYTES = 256  # the first byte of a digest: what is listed at once
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
        self._stopped = False
        self._stop = Bell()
        self._busy = self._wanted = False

    def wanted(self) -> None:
        """Says that a body is being stored."""
        self._wanted = True
        if not self._busy:
            self._busy = True
            self._timer = self._loop.call_later(DELAY_SECONDS, self._begin)

    def close(self) -> None:
        """Ends what is under way; what is not proven by now is left to another process, or to be hashed one day."""
        self._stopped = True
        self._stop.ring()
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
        if isinstance(closed, Closed):
            self._timer = self._loop.call_later(DELAY_SECONDS, self._list, closed, 0)
        else:
            self._give_up(closed)

    def _list(self, closed: Closed, byte: int) -> None:
        if byte < _BYTES:
            self._request(partial(self._index.unsynced, closed, byte), partial(self._listed, closed, byte))
        else:
            self._request(partial(self._index.prove, closed), self._proven)

    def _listed(self, closed: Closed, byte: int, digests: object) -> None:
        if not isinstance(digests, list):
            self._give_up(digests)
        elif digests:
            arguments = closed, byte, digests
            self._thread = threading.Thread(target=self._sync, args=arguments, name="asyncfetch-sync", daemon=True)
            self._thread.start()
        else:
            self._list(closed, byte + 1)

    def _sync(self, closed: Closed, byte: int, digests: Sequence[str]) -> None:
        """On a thread."""
        failed: list[str] = []
        for start in range(0, len(digests), _TOGETHER):
            began = time.perf_counter()
            for digest in digests[start : start + _TOGETHER]:
                try:
                    files.sync(self._blobs.path(digest))
                except OSError as error:
                    _log.warning("%s could not be synced (%s)", self._blobs.path(digest), error)
                    failed.append(digest)
            self._stop.until(lambda: self._stopped, _REST * (time.perf_counter() - began))
            if self._stopped:
                return
        with contextlib.suppress(RuntimeError):  # the loop was closed over it
            self._loop.call_soon_threadsafe(self._synced, closed, byte, failed)

    def _synced(self, closed: Closed, byte: int, failed: Sequence[str]) -> None:
        if failed:
            # For good: the kernel tells of a write that failed once, and may call the next sync a success.
            distrusted = partial(self._index.apply, [distrust(digest) for digest in failed])
            self._request(distrusted, partial(self._distrusted, closed, byte))
        else:
            self._list(closed, byte + 1)

    def _distrusted(self, closed: Closed, byte: int, done: object) -> None:
        if done is True:
            self._list(closed, byte + 1)
        else:
            self._give_up(done)

    def _proven(self, failure: object) -> None:
        if failure is None:
            self._busy = False
            if self._wanted:
                self.wanted()
        else:
            self._give_up(failure)

    def _give_up(self, why: object) -> None:
        """Leaves what is not proven to the next cycle, which begins when something is stored again."""
        _log.warning("what was stored could not be proven to be on the disk now (%s)", why)
        self._busy = False

    def _request(self, function: Callable[[], object], done: Callable[[object], None]) -> None:
        if not self._stopped:
            self._ask(function, done)
