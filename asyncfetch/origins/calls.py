"""Calls under way that closing can end: each then raises `FetcherClosed` to whoever made it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from asyncfetch.errors import FetcherClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class OpenCalls:
    """The calls of one origin. `what` is what is closed, in words."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._calls: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._closed = False

    @asynccontextmanager
    async def one(self, uri: str) -> AsyncIterator[None]:
        """The length of a call about an object. Raises `FetcherClosed` once `end` was called."""
        if self._closed:
            raise FetcherClosed(f"{self._what} is closed")
        try:
            async with asyncio.timeout(None) as call:
                self._calls.add(call)
                try:
                    yield
                finally:
                    self._calls.discard(call)
                    self._idle.set()
        except TimeoutError:
            if call.expired():
                raise FetcherClosed(f"{uri}: {self._what} was closed under the call") from None
            raise

    async def end(self) -> None:
        """Ends all of them, lets none begin any more, and waits until they have cleaned up."""
        if not self._closed:
            self._closed = True
            for call in self._calls:
                call.reschedule(0)
        while self._calls:
            self._idle.clear()
            await self._idle.wait()
