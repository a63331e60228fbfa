"""Which connection serves which request: decisions only. Who asks acts on them, and closes what it is told to close."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection

C = TypeVar("C")  # connection
R = TypeVar("R")  # request


class Pool(Generic[C, R]):
    """The connections to one endpoint, at most `limit` at once, and the requests that wait for them.

    Idle connections are used again last in, first out, so that those not needed grow old; requests are served first in,
    first out. Nothing here waits or does I/O: each method takes note of an event and returns what follows from it.
    `now` is seconds of any steady clock.

    The whole state: every connection is in `_born` with its time of birth; the idle ones are on `_idle` too, with the
    time they fell idle, last used on top. `_opening` more are being made. A request waits in `_waiting`, or in
    `_repeats` when only a fresh connection will do. No connection is idle while a request is in `_waiting`, and once
    `openings` was asked a connection is being made for each one in `_repeats`.
    """

    def __init__(self, *, limit: int, idle_timeout: float, lifetime: float) -> None:
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._lifetime = lifetime
        self._born: dict[C, float] = {}
        self._idle: list[tuple[C, float]] = []
        self._opening = 0
        self._waiting: OrderedDict[R, None] = OrderedDict()
        self._repeats: OrderedDict[R, None] = OrderedDict()

    @property
    def connections(self) -> Collection[C]:
        """All that are open, idle or in use."""
        return self._born.keys()

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""
        return len(self._idle)

    @property
    def opening(self) -> int:
        """How many connections are being made."""
        return self._opening

    @property
    def waiting(self) -> list[R]:
        """The requests that have no connection yet, those to be served first in front."""
        return [*self._repeats, *self._waiting]

    @property
    def vacant(self) -> bool:
        """Whether nothing would be lost with this pool."""
        return not (self._born or self._opening or self._waiting or self._repeats)

    def submit(self, request: R) -> C | None:
        """A new request: the connection to send it on, or None, and it waits."""
        if self._idle:
            return self._idle.pop()[0]
        self._waiting[request] = None
        return None

    def repeat(self, request: R) -> None:
        """A request whose connection, lost by now, turned out stale: it waits for a fresh one, before all others."""
        self._repeats[request] = None

    def withdraw(self, request: R) -> None:
        """A request that nobody wants any more. What is being opened for it will serve others, or be idle."""
        self._waiting.pop(request, None)
        self._repeats.pop(request, None)

    def openings(self) -> int:
        """How many connections must be opened now, each of which ends in `opened` or `failed`.

        To be asked after `submit`, `repeat`, `lost`, and `failed` where it names a request; and from time to time, for
        requests that wait for connections in use because no more could be made.
        """
        wanted = len(self._waiting) + len(self._repeats) - self._opening
        count = max(0, min(wanted, self._limit - len(self._born) - self._opening))
        self._opening += count
        return count

    def opened(self, connection: C, now: float) -> R | None:
        """A connection is ready: the request to send on it, or None, and it is idle."""
        self._opening -= 1
        self._born[connection] = now
        if self._repeats:
            return self._repeats.popitem(last=False)[0]
        return self.release(connection, now)

    def failed(self) -> R | None:
        """A connection could not be made: the request that fails for it, or None when others can serve all."""
        self._opening -= 1
        if len(self._repeats) > self._opening:
            return self._repeats.popitem(last=False)[0]
        if not self._born and len(self._waiting) + len(self._repeats) > self._opening:
            return self._waiting.popitem(last=False)[0]
        return None

    def release(self, connection: C, now: float) -> R | None:
        """A connection has done its request: the next one to send on it, or None, and it is idle."""
        if self._waiting:
            return self._waiting.popitem(last=False)[0]
        self._idle.append((connection, now))
        return None

    def lost(self, connection: C) -> None:
        """A connection is closed or about to be, idle or in use."""
        self._born.pop(connection, None)
        if self._idle:
            self._idle = [entry for entry in self._idle if entry[0] is not connection]

    def expired(self, now: float) -> tuple[list[C], list[C]]:
        """Which connections are past their time: those idle, to be closed now, and those in use, after their request.

        The idle ones are forgotten here at once.
        """
        old = {connection for connection, born in self._born.items() if now - born >= self._lifetime}
        close = [entry[0] for entry in self._idle if entry[0] in old or now - entry[1] >= self._idle_timeout]
        for connection in close:
            self.lost(connection)
        return close, [connection for connection in old if connection in self._born]
