"""Errands with one caller: what an object is, bytes of it, a page of a listing. None of them goes through the cache."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from asyncfetch.cache import BODY_MEMORY, MemorySink
from asyncfetch.engine.errand import Errand
from asyncfetch.errors import FetcherClosed
from asyncfetch.objects import ObjectStat
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self

    from asyncfetch.engine.lanes import Lanes
    from asyncfetch.origins import ByteRange, Origin
    from asyncfetch.uris import Location

T = TypeVar("T")

HEAD_MEMORY = 16 * 1024  # what a request without a body holds: its head, and a connection's share


class Call(Errand, Generic[T]):
    """An errand whose result one caller awaits. Cancelling the caller ends it."""

    __slots__ = ("_result", "origin")

    def __init__(self, origin: Origin, location: Location) -> None:
        super().__init__(location, urgent=True)
        self.origin = origin
        self._result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._result.add_done_callback(_seen)

    @property
    def need(self) -> int:
        return HEAD_MEMORY

    @abstractmethod
    async def ask(self) -> T:
        """Asks the origin, once."""

    async def fly(self) -> None:
        result = await self.ask()
        self.release()
        if not self._result.done():
            self._result.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self._result.done():
            self._result.set_exception(error)

    def begin(self, lanes: Lanes) -> Self:
        """Gets in line."""
        lanes.add(self)
        lanes.pump()
        return self

    async def wait(self) -> T:
        """Waits for the result without ending the call when the waiter is cancelled."""
        return await asyncio.shield(self._result)

    async def through(self, lanes: Lanes) -> T:
        """Gets in line, is flown, and returns the result or raises the error that stands."""
        self.begin(lanes)
        try:
            return await self._result
        except asyncio.CancelledError:
            lanes.give_up(self)
            raise

    def then(self, callback: Callable[[asyncio.Future[T]], None]) -> None:
        """Has a callback called with the result, a future that is done."""
        self._result.add_done_callback(callback)

    def give_up(self, lanes: Lanes) -> None:
        """Ends it. Who waits for the result all the same gets `FetcherClosed`."""
        lanes.give_up(self)
        self.fail(FetcherClosed("It was closed while its result was awaited"))


def _seen(result: asyncio.Future[T]) -> None:
    """Marks an error as seen: that nobody came back for a page that was read ahead is no accident."""
    if not result.cancelled():
        result.exception()


class StatCall(Call[ObjectStat]):
    """Asks for an object's facts."""

    __slots__ = ()

    async def ask(self) -> ObjectStat:
        return await self.origin.stat(self.location)


class RangeCall(Call[bytes]):
    """Reads bytes of an object into memory, all of it where `range` is None."""

    __slots__ = ("_expected", "_range")

    def __init__(self, origin: Origin, location: Location, range: ByteRange | None, listed: ObjectStat | None) -> None:
        super().__init__(origin, location)
        self._range = range
        self._expected = listed.size if listed is not None else BODY_MEMORY
        if range is not None and range.stop is not None:
            self._expected = min(self._expected, range.stop - range.start)

    @property
    def need(self) -> int:
        return max(self._expected, HEAD_MEMORY)

    async def ask(self) -> bytes:
        sink = MemorySink()
        await self.origin.read(self.location, sink, range=self._range)
        return sink.finish()


PAGE = 1000  # what one LIST request of S3 gives at most (ListObjectsV2, max-keys)
PAGE_MEMORY = 1 << 20  # about twice what a page of 1,000 long keys weighs


class Pages:
    """A listing under way, taken a page at a time; one that broke is taken up again behind the last key that came."""

    __slots__ = ("_after", "_began", "_iterator", "_last", "_location", "_most", "_origin", "_recursive", "ended")

    def __init__(
        self, origin: Origin, location: Location, *, recursive: bool, after: str | None = None, most: int = PAGE
    ) -> None:
        self.ended = False
        self._origin = origin
        self._location = location
        self._recursive = recursive
        self._began = 0.0
        self._after = after
        self._most = most
        self._iterator: AsyncIterator[ObjectStat] | None = None
        self._last: ObjectStat | None = None

    def next(self) -> ListCall:
        """A call for the next page. One at a time."""
        return ListCall(self._origin, self._location, self)

    async def read(self) -> list[ObjectStat]:
        """Reads the next page."""
        if self._iterator is None:
            # Whatever an origin reads ahead, nothing that it says is older than the listing's beginning.
            self._began = self._began or time.time()
            after = self._after if self._last is None else parse(self._last.uri).key
            self._iterator = self._origin.list(self._location, recursive=self._recursive, start_after=after)
        page: list[ObjectStat] = []
        try:
            async for stat in self._iterator:
                # Where a common prefix was the last to come, its own keys bring it up once more.
                if self._last is None or stat.uri != self._last.uri:
                    page.append(
                        ObjectStat(
                            stat.uri,
                            stat.size,
                            stat.etag,
                            stat.version,
                            stat.last_modified,
                            self._began,
                            storage_class=stat.storage_class,
                        )
                    )
                if len(page) == self._most:
                    break
            else:
                self.ended = True
        except BaseException:
            self._iterator = None
            raise
        if page:
            self._last = page[-1]
        return page

    async def aclose(self) -> None:
        """Closes it. Not while a call is being flown."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


class ListCall(Call[list[ObjectStat]]):
    """Asks for the next page of a listing."""

    __slots__ = ("_pages",)

    def __init__(self, origin: Origin, location: Location, pages: Pages) -> None:
        super().__init__(origin, location)
        self._pages = pages

    @property
    def need(self) -> int:
        return PAGE_MEMORY

    async def ask(self) -> list[ObjectStat]:
        return await self._pages.read()


class PageCall(Call[tuple[list[ObjectStat], bool]]):
    """Asks for one page of a listing, at most `most` objects behind a key, and whether they are known to be the last.

    Nothing stays open between it and the call for the next page.
    """

    __slots__ = ("_after", "_most", "_recursive")

    def __init__(
        self, origin: Origin, location: Location, *, recursive: bool, after: str | None, most: int = PAGE
    ) -> None:
        super().__init__(origin, location)
        self._recursive = recursive
        self._after = after
        self._most = most

    @property
    def need(self) -> int:
        return PAGE_MEMORY

    async def ask(self) -> tuple[list[ObjectStat], bool]:
        pages = Pages(self.origin, self.location, recursive=self._recursive, after=self._after, most=self._most)
        try:
            return await pages.read(), pages.ended
        finally:
            await pages.aclose()
