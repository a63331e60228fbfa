"""A listing as an async iterator, one page read ahead."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from asyncfetch.engine import Engine, ListCall, Pages
    from asyncfetch.objects import ObjectStat


class PageSource(Protocol):
    """Where a listing takes its pages from, in order."""

    async def next(self) -> list[ObjectStat] | None:
        """The next page, None behind the last one. Cancelled, it has taken nothing."""
        ...

    async def aclose(self) -> None:
        """Ends what is under way; who waits for a page gets `FetcherClosed`."""
        ...


class Listing:
    """An async iterator over the objects under a prefix, made by a fetcher.

    The next page is asked for while this one is consumed. It can be handed to the fetcher's streams as their sources:
    what a listing says of an object spares the request that would revalidate it. A cancelled step has taken nothing.
    One task at a time may take objects.
    """

    def __init__(self, source: PageSource) -> None:
        self._source = source
        self._page: deque[ObjectStat] = deque()
        self._waiting = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectStat:
        """The next object. Raises what the origin answered, after its retries, and `FetcherClosed`."""
        if self._waiting:
            raise UsageError("A listing has one consumer at a time", remedy="Make a listing for each task.")
        while not self._page:
            if self._closed:
                raise StopAsyncIteration
            self._waiting = True
            try:
                page = await self._source.next()
            except Exception:
                self._closed = True
                raise
            finally:
                self._waiting = False
            if page is None:
                raise StopAsyncIteration
            self._page.extend(page)
        return self._page.popleft()

    async def aclose(self) -> None:
        """Ends the listing, requests under way included."""
        self._closed = True
        self._page.clear()
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class PagesAhead:
    """The pages of one listing, of which the next is asked for when the one before is taken."""

    def __init__(self, engine: Engine, pages: Pages) -> None:
        self._engine = engine
        self._pages = pages
        self._call: ListCall | None = None

    async def next(self) -> list[ObjectStat] | None:
        """The next page, None behind the last one. Raises what the origin answered, and `FetcherClosed`."""
        if self._call is None:
            if self._pages.ended:
                return None
            self._call = self._pages.next().begin(self._engine.lanes)
        page = await self._call.wait()
        self._call = None if self._pages.ended else self._pages.next().begin(self._engine.lanes)
        return page

    async def aclose(self) -> None:
        """Ends the request under way."""
        call, self._call = self._call, None
        if call is not None:
            flying = call.lane is not None
            call.give_up(self._engine.lanes)
            if flying:  # the generator ends by the cancellation
                return
        await self._pages.aclose()
