"""Sinks to read into, which keep origins to the protocol."""

from __future__ import annotations

import asyncio


class Collector:
    """Keeps what comes, through rooms of an awkward size; `hints` are what it was asked with."""

    def __init__(self, room: int = 10_007) -> None:
        self._room = bytearray(room)
        self._given = 0
        self._data = bytearray()
        self.hints: list[int] = []

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    @property
    def touched(self) -> bool:
        return bool(self.hints)

    def get_buffer(self, hint: int) -> memoryview:
        self.hints.append(hint)
        self._given = len(self._room)
        return memoryview(self._room)

    def advance(self, count: int) -> None:
        assert 0 < count <= self._given
        self._data += self._room[:count]
        self._given = 0


class Stuck(Collector):
    """Takes something, and from then on is too slow for good; `begun` tells when that is so."""

    def __init__(self) -> None:
        super().__init__(room=1000)
        self.begun = asyncio.Event()

    def drain(self) -> asyncio.Future[None] | None:
        if not self._data:
            return None
        self.begun.set()
        return asyncio.get_running_loop().create_future()


class Broken(Collector):
    """Fails as a full disk does."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def get_buffer(self, hint: int) -> memoryview:
        raise self._error
