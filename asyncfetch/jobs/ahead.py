"""Blocking iterators read on a thread of their own, some batches ahead of the loop that takes the items."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from asyncfetch.bell import Bell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

T = TypeVar("T")

_BATCH = 1024  # items handed over at once
_AHEAD = 4  # batches read ahead


async def read_ahead(read: Callable[[Callable[[], None]], Iterator[T]]) -> AsyncGenerator[list[T]]:
    """Yields what an iterator yields, in batches of at least one, and raises what it raises.

    `read` is called on the thread, with a function that the iterator may call before it waits for long: what it has
    yielded is handed over then. Nobody waits for the thread: a pipe may stay silent for ever, and Ctrl-C must end that
    too.
    """
    reader = _Reader(read)
    try:
        while batch := await reader.next():
            yield batch
    finally:
        reader.leave()


class _Reader(Generic[T]):
    def __init__(self, read: Callable[[Callable[[], None]], Iterator[T]]) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[T] | Exception] = asyncio.Queue()
        self._given = self._taken = 0  # batches, by the thread and by the loop
        self._room = Bell()  # one was taken, or the loop has left
        self._left = False
        threading.Thread(target=self._work, name="asyncfetch-list", daemon=True).start()

    async def next(self) -> list[T]:
        """The next items, none behind the last. Raises what reading raised."""
        found = await self._queue.get()
        self._taken += 1
        self._room.ring()
        if isinstance(found, Exception):
            raise found
        return found

    def leave(self) -> None:
        """Lets the thread end when its read does."""
        self._left = True
        self._room.ring()

    def _work(self) -> None:
        batch: list[T] = []

        def flush() -> None:
            nonlocal batch
            if batch:
                full, batch = batch, []
                self._give(full)

        try:
            for item in self._read(flush):
                batch.append(item)
                if len(batch) == _BATCH:
                    flush()
                if self._left:
                    return
            flush()
            self._give([])
        except Exception as error:  # whatever it is, it is raised where the items are awaited
            flush()
            self._give(error)

    def _give(self, what: list[T] | Exception) -> None:
        self._room.until(lambda: self._given - self._taken < _AHEAD or self._left)
        self._given += 1
        with contextlib.suppress(RuntimeError):  # the loop is closed: the command was interrupted
            self._loop.call_soon_threadsafe(self._queue.put_nowait, what)
