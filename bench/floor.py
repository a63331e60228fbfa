"""The floor: one keep-alive GET at a time on each connection, in a protocol class that does nothing else.

A measure and no client: it trusts the server, knows bodies of announced length only, and repeats nothing. Its requests
are signed (SigV4, with the key of the day kept), its buffers are reused. What an engine costs comes on top of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit

from bench.keep import Kept
from bench.names import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.keep import Keep, Piece

BUFFER = 256 << 10  # a photograph with its head fits, and a large body comes in pieces that the caches of a CPU hold


class Signer:
    """Writes signed GET requests.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """

    def __init__(self, host: str, access_key: str, secret_key: str) -> None:
        self._host = host
        self._access_key = access_key
        self._secret = f"AWS4{secret_key}".encode()
        self._day = ""
        self._key = b""

    def get(self, path: str) -> bytes:
        """The head of a GET of a path that is percent-encoded already."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        if now[:8] != self._day:
            self._day, key = now[:8], self._secret
            for part in scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = key
        fields = f"host:{self._host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{now}\n"
        signed = "host;x-amz-content-sha256;x-amz-date"
        canonical = f"GET\n{path}\n\n{fields}\n{signed}\nUNSIGNED-PAYLOAD"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        return (
            f"GET {path} HTTP/1.1\r\nhost: {self._host}\r\n"
            f"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nx-amz-date: {now}\r\n"
            f"authorization: AWS4-HMAC-SHA256 Credential={self._access_key}/{scope}, SignedHeaders={signed}, "
            f"Signature={signature}\r\n\r\n"
        ).encode()


class Channel(asyncio.BufferedProtocol):
    """One connection. With a `Keep` bodies are hashed and written in place, without they are dropped."""

    def __init__(self, keep: Keep | None) -> None:
        self._keep = keep
        self._room = memoryview(bytearray(BUFFER))
        self._filled = 0  # bytes of the room in use
        self._begin = 0  # where in it the body begins: behind its head, or at 0 in later pieces
        self._left = -1  # bytes of the body that are not in the room yet; -1 before its head is whole
        self._key = ""
        self._size = 0
        self._piece: Piece | None = None
        self._done: asyncio.Future[Kept] | None = None

    def get(self, key: str, request: bytes) -> asyncio.Future[Kept]:
        """Sends a request. The future is what came of it, or an `OSError`."""
        self._key = key
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._left < 0:
            end = bytes(self._room[: self._filled]).find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = bytes(self._room[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(OSError(head.partition(b"\r\n")[0].decode()))
                return
            self._size = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            self._left = self._size - (self._filled - end)
            self._begin = end
        else:
            self._left -= nbytes
        # A body that fits in behind its head is taken once and whole.
        if self._left <= 0 or self._filled == BUFFER:
            self._take(self._room[self._begin : self._filled])
            self._filled = self._begin = 0
        if self._left == 0:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._fail(exc or ConnectionResetError("the server closed the connection"))

    def _take(self, body: memoryview) -> None:
        if self._keep is None:
            return
        if self._piece is None:
            self._piece = self._keep.begin(self._key)
        self._piece.write(body)

    def _finish(self) -> None:
        assert self._done is not None
        self._left = -1
        if self._keep is not None:
            if self._piece is None:
                self._piece = self._keep.begin(self._key)
            self._piece.__exit__(None)
            self._piece = None
            self._done.set_result(self._keep.kept[-1])
        else:
            self._done.set_result(Kept(self._key, self._size, None, None))

    def _fail(self, error: Exception) -> None:
        assert self._done is not None
        self._transport.abort()
        if not self._done.done():
            self._done.set_exception(error)


class Floor:
    """So many connections to one server. `get` reads all of the keys and gives what came of each, and the errors."""

    def __init__(self, endpoint: str, bucket: str, authority: str | None, keys: tuple[str, str], at_once: int) -> None:
        url = urlsplit(endpoint)
        self._host, self._bucket = url.hostname or "", bucket
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._context = ssl.create_default_context(cafile=authority) if url.scheme == "https" else None
        self._signer = Signer(url.netloc, *keys)
        self._at_once = at_once

    async def get(self, keys: list[str], keep: Keep | None = None) -> tuple[list[Kept], list[str]]:
        """Opens the connections, reads, and closes them."""
        left, kept, errors = iter(keys), list[Kept](), list[str]()
        await asyncio.gather(*(self._lane(left, keep, kept, errors) for _ in range(min(self._at_once, len(keys)))))
        return kept, errors

    async def _lane(self, left: Iterator[str], keep: Keep | None, kept: list[Kept], errors: list[str]) -> None:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: Channel(keep), self._host, self._port, ssl=self._context)
        try:
            for key in left:
                try:
                    kept.append(await channel.get(key, self._signer.get(quote(f"/{self._bucket}/{key}"))))
                except OSError as error:
                    errors.append(repr(error))
                    return
        finally:
            channel.close()
