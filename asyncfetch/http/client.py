"""The client: requests in, whole responses out, over a pool of connections for each endpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from asyncfetch.http.connection import Waits
from asyncfetch.http.dial import Shared
from asyncfetch.http.errors import ClientClosed
from asyncfetch.http.host import Counters, Host, Limits
from asyncfetch.http.receivers import Receivers
from asyncfetch.http.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from asyncfetch.http.dial import Endpoint
    from asyncfetch.http.exchange import Exchange
    from asyncfetch.http.parser import Response

# nginx and AWS's load balancers hang up after 60-75 s: better to be first than to find out by a request lost.
IDLE_TIMEOUT: Final = 50.0
LIFETIME: Final = 300.0  # a long job follows what DNS says of its servers
FOREVER: Final = float("inf")


class Statistics(NamedTuple):
    """Counts of one client."""

    open: int  # connections, idle and in use
    idle: int  # connections not in use
    opening: int  # connections being made
    waiting: int  # requests without a connection
    opened: int  # connections made so far
    requests: int  # requests sent so far, repeats too
    reused: int  # of them, sent on a connection that had been used before
    repeated: int  # requests given a fresh connection because theirs turned out stale
    bytes_received: int  # of the bodies of whole responses


class Client:
    """An HTTP/1.1 client over a pool of connections for each endpoint. To be made and used within one running loop.

    `connect_timeout` bounds the making of a connection: name, TCP and TLS together. `read_timeout` is how long a
    server may be silent while an answer is due, before its first byte (if `first_byte_timeout` does not say otherwise)
    and between any two; and less than `stall_bytes` of an answer that has begun may not come in `stall_window`. One
    clock checks all connections, so it may be up to a quarter more, and time in which a sink is behind does not count.
    Waiting for a
    place among `max_connections`, which is for each endpoint, has no time-out of its own: every request ahead has
    these. Idle connections are closed after `idle_timeout`, all after `lifetime`, though never within a request.
    Times are in seconds.

    `tls` makes the context on first use, in a thread. A head of more than `max_head` bytes or `max_headers` fields is
    refused.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10.0,
        first_byte_timeout: float | None = None,
        read_timeout: float = 60.0,
        stall_bytes: int = 0,
        stall_window: float = 30.0,
        max_connections: int = 64,
        idle_timeout: float = IDLE_TIMEOUT,
        lifetime: float = LIFETIME,
        tls: Callable[[], ssl.SSLContext] = client_context,
        max_head: int = 64 << 10,
        max_headers: int = 128,
    ) -> None:
        first_byte = read_timeout if first_byte_timeout is None else first_byte_timeout
        self._limits = Limits(
            connect_timeout=connect_timeout,
            waits=Waits(first_byte, read_timeout, stall_bytes, stall_window),
            max_connections=max_connections,
            idle_timeout=idle_timeout,
            lifetime=lifetime,
            max_head=max_head,
            max_headers=max_headers,
        )
        self._loop = asyncio.get_running_loop()
        self._context = Shared(lambda: asyncio.to_thread(tls), lifetime=FOREVER)
        self._hosts: dict[Endpoint, Host] = {}
        self._counters = Counters()
        self._receivers = Receivers()
        self._tick = min(1.0, *(wait / 8 for wait in (read_timeout, first_byte, stall_window, idle_timeout, lifetime)))
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def request(self, endpoint: Endpoint, exchange: Exchange) -> Response:
        """Sends a request and returns its whole response. An exchange may be sent again when it has ended.

        Its `build` gives the request's bytes. It is called when they are sent, and once more for a repeat, so that a
        signature is fresh. Its `on_head` is called with the final head, and gives the sink that takes the body, or None
        to have it in `Response.body` if it has no more than `max_body` bytes. Without a body the sink is not touched;
        what a sink took of a body stays there when the request fails.

        A request on a connection that had been used before, and which is lost before any byte of the answer, is
        repeated once on a fresh connection if its method is idempotent. An answer followed by more bytes than it
        announced is whole by its own framing and is returned; the connection is closed.

        Raises `ConnectFailed`, `TLSFailed`, `ConnectTimeout`, `ReadTimeout`, `ConnectionLost`, `ProtocolError`,
        `ResponseTooLarge`, `ClientClosed`, and whatever `build`, `on_head`, the sink, and the maker of the TLS context
        raise. Cancelled, its connection is closed, or left to others if nothing was sent on it; the sink is not
        touched again.
        """
        if self._closed:
            raise ClientClosed
        host = self._hosts.get(endpoint) or self._meet(endpoint)
        future: asyncio.Future[Response] = self._loop.create_future()
        exchange.future = future
        try:
            host.submit(exchange)
            response = await future
        except BaseException:
            host.withdraw(exchange)
            raise
        finally:
            # The traceback of a failure holds this frame, and the future the failure: a ring, and the sink in it.
            exchange.future = None
            del exchange, future
        self._counters.bytes_received += response.received
        return response

    def statistics(self) -> Statistics:
        """Counts connections and requests as of now."""
        hosts, counters = self._hosts.values(), self._counters
        return Statistics(
            open=sum(len(host.pool.connections) for host in hosts),
            idle=sum(host.pool.idle for host in hosts),
            opening=sum(host.pool.opening for host in hosts),
            waiting=sum(len(host.pool.waiting) for host in hosts),
            opened=counters.opened,
            requests=counters.requests,
            reused=counters.reused,
            repeated=counters.repeated,
            bytes_received=counters.bytes_received,
        )

    async def aclose(self) -> None:
        """Closes every connection and waits until all sockets are gone. Requests under way raise `ClientClosed`.

        May be called again. Cancelled, everything is closing all the same.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for host in self._hosts.values():
            host.close()
        self._context.close()
        self._receivers.close()
        for host in self._hosts.values():
            await host.wait_closed()

    def _meet(self, endpoint: Endpoint) -> Host:
        host = self._hosts[endpoint] = Host(endpoint, self._limits, self._context, self._counters, self._receivers)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick, self._check)
        return host

    def _check(self) -> None:
        """The one clock of all deadlines. It runs while there are hosts, and a host is forgotten once it is vacant."""
        now = self._loop.time()
        for endpoint, host in list(self._hosts.items()):
            host.check(now)
            if host.vacant:
                host.close()
                del self._hosts[endpoint]
        self._timer = self._loop.call_later(self._tick, self._check) if self._hosts else None
