r"""A server that says exactly what it is told, byte for byte, to see what a client makes of it.

half = b"HTTP/1.1 200 OK\r\ncontent-"
async with ScriptedServer([answer(b"hello"), [half, Hold(event), Ending.RESET]]) as server:
    ...  # talk to server.url, then look at server.requests
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, cast

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from types import TracebackType

MAX_REQUEST_HEAD: Final = 1 << 20
NO_DESCRIPTORS: Final = 1.0  # seconds for which none are asked for after there were none


class Hold(NamedTuple):
    """A step of an answer: nothing more is sent until the event is set; without one, until the client leaves."""

    event: asyncio.Event | None = None


class Pause(NamedTuple):
    """A step of an answer: nothing more is sent for so many seconds."""

    seconds: float


class Ending(enum.Enum):
    """A step of an answer: how the server ends the connection. Without one it stays open for the next request."""

    CLOSE = "in good order, over TLS with its farewell"
    DROP = "without a farewell of TLS, as when a process dies"
    RESET = "by a TCP reset"


Step = bytes | Hold | Pause | Ending
Answer = bytes | Iterable[Step]


class RawRequest(NamedTuple):
    """A request as it came. `head` ends with the empty line; `connection` counts connections from 0."""

    head: bytes
    body: bytes
    connection: int

    @property
    def method(self) -> str:
        """The word at its beginning."""
        return self.head.partition(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        """What the request line asks for, as it was written."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    def header(self, name: str) -> str | None:
        """The value of the first header of that name, None without one."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        return None


def answer(body: bytes = b"", *, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """A response as it should be, with its Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


def dribble(data: bytes, size: int = 1) -> list[Step]:
    """Steps that send data in pieces of `size` bytes, with a turn of the loop after each."""
    return [data[at : at + size] for at in range(0, len(data), size)]


class ScriptedServer:
    """A TCP server on 127.0.0.1, or a TLS server with `tls`, that gives canned answers to whatever requests come.

    `answers` are given in turn, one for each request on whichever connection it comes; or it is a function from the
    request to its answer. A request for which there is none is answered by a reset. An answer is bytes, or steps:
    bytes are written one after another with a turn of the loop between them, `Hold` and `Pause` wait, `Ending` ends
    the connection. Steps from a generator are drawn one by one, the next when the one before is done. `greeting` is an
    answer given on each new connection before any request. `port` 0 is any free one.
    Who waits for "100 Continue" before a body gets it.

    Entered, it has `host`, `port` and `url`. It counts: `requests` are those whose last byte has come, `connections`
    how many there were, `open` how many there are. Left, it drops every connection, and nothing of it stays; what the
    making of an answer raised is raised then.
    """

    host: Final = "127.0.0.1"

    def __init__(
        self,
        answers: Iterable[Answer] | Callable[[RawRequest], Answer] = (),
        *,
        tls: ssl.SSLContext | None = None,
        greeting: Answer = b"",
        port: int = 0,
    ) -> None:
        self.port = port
        self.requests: list[RawRequest] = []
        self.connections = 0
        self._tls = tls
        self._greeting = greeting
        self._answer = answers if callable(answers) else _in_turn(iter(answers))
        self._listening: socket.socket | None = None
        self._arriving: set[asyncio.Task[None]] = set()  # accepted, and on the way to a connection
        self._open: set[_Connection] = set()
        self._watchers: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._open)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on the counts holds, such as `lambda: server.open == 0`."""
        while not condition():
            watcher = asyncio.get_running_loop().create_future()
            self._watchers.add(watcher)
            try:
                await watcher
            finally:
                self._watchers.discard(watcher)

    def refuse(self) -> None:
        """Takes no more connections; those there are stay."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    async def __aenter__(self) -> ScriptedServer:
        self._listening = socket.create_server((self.host, self.port), backlog=100)
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        await asyncio.sleep(0)  # for each that was accepted is under way then, and sees that it is cancelled
        if self._arriving:
            for arrival in self._arriving:
                arrival.cancel()
            await asyncio.wait(self._arriving)
        for connection in list(self._open):
            connection.end(Ending.DROP)
        await self.until(lambda: not self._open)
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._errors and error is None:
            raise self._errors[0]

    # Arrivals are counted here, and not by the loop's own server: that one loses, unclosed, what it has accepted in the
    # turn before it is closed.

    def _listen(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors are left; who is in line waits until some are
                loop.remove_reader(listening)
                loop.call_later(NO_DESCRIPTORS, self._listen)
                return
            accepted.setblocking(False)
            arrival = loop.create_task(self._arrive(accepted))
            self._arriving.add(arrival)
            arrival.add_done_callback(self._arriving.discard)

    async def _arrive(self, accepted: socket.socket) -> None:
        connection, loop = _Connection(self), asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._tls)
        except OSError:  # it left before it was greeted, or does not like the certificate
            return
        except asyncio.CancelledError:
            if connection in self._open:  # uvloop then closes the transport, and tells the protocol nothing
                connection.connection_lost(None)
            raise

    # What its connections report.

    def _connected(self, connection: _Connection) -> int:
        self._open.add(connection)
        self._tasks.add(connection.task)
        connection.task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self._tell()
        return self.connections - 1

    def _disconnected(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._tell()

    def _asked(self, request: RawRequest) -> Answer:
        self.requests.append(request)
        self._tell()
        return self._answer(request)

    def _tell(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)


class _Connection(asyncio.Protocol):
    """One client: requests out of the bytes it sends, and a task that goes through the steps of their answers."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._unread = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.task = asyncio.get_running_loop().create_task(self._talk())
        self._number = self._server._connected(self)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._arrived.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.task.cancel()
        self._server._disconnected(self)

    def end(self, ending: Ending) -> None:
        if ending is Ending.CLOSE:
            self._transport.close()
            return
        if ending is Ending.RESET:
            # Closing a socket that lingers for no time sends a reset; socket(7).
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def _talk(self) -> None:
        try:
            goes_on = await self._give(self._server._greeting)
            while goes_on:
                goes_on = await self._give(self._server._asked(await self._take_request()))
        except Exception as error:  # of whoever wrote the answers, to be raised where he sees it
            self._server._errors.append(error)
            self.end(Ending.RESET)

    async def _take_request(self) -> RawRequest:
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if len(self._unread) > MAX_REQUEST_HEAD:
                self.end(Ending.RESET)  # whose notice ends this task
            await self._more()
        request = RawRequest(bytes(self._unread[: end + 4]), b"", self._number)
        length = int(request.header("content-length") or 0)
        if request.header("expect") and len(self._unread) < end + 4 + length:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._unread) < end + 4 + length:
            await self._more()
        body = bytes(self._unread[end + 4 : end + 4 + length])
        del self._unread[: end + 4 + length]
        return request._replace(body=body)

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _give(self, answer: Answer) -> bool:
        """Goes through the steps of an answer. False when it ended the connection."""
        for step in [answer] if isinstance(answer, bytes) else answer:
            if isinstance(step, Ending):
                self.end(step)
                return False
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Hold):
                await (step.event or asyncio.Event()).wait()
            else:
                self._transport.write(step)
                await self._writable.wait()
                await asyncio.sleep(0)
        return True


def _in_turn(answers: Iterator[Answer]) -> Callable[[RawRequest], Answer]:
    return lambda request: next(answers, [Ending.RESET])
