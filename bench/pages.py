"""A server of canned LIST pages: ListObjectsV2 of one bucket whose pages are bytes made before the first request.

Run as `python -m bench.pages COUNT`, or with a directory whose files it lists as nginx serves them: prints its port,
serves until its standard input ends. It checks no signature, and knows the parameter continuation-token only
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import uvloop

from bench.names import BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 1000  # keys: what S3 gives at most


class Listed(NamedTuple):
    """An object, as a page tells of it."""

    key: str
    size: int
    etag: str
    modified: str = "2025-03-14T15:09:26.000Z"


def keys(count: int) -> Iterator[tuple[str, int]]:
    """The keys that are listed, in their order, with their sizes."""
    return ((f"photos/class-{index // 1000:05d}/{index:09d}.jpg", 50_000 + index % 70_000) for index in range(count))


def made_up(count: int) -> list[Listed]:
    """So many objects that are nowhere else."""
    return [Listed(key, size, md5(key.encode(), usedforsecurity=False).hexdigest()) for key, size in keys(count)]


def files(directory: Path) -> list[Listed]:
    """The files below a directory, each with the ETag that nginx gives it: time and size, both in hexadecimal."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file():
            stat = path.stat()
            modified = datetime.fromtimestamp(int(stat.st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            etag = f"{int(stat.st_mtime):x}-{stat.st_size:x}"
            found.append(Listed(path.relative_to(directory).as_posix(), stat.st_size, etag, modified))
    return sorted(found, key=lambda listed: listed.key.encode())


def pages(listed: list[Listed], bucket: str = BUCKET) -> list[bytes]:
    """The answers, whole: page n continues by the token `n`."""
    count = len(listed)
    starts = range(0, max(count, 1), PAGE)
    return [
        _answer(_page(bucket, listed[start : start + PAGE], number + 1 if start + PAGE < count else None, number))
        for number, start in enumerate(starts)
    ]


def _page(bucket: str, listed: list[Listed], following: int | None, number: int) -> bytes:
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key, size, etag, modified in listed
    )
    here = f"<ContinuationToken>{number}</ContinuationToken>" if number else ""
    there = "" if following is None else f"<NextContinuationToken>{following}</NextContinuationToken>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name><Prefix></Prefix>'
        f"{here}{there}<KeyCount>{len(listed)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{'false' if following is None else 'true'}</IsTruncated>{contents}</ListBucketResult>"
    ).encode()


def _answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, canned: list[bytes]) -> None:
        self._canned = canned
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._transport.write(self._reply(head.split(b" ", 2)[1].decode()))

    def _reply(self, target: str) -> bytes:
        query = parse_qs(urlsplit(target).query)
        number = int(query.get("continuation-token", ["0"])[0])
        if query.get("list-type") != ["2"] or number >= len(self._canned):
            return _answer(b"<Error><Code>NotImplemented</Code></Error>", "501 Not Implemented")
        return self._canned[number]


async def _serve(what: str) -> None:
    loop = asyncio.get_running_loop()
    canned = pages(made_up(int(what))) if what.isdecimal() else pages(files(Path(what)), Path(what).name)
    server = await loop.create_server(lambda: _Connection(canned), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", metavar="COUNT|DIRECTORY")
    uvloop.run(_serve(parser.parse_args().what))
