"""What the tests of the client share: a sink, servers of both kinds, and a look at what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.http import Client, Endpoint, Exchange, Response, ResponseHead
from asyncfetch.testing.scripted import Answer, Ending, Hold, RawRequest, ScriptedServer, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    import trustme

    from asyncfetch.http import Sink

__all__ = [
    "Answer",
    "Asking",
    "Channel",
    "Collect",
    "Ending",
    "Hold",
    "Paced",
    "RawRequest",
    "answer",
    "get",
    "leaving_nothing",
    "sockets",
]


class Channel(NamedTuple):
    """Plain or TLS: what a server and a client need to talk that way."""

    server: ssl.SSLContext | None
    client: ssl.SSLContext | None

    @classmethod
    def over_tls(cls, authority: trustme.CA, certificate: trustme.LeafCert) -> Channel:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        return cls(server, client)

    @contextlib.asynccontextmanager
    async def talk(
        self, answers: Iterable[Answer] | Callable[[RawRequest], Answer], *, greeting: Answer = b"", **options: Any
    ) -> AsyncIterator[tuple[ScriptedServer, Client]]:
        """A server and a client for it, and nothing left of either."""
        async with ScriptedServer(answers, tls=self.server, greeting=greeting) as server:
            client = self.new_client(**options)
            try:
                yield server, client
            finally:
                await client.aclose()

    def new_client(self, **options: Any) -> Client:
        context = self.client
        return Client(**options) if context is None else Client(tls=lambda: context, **options)


class Asking(Exchange):
    """An exchange made of two functions."""

    def __init__(
        self,
        build: Callable[[], bytes],
        on_head: Callable[[ResponseHead], Sink | None] = lambda head: None,
        *,
        method: str = "GET",
        **options: Any,
    ) -> None:
        super().__init__(method, **options)
        self._build, self._on_head = build, on_head

    def build(self) -> bytes:
        return self._build()

    def on_head(self, head: ResponseHead) -> Sink | None:
        return self._on_head(head)


class Collect:
    """A sink of its own small room, so that most bodies need several."""

    def __init__(self, room: int = 1000) -> None:
        self.data = bytearray()
        self.hints: list[int] = []
        self._room = memoryview(bytearray(room))

    def get_buffer(self, hint: int) -> memoryview:
        self.hints.append(hint)
        return self._room

    def advance(self, count: int) -> None:
        self.data += self._room[:count]


class Paced(Collect):
    """A sink that wants a pause before each buffer, as long as `pause` says so."""

    def __init__(self, pause: Callable[[], asyncio.Future[None] | None], room: int = 1000) -> None:
        super().__init__(room)
        self._pause = pause
        self._ready = False
        self._waiting: asyncio.Future[None] | None = None

    def drain(self) -> asyncio.Future[None] | None:
        assert self._waiting is None or self._waiting.done(), "asked again before it was ready"
        self._waiting = self._pause()
        self._ready = self._waiting is None
        return self._waiting

    def get_buffer(self, hint: int) -> memoryview:
        assert self._ready, "room asked for without asking whether there is any"
        return super().get_buffer(hint)

    def advance(self, count: int) -> None:
        super().advance(count)
        self._ready = False


def get(
    client: Client,
    server: ScriptedServer,
    path: str = "/",
    *,
    method: str = "GET",
    sink: Sink | None = None,
    on_head: Callable[[ResponseHead], Sink | None] | None = None,
    tls: bool | None = None,
    **options: Any,
) -> asyncio.Task[Response]:
    """A request under way, over TLS where the server speaks it or where `tls` says so."""
    endpoint = Endpoint(server.host, server.port, server.url.startswith("https") if tls is None else tls)
    data = f"{method} {path} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
    return asyncio.create_task(
        client.request(endpoint, Asking(lambda: data, on_head or (lambda head: sink), method=method, **options))
    )


def sockets() -> set[int]:
    """The descriptors of this process that are sockets; a test has fewer than a thousand."""
    found = set()
    for descriptor in range(1000):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                found.add(descriptor)
    return found


@contextlib.asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Fails if there are more tasks or sockets afterwards than before."""
    before = asyncio.all_tasks(), sockets()
    yield
    for _ in range(50):
        if (asyncio.all_tasks(), sockets()) == before:
            break
        await asyncio.sleep(0)  # a server's end of a handshake that was cut has yet to notice
    assert (asyncio.all_tasks(), sockets()) == before
