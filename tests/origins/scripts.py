"""For servers that follow a script: what they answer, and an object to ask them for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.testing import answer
from asyncfetch.uris import parse, s3
from tests.origins.sinks import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins import ByteRange, Origin
    from asyncfetch.testing import ScriptedServer
    from asyncfetch.uris import Location

OBJECT = s3("bucket", "key")
KEY_ID, SECRET = "AKIDOFTHETESTS", "secretOfTheTests"


def refusing(code: str, *, status: str, headers: Iterable[str] = (), more: str = "") -> bytes:
    """An error document of S3."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Because.</Message>{more}</Error>".encode()
    return answer(body, status=status, headers=["x-amz-request-id: REQ1", *headers])


async def read(origin: Origin, range: ByteRange | None = None) -> bytes:
    return await fetched(origin, OBJECT, range)


async def listed(origin: Origin) -> list[ObjectStat]:
    return [stat async for stat in origin.list(OBJECT)]


def head_of(response: bytes) -> bytes:
    """What a HEAD has of an answer."""
    head, end, _ = response.partition(b"\r\n\r\n")
    return head + end


def at(server: ScriptedServer, path: str = "/a.jpg") -> Location:
    """Where an object of the web is."""
    return parse(server.url + path)


async def fetched(origin: Origin, location: Location, range: ByteRange | None = None) -> bytes:
    sink = Collector()
    await origin.read(location, sink, range=range)
    return sink.data
