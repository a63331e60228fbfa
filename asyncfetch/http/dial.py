"""From an endpoint to a connection: names resolved and spread over, addresses raced, TLS, every failure named."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from asyncfetch.http.errors import CertificateRefused, ConnectFailed, ConnectTimeout, NameFailed, TLSFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

T = TypeVar("T")
_Address = tuple[socket.AddressFamily, int, tuple[str | int, ...] | tuple[int, bytes]]  # family, protocol, address

# getaddrinfo does not say how long its answer holds. S3's names change about every 5 s, each answer with up to eight of
# many addresses, and only the making of connections asks.
NAME_LIFETIME: Final = 5.0
HEAD_START: Final = 0.25  # of one address before the next is tried beside it; RFC 8305, section 5, recommends it


class Endpoint(NamedTuple):
    """Where a server is. `host` is a name, or an address without brackets."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Dialer:
    """Makes connections to one endpoint. Each begins with another of the addresses that its name has."""

    def __init__(self, endpoint: Endpoint, *, timeout: float, context: Shared[ssl.SSLContext]) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._context = context
        self._addresses = Shared(self._look_up, lifetime=NAME_LIFETIME)
        self._turn = 0

    async def dial(self, protocol: asyncio.BaseProtocol) -> socket.socket:
        """Connects a protocol, over TLS with its handshake done, and gives the socket, which belongs to the transport.

        Raises `ConnectFailed` or `NameFailed`, `TLSFailed` or `CertificateRefused`, `ConnectTimeout`, and what the
        making of the TLS context raised. Cancelled, it leaves no socket.
        """
        context = await self._context.get() if self._endpoint.tls else None
        where, phase = str(self._endpoint), "looking up the name"
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(self._timeout):
                addresses = await self._addresses.get()
                phase = "connecting"
                self._turn += 1
                sock = await _race(_rotated(addresses, self._turn))
                if context is not None:
                    phase = "in the TLS handshake"
                await asyncio.get_running_loop().create_connection(
                    lambda: protocol,
                    sock=sock,
                    ssl=context,
                    server_hostname=self._endpoint.host if context else None,
                    # The loop's own time-out, which would hide what happened, must not come first.
                    ssl_handshake_timeout=2 * self._timeout if context else None,
                )
                made, sock = sock, None
                return made
        except TimeoutError as error:
            raise ConnectTimeout(where, self._timeout, phase) from error
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(where, f"the certificate is not trusted ({error.verify_message})") from error
        except ssl.SSLError as error:
            raise TLSFailed(where, _tls_reason(error)) from error
        except (socket.gaierror, UnicodeError) as error:
            raise NameFailed(where, f"the name does not resolve ({_plain(error)})") from error
        except OSError as error:
            if phase == "in the TLS handshake":
                raise TLSFailed(where, f"the connection ended in the handshake ({_plain(error)})") from error
            raise ConnectFailed(where, _plain(error)) from error
        finally:
            if sock is not None:
                sock.close()

    def close(self) -> None:
        """Ends a look-up under way."""
        self._addresses.close()

    async def _look_up(self) -> list[_Address]:
        host: str | bytes = self._endpoint.host
        if self._endpoint.host.isascii():  # as text it goes through Python's IDNA, which takes 4 ms to be loaded
            host = self._endpoint.host.encode("ascii")
        found = await asyncio.get_running_loop().getaddrinfo(host, self._endpoint.port, type=socket.SOCK_STREAM)
        return [(family, protocol, address) for family, _, protocol, _, address in found]


class Shared(Generic[T]):
    """One value for all who ask while it is fresh, made by one task that no asker's cancellation ends."""

    def __init__(self, make: Callable[[], Coroutine[object, object, T]], *, lifetime: float) -> None:
        self._make = make
        self._lifetime = lifetime
        self._task: asyncio.Task[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        """The value, made now if none is fresh. Raises what making it raised; who asks next tries anew."""
        loop = asyncio.get_running_loop()
        if self._task is None or (self._task.done() and loop.time() >= self._until):
            self._task = loop.create_task(self._make())
            self._task.add_done_callback(self._made)
        return await asyncio.shield(self._task)

    def close(self) -> None:
        """Ends the making, if that is under way; whoever waits for it is cancelled."""
        if self._task is not None:
            self._task.cancel()

    def _made(self, task: asyncio.Task[T]) -> None:
        failed = task.cancelled() or task.exception() is not None
        self._until = 0.0 if failed else task.get_loop().time() + self._lifetime


def _rotated(addresses: Sequence[_Address], turn: int) -> list[_Address]:
    """All addresses, families in turn (RFC 8305, section 4), beginning elsewhere each time.

    The family that the resolver put first stays first: it knows which one works here.
    """
    families: dict[int, list[_Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    lists = [found[turn % len(found) :] + found[: turn % len(found)] for found in families.values()]
    return [found[i] for i in range(max(map(len, lists))) for found in lists if i < len(found)]


async def _race(addresses: Sequence[_Address]) -> socket.socket:
    """A socket connected to the first address that answers; the others get a head start each, then run beside it.

    Raises the first OSError when all fail. Cancelled, it leaves no socket.
    """
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = list(reversed(addresses))
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connect(waiting.pop())))
            done, _ = await asyncio.wait(
                running, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                running.remove(task)
                try:
                    return task.result()
                except OSError as error:
                    errors.append(error)
        raise errors[0]
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_result)


async def _connect(address: _Address) -> socket.socket:
    family, protocol, target = address
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _tls_reason(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return f"the port does not speak it ({error.reason})"
    return error.reason or str(error)


def _plain(error: Exception) -> str:
    """The system's words for an error, without the number and the address that loops add to them."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
