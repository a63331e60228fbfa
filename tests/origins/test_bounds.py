"""Answers that claim or bring more than anybody has room for, and listings that would grow when they are read."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import aclosing
from itertools import repeat
from typing import TYPE_CHECKING

import pytest

import asyncfetch
from asyncfetch import Access, NetworkPolicy
from asyncfetch.errors import AccessDenied, AsyncfetchError, ObjectNotFound, ServerError, TransferInterrupted
from asyncfetch.objects import NotModified
from asyncfetch.testing import Ending, Hold, RawRequest, ScriptedServer, answer
from tests.leaks import census
from tests.origins.scripts import OBJECT, at, fetched, listed, read, refusing
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from asyncfetch.origins.http import HTTPOrigin
    from asyncfetch.origins.s3 import S3Origin
    from asyncfetch.testing.scripted import Answer, Step

LIMIT = 40 << 20  # bytes of memory, for answers that would be endless: a page may have 16 MiB, and grows by doubling
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
VAST = 10**15


def endless(status: str, first: bytes = b"") -> Iterator[Step]:
    yield f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    if first:
        yield b"%x\r\n%b\r\n" % (len(first), first)
    yield from repeat(CHUNK)


def vast(status: str, first: bytes = b"") -> list[Step]:
    """Claims a petabyte, and sends the beginning of it."""
    return [f'HTTP/1.1 {status}\r\nContent-Length: {VAST}\r\nETag: "e"\r\n\r\n'.encode() + first, Hold()]


def document(code: str) -> bytes:
    return refusing(code, status="400 No").partition(b"\r\n\r\n")[2]


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT


async def prepare(origin: S3Origin) -> None:
    """Has what a first call loads, which for botocore is a lot, loaded without being counted."""
    tracemalloc.stop()
    with pytest.raises(AsyncfetchError):
        await read(origin)
    tracemalloc.start()


@pytest.mark.parametrize("kind", ["native", "boto"])
async def test_an_error_document_without_end_is_read_as_far_as_it_is_of_use(
    kind: str, native: Callable[..., S3Origin]
) -> None:
    def reply(request: RawRequest) -> Answer:
        said = endless("403 Forbidden", document("AccessDenied"))
        return answer(status="403 Forbidden") if request.method == "HEAD" else said

    async with ScriptedServer(reply) as server:
        origin = native(server.url, anonymous=True, origin=kind)
        await prepare(origin)
        for call in (read, lambda origin: origin.stat(OBJECT), listed):
            with pytest.raises(AccessDenied) as caught:
                await call(origin)
            assert caught.value.code == "AccessDenied"
        await server.until(lambda: server.open == 0)


async def test_an_error_document_that_claims_too_much_is_what_came_of_it(native: Callable[..., S3Origin]) -> None:
    said = document("NoSuchKey")
    network = NetworkPolicy(read_timeout=0.2)
    async with ScriptedServer(lambda _: vast("404 Not Found", said)) as server:
        with pytest.raises(ObjectNotFound):
            await read(native(server.url, anonymous=True, network=network))


@pytest.mark.parametrize("kind", ["native", "boto"])
async def test_a_listing_without_end_is_an_error(kind: str, native: Callable[..., S3Origin]) -> None:
    def reply(request: RawRequest) -> Answer:
        listing = "list-type" in request.target
        return endless("200 OK", b"<ListBucketResult>") if listing else refusing("NoSuchKey", status="404 No")

    async with ScriptedServer(reply) as server:
        origin = native(server.url, anonymous=True, origin=kind)
        await prepare(origin)
        with pytest.raises(TransferInterrupted):
            await listed(origin)
        await server.until(lambda: server.open == 0)


async def test_a_listing_that_claims_too_much_is_not_waited_for(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda _: vast("200 OK", b"<ListBucketResult>")) as server:
        with pytest.raises(TransferInterrupted):
            await listed(native(server.url, anonymous=True))
        await server.until(lambda: server.open == 0)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize("kind", ["native", "boto"])
@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE x [<!ENTITY l11 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
    ],
)
async def test_entities_are_expanded_neither_in_listings_nor_in_errors(
    kind: str, native: Callable[..., S3Origin], doctype: str
) -> None:
    page = (
        f"<?xml version='1.0'?>{doctype}<ListBucketResult><IsTruncated>false</IsTruncated>"
        "<Contents><Key>&l11;</Key><Size>1</Size></Contents></ListBucketResult>"
    )
    error = f"<?xml version='1.0'?>{doctype}<Error><Code>InternalError</Code><Message>&l11;</Message></Error>"

    def reply(request: RawRequest) -> Answer:
        listing = "list-type" in request.target
        return answer(page.encode()) if listing else answer(error.encode(), status="500 Oops")

    async with ScriptedServer(reply) as server:
        origin = native(server.url, anonymous=True, origin=kind)
        await prepare(origin)
        with pytest.raises(TransferInterrupted):
            await listed(origin)
        with pytest.raises(ServerError) as caught:
            await read(origin)
        assert "haha" not in str(caught.value)
        assert "root:" not in str(caught.value)
        assert len(str(caught.value)) < 1000


async def test_what_is_not_wanted_is_not_read_to_its_end(native: Callable[..., S3Origin]) -> None:
    def unconditional(_: object) -> Iterator[Step]:  # a server that does not know If-None-Match
        yield b'HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\nETag: "same"\r\n\r\n'
        yield from repeat(b" " * 65_536)

    async with ScriptedServer(unconditional) as server:
        origin, sink = native(server.url, anonymous=True), Collector()
        assert await origin.read(OBJECT, sink, if_none_match="same") == NotModified(str(OBJECT))
        assert not sink.touched
        await server.until(lambda: server.open == 0)


async def test_pages_of_the_web_are_bounded_too(web: HTTPOrigin) -> None:
    async with ScriptedServer(lambda _: endless("404 Not Found")) as server:
        with pytest.raises(ObjectNotFound):
            await fetched(web, at(server))


@pytest.mark.parametrize("whole", [True, False])
async def test_memory_is_not_taken_on_a_servers_word(cache_dir: Path, whole: bool) -> None:
    def claim(_: object) -> list[Step]:
        return [f'HTTP/1.1 200 OK\r\nContent-Length: {VAST}\r\nETag: "e"\r\n\r\n12345'.encode(), Ending.CLOSE]

    tracemalloc.stop()  # 64 MiB of what is announced are believed
    async with (
        ScriptedServer(claim) as server,
        asyncfetch.Fetcher(
            cache_dir=cache_dir,
            access=Access(endpoint_url=server.url, region="us-east-1", anonymous=True),
            network=NetworkPolicy(attempts=1),
        ) as fetcher,
    ):
        with pytest.raises(TransferInterrupted):
            await (fetcher.fetch("s3://bucket/key") if whole else fetcher.read_bytes("s3://bucket/key", cache=False))
    tracemalloc.start()


async def test_a_head_without_end_is_an_error(native: Callable[..., S3Origin]) -> None:
    def heading(_: object) -> Iterator[Step]:
        yield b"HTTP/1.1 200 OK\r\n"
        yield from repeat(b"x-filler: " + b"a" * 1000 + b"\r\n")

    async with ScriptedServer(heading) as server:
        origin = native(server.url, anonymous=True)
        async with aclosing(origin), asyncio.timeout(20):
            with pytest.raises(AsyncfetchError):
                await read(origin)


async def test_a_document_that_breaks_off_leaves_no_connection(native: Callable[..., S3Origin]) -> None:
    broken: Answer = [refusing("SlowDown", status="503 Slow Down", more="x" * 1000)[:-500], Ending.RESET]
    async with ScriptedServer(lambda _: broken) as server:
        origin = native(server.url, anonymous=True, origin="boto")
        await prepare(origin)
        for call in (read, listed):
            with pytest.raises(AsyncfetchError):
                await call(origin)
        await server.until(lambda: server.open == 0)
        census()  # collects garbage: a connection that nobody closed would complain
