"""An S3 server for the bench of thumbnails: `python -m bench.late IMAGES SECONDS` says its port, until stdin ends.

It has photographs of 320 x 240 pixels under `photos/`, takes every PUT, and gives each answer so many seconds late.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import uvloop

from asyncfetch.testing import demo_objects
from asyncfetch.testing.shelf import Shelf
from bench.names import BUCKET
from bench.servers import HOST

if TYPE_CHECKING:
    from asyncfetch.testing.shelf import Reply

_WRITTEN = b'HTTP/1.1 200 OK\r\nETag: "0123456789abcdef0123456789abcdef"\r\nContent-Length: 0\r\n\r\n'


def photographs(count: int) -> dict[str, bytes]:
    """So many, each a little different."""
    decoded = [cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) for _, body in demo_objects(12) if body]
    scenes = [cv2.resize(image, (320, 240), interpolation=cv2.INTER_AREA) for image in decoded if image is not None]
    made = {}
    for number in range(count):
        image = scenes[number % len(scenes)].copy()
        image[:8, :8] = number % 251
        made[f"photos/{number:06}.jpg"] = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return made


class _Connection(asyncio.Protocol):
    def __init__(self, shelf: Shelf, late: float) -> None:
        self._shelf, self._late = shelf, late
        self._received = b""
        self._begun = False  # its head is here, and who waits for it has been told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            pairs = (one.partition(":") for one in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            if "expect" in headers and not self._begun:  # at once: that is kind to who asks
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = int(headers.get("content-length", "0"))
            self._begun = len(rest) < length
            if self._begun:
                return
            self._received = rest[length:]
            method, target, _ = line.split(" ")
            answer = _WRITTEN if method == "PUT" else _bytes(self._shelf.reply(method, target, headers))
            asyncio.get_running_loop().call_later(self._late, self._answer, answer)

    def _answer(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _bytes(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} -", f"Content-Length: {reply.length}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "\r\n"]).encode() + reply.body


async def _serve(count: int, late: float) -> None:
    loop = asyncio.get_running_loop()
    shelf = Shelf(photographs(count), bucket=BUCKET, checksum=None)
    server = await loop.create_server(lambda: _Connection(shelf, late), HOST, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    uvloop.run(_serve(given.images, given.seconds))
