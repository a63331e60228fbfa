"""One endpoint's connections at work: does what the pool decides, and tells it what happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncfetch.http.connection import Connection
from asyncfetch.http.dial import Dialer
from asyncfetch.http.errors import ClientClosed, ConnectionLost
from asyncfetch.http.pool import Pool

if TYPE_CHECKING:
    import ssl

    from asyncfetch.http.connection import Waits
    from asyncfetch.http.dial import Endpoint, Shared
    from asyncfetch.http.exchange import Exchange
    from asyncfetch.http.receivers import Receivers


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds connections and responses. Times are in seconds, heads in bytes."""

    connect_timeout: float
    waits: Waits
    max_connections: int
    idle_timeout: float
    lifetime: float
    max_head: int
    max_headers: int


@dataclass(slots=True)
class Counters:
    """What was done so far, for all endpoints of a client."""

    opened: int = 0
    requests: int = 0
    reused: int = 0
    repeated: int = 0
    bytes_received: int = 0


class Host:
    """The connections to one endpoint and the requests for it."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        context: Shared[ssl.SSLContext],
        counters: Counters,
        receivers: Receivers,
    ) -> None:
        self.pool: Pool[Connection, Exchange] = Pool(
            limit=limits.max_connections, idle_timeout=limits.idle_timeout, lifetime=limits.lifetime
        )
        self._dialer = Dialer(endpoint, timeout=limits.connect_timeout, context=context)
        self._limits = limits
        self._counters = counters
        self._receivers = receivers
        self._tasks: set[asyncio.Task[None]] = set()  # each makes one connection
        self._alive: set[Connection] = set()  # those whose transport still has its socket
        self._drained: asyncio.Future[None] | None = None
        self._closed = False
        # The time of the last check: near enough for idle times and lifetimes, and free.
        self._now = asyncio.get_running_loop().time()

    @property
    def vacant(self) -> bool:
        """Whether there is nothing here any more."""
        return self.pool.vacant and not self._tasks and not self._alive

    def submit(self, exchange: Exchange) -> None:
        """Sends a request, now or as soon as it has a connection."""
        connection = self.pool.submit(exchange)
        if connection is not None:
            self._serve(connection, exchange)
        else:
            self._open_more()

    def withdraw(self, exchange: Exchange) -> None:
        """Ends a request wherever it is. One that has ended already is left alone."""
        if exchange.connection is not None:
            exchange.connection.close()
        else:
            self.pool.withdraw(exchange)

    def check(self, now: float) -> None:
        """Ends what is past its time."""
        self._now = now
        for connection in list(self.pool.connections):
            connection.check(now, self._limits.waits)
        close, retire = self.pool.expired(now)
        for connection in close:
            connection.close()
        for connection in retire:
            connection.retiring = True
        self._open_more()

    def close(self) -> None:
        """Closes every connection and fails every request with `ClientClosed`."""
        self._closed = True
        for exchange in self.pool.waiting:
            self.pool.withdraw(exchange)
            exchange.fail(ClientClosed())
        for task in self._tasks:
            task.cancel()
        self._dialer.close()
        for connection in list(self._alive):
            connection.fail(ClientClosed())

    async def wait_closed(self) -> None:
        """Waits, after `close`, until every socket and task is gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        while self._alive:
            self._drained = self._drained or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    # What connections tell.

    def freed(self, connection: Connection) -> None:
        exchange = self.pool.release(connection, self._now)
        if exchange is not None:
            self._serve(connection, exchange)

    def gone(self, connection: Connection, repeat: Exchange | None) -> None:
        self.pool.lost(connection)
        if repeat is not None:
            self._counters.repeated += 1
            self.pool.repeat(repeat)
        self._open_more()

    def closed(self, connection: Connection) -> None:
        self._alive.discard(connection)
        if not self._alive and self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # What follows from it.

    def _serve(self, connection: Connection, exchange: Exchange) -> None:
        reused = not connection.fresh
        while not connection.start(exchange):
            following = self.pool.release(connection, self._now)
            if following is None:
                connection.fresh = False
                return
            exchange = following
        if exchange.connection is connection:  # else it was found stale, and nothing was sent on it
            self._counters.requests += 1
            self._counters.reused += reused

    def _open_more(self) -> None:
        if self._closed:
            return
        for _ in range(self.pool.openings()):
            task = asyncio.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        limits = self._limits
        connection = Connection(self, self._receivers, max_head=limits.max_head, max_headers=limits.max_headers)
        try:
            connection.watch(await self._dialer.dial(connection))
            if not connection.usable:
                raise ConnectionLost("as soon as it was made", stale=True)
        except Exception as error:  # whatever it is, some request waits for it
            connection.close()
            request = self.pool.failed()
            if request is not None:
                request.fail(error)
                self._open_more()
            return
        except BaseException:
            connection.close()
            raise
        self._alive.add(connection)
        self._counters.opened += 1
        exchange = self.pool.opened(connection, self._now)
        if exchange is not None:
            self._serve(connection, exchange)
        else:
            connection.fresh = False
