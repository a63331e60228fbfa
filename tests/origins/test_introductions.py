"""What origins say of an object before its first byte, to sinks that want to know."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.origins import ByteRange, Sink, open_origins
from asyncfetch.settings import Access, NetworkPolicy, Settings
from asyncfetch.testing import RawRequest, ScriptedServer
from asyncfetch.uris import Location, parse

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins import Origin

BODY = bytes(range(200)) * 10


class Plain:
    """Keeps a body."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._room = bytearray(64)

    def get_buffer(self, hint: int) -> memoryview:
        return memoryview(self._room)

    def advance(self, count: int) -> None:
        self.data += self._room[:count]


class Informed(Plain):
    """Has the body go elsewhere, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[ObjectStat, int]] = []
        self.other = Plain()

    def begin(self, stat: ObjectStat, start: int) -> Sink:
        assert not self.data
        self.told.append((stat, start))
        return self.other


class Refusing(Plain):
    """Wants nothing of it."""

    def begin(self, stat: ObjectStat, start: int) -> Sink:
        raise KeyError(start)


def serve(body: bytes = BODY, *, ranges: bool = True, length: bool = True) -> Any:
    def answer(request: RawRequest) -> bytes:
        found = request.header("range") if ranges else None
        start, stop = 0, len(body)
        if found:
            first, _, last = found.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else stop
        lines = ["HTTP/1.1 206 Partial Content" if found else "HTTP/1.1 200 OK", 'ETag: "e"']
        lines += [f"Content-Range: bytes {start}-{stop - 1}/{len(body)}"] if found else []
        part = body[start:stop]
        if length:
            return "\r\n".join([*lines, f"Content-Length: {len(part)}", "\r\n"]).encode() + part
        lines.append("Transfer-Encoding: chunked")
        return "\r\n".join([*lines, "\r\n"]).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(part), part)

    return answer


def origin_of(kind: str, server: ScriptedServer, network: NetworkPolicy | None = None) -> tuple[Origin, Location]:
    access = Access(
        endpoint_url=server.url, anonymous=True, region="us-east-1", origin="boto" if kind == "boto" else "native"
    )
    origins = open_origins(Settings(access=access, network=network or NetworkPolicy()))
    if kind == "http":
        return origins["http"], parse(f"{server.url}/bucket/key")
    return origins["s3"], Location("s3", "bucket", "key")


@pytest.mark.parametrize("kind", ["s3", "boto", "http"])
@pytest.mark.parametrize(
    ("ranges", "span", "start"),
    [
        (True, None, 0),
        (True, ByteRange(0), 0),
        (True, ByteRange(0, 50), 0),
        (True, ByteRange(70, 150), 70),
        (True, ByteRange(70), 70),
        (False, None, 0),
        (False, ByteRange(70, 150), 0),
    ],
)
async def test_the_object_and_the_place_are_told_once_and_the_body_goes_where_it_is_wanted(
    kind: str, ranges: bool, span: ByteRange | None, start: int
) -> None:
    sink = Informed()
    async with ScriptedServer(serve(ranges=ranges)) as server:
        origin, location = origin_of(kind, server)
        async with aclosing(origin):
            stat = await origin.read(location, sink, range=span)
    assert sink.told == [(stat, start)]
    assert (sink.told[0][0].size, sink.told[0][0].etag) == (len(BODY), "e")
    assert not sink.data
    assert sink.other.data == BODY[span.start if span else 0 : span.stop if span else None]


@pytest.mark.parametrize("kind", ["s3", "boto", "http"])
async def test_what_a_sink_raises_ends_the_read_and_its_connection(kind: str) -> None:
    async with ScriptedServer(serve(BODY * 5000)) as server:  # of which most is still to come: nothing to be reused
        origin, location = origin_of(kind, server)
        async with aclosing(origin):
            with pytest.raises(KeyError):
                await origin.read(location, Refusing(), range=ByteRange(5))
            await server.until(lambda: server.open == 0)


@pytest.mark.parametrize("kind", ["s3", "http"])
async def test_a_size_that_only_the_end_will_tell_is_not_told(kind: str) -> None:
    sink = Informed()
    async with ScriptedServer(serve(length=False)) as server:
        origin, location = origin_of(kind, server)
        async with aclosing(origin):
            await origin.read(location, sink)
    assert not sink.told
    assert sink.data == BODY


async def test_files_tell_it_too(tmp_path: Path) -> None:
    path, sink = tmp_path / "file", Informed()
    path.write_bytes(BODY)
    origin = open_origins(Settings())["file"]
    async with aclosing(origin):
        stat = await origin.read(Location("file", "", str(path)), sink, range=ByteRange(70, 90))
    assert sink.told == [(stat, 70)]
    assert sink.other.data == BODY[70:90]
