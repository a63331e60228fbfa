"""Reads of whole objects: at once on the loop where that may, else in line with everything else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from asyncfetch.cache.answers import resolve
from asyncfetch.cache.commands import Read
from asyncfetch.cache.turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncfetch.cache.records import Ref, RefKey
    from asyncfetch.cache.thread import CacheThread


class Reads:
    """For the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: CacheThread,
        *,
        at_hand: bool,
        gather: Callable[[Read], None],
        refuse_closed: Callable[[], None],
    ) -> None:
        """`at_hand` says that reading never waits for a disk; `gather` puts a read in line."""
        self._loop, self._thread, self._at_hand = loop, thread, at_hand
        self._gather, self._refuse_closed = gather, refuse_closed
        self._turns = Turns(loop)

    async def read(self, key: RefKey, may: Callable[[Ref], bool]) -> bytes | Exception | None:
        """The bytes of an object, as `Cache.read` promises them."""
        self._refuse_closed()
        future: asyncio.Future[bytes | Exception | None] = self._loop.create_future()
        command = Read(key, may, partial(resolve, future))
        if self._at_hand and self._thread.is_free():
            await self._turns.wait()
            self._refuse_closed()
            if (answer := self._thread.read_here(command)) is not None:
                data: bytes | Exception | None = answer[1]  # as that is the answer to a `Read`
                self._turns.spend(len(data) if isinstance(data, bytes) else 0)
                return data
        self._gather(command)
        return await future
