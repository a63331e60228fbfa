"""A plain iterable of sources that is read by the thread of its user, while the loop waits for them or is ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from asyncfetch.bell import Bell
from asyncfetch.errors import UsageError
from asyncfetch.streams import has_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.blocking.bridge import Bridge, Call, Work
    from asyncfetch.objects import Source

T = TypeVar("T")

ROOM = 256  # sources read and not yet taken: as many as a stream looks ahead at least


class Supply:
    """Sources for a stream, as an async iterable of the loop's, which begins anew if they do.

    A generator of the user's may block, hold a database's cursor, or call `asyncfetch.blocking` itself: it is read
    by the thread that takes the items, while that waits for one. What it raises is raised in its place.
    """

    def __init__(self, sources: Iterable[Source], bridge: Bridge) -> None:
        self._sources = sources
        self._bridge = bridge
        self._news = Bell()  # a call has ended, or the loop is out of sources
        self._reading: _Reading | None = None

    def attend(self, work: Work[T]) -> T:
        """Runs a coroutine as `Bridge.run` does, and reads sources for it meanwhile."""
        call: Call[T] = self._bridge.begin(work)
        try:
            call.then(self._news.ring)
            while not call.done:
                if self._reading is None or not self._reading.read():
                    self._news.wait()
            return call.wait()
        finally:
            if not call.done:
                self._bridge.cancel(call)

    def __aiter__(self) -> _Reading:
        """Begins to read them, from the beginning where they have one. On the loop."""
        self._reading = _Reading(self._sources, self._bridge, self._news)
        self._news.ring()
        return self._reading


class _Reading:
    """The sources read once, from their first to their last."""

    def __init__(self, sources: Iterable[Source], bridge: Bridge, news: Bell) -> None:
        self._sources = sources
        self._bridge = bridge
        self._news = news
        self._iterator: Iterator[Source] | None = None
        self._queue: deque[Source] = deque()
        self._over = False
        self._error: Exception | None = None
        self._hungry = False
        self._waiter: asyncio.Future[None] | None = None

    def read(self) -> bool:
        """Reads one source, on its user's thread. False where there is no room for it, or there are no more."""
        if self._over or len(self._queue) >= ROOM:
            return False
        try:
            if self._iterator is None:
                self._iterator = iter(self._sources)
            self._queue.append(next(self._iterator))
        except StopIteration:
            self._over = True
        except Exception as error:
            self._error, self._over = error, True
        if self._hungry:
            self._bridge.post(self._feed)
        return True

    # On the loop

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Source:
        while not self._queue:
            self._hungry = True  # before the second look, so that what comes after it is told of
            if not self._queue and not self._over:
                self._waiter = asyncio.get_running_loop().create_future()
                self._news.ring()
                await self._waiter
            elif not self._queue:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
        self._hungry = False
        return self._queue.popleft()

    def _feed(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def supply(sources: Iterable[Source], bridge: Bridge) -> Supply | None:
    """A supply of what has to be read by its user's thread; None for what is there already, and read by number.

    Raises `UsageError` for what is no iterable of sources.
    """
    if isinstance(sources, str | bytes) or has_index(sources):  # a text is refused by the stream
        return None
    if not isinstance(sources, Iterable):
        raise UsageError(f"Sources are an iterable of URIs, not {type(sources).__name__}")
    return Supply(sources, bridge)
