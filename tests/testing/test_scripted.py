"""The scripted server, asked by plain sockets, so that it is judged by something simpler than itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
import uvloop

from asyncfetch.testing.scripted import Ending, Hold, RawRequest, ScriptedServer, Step, answer, dribble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

REQUEST = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Note:  two words \r\n\r\n"


@contextlib.asynccontextmanager
async def dialled(
    server: ScriptedServer, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_answers_are_given_in_turn_and_requests_are_kept() -> None:
    async with ScriptedServer([b"first", [b"sec", b"ond"]]) as server:
        async with dialled(server) as (reader, writer):
            writer.write(REQUEST)
            assert await reader.readexactly(5) == b"first"
        async with dialled(server) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na")
            await asyncio.sleep(0)
            writer.write(b"bc")
            assert await reader.readexactly(6) == b"second"
        first, second = server.requests
        assert (first.method, first.target, first.body, first.connection) == ("GET", "/a?b=c", b"", 0)
        assert (first.header("x-note"), first.header("none"), first.head) == ("two words", None, REQUEST)
        assert (second.method, second.body, second.connection) == ("POST", b"abc", 1)
        await server.until(lambda: server.open == 0)
        assert server.connections == 2


async def test_requests_may_come_byte_by_byte_or_together() -> None:
    async with ScriptedServer([b"1", b"2", b"3"]) as server, dialled(server) as (reader, writer):
        for byte in REQUEST:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await reader.readexactly(1) == b"1"
        writer.write(REQUEST * 2)
        assert await reader.readexactly(2) == b"23"


async def test_a_function_may_answer() -> None:
    def script(request: RawRequest) -> bytes:
        return request.target.encode()

    async with ScriptedServer(script) as server, dialled(server) as (reader, writer):
        writer.write(REQUEST)
        assert await reader.readexactly(6) == b"/a?b=c"


async def test_what_a_function_raises_is_raised_at_the_end() -> None:
    def script(request: RawRequest) -> bytes:
        raise LookupError(request.target)

    with pytest.raises(LookupError, match="/a"):
        async with ScriptedServer(script) as server, dialled(server) as (reader, writer):
            writer.write(REQUEST)
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_what_a_generator_raises_is_raised_at_the_end() -> None:
    def steps() -> Iterator[Step]:
        yield b"a"
        raise LookupError("b")

    with pytest.raises(LookupError, match="b"):
        async with ScriptedServer([steps()]) as server, dialled(server) as (reader, writer):
            writer.write(REQUEST)
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(2)


async def test_a_hold_waits_for_its_event() -> None:
    go = asyncio.Event()
    async with ScriptedServer([[b"a", Hold(go), b"b"]]) as server, dialled(server) as (reader, writer):
        writer.write(REQUEST)
        assert await reader.readexactly(1) == b"a"
        rest = asyncio.create_task(reader.readexactly(1))
        await asyncio.wait([rest], timeout=0.05)
        assert not rest.done()
        go.set()
        assert await rest == b"b"


async def test_steps_from_a_generator_are_drawn_as_they_are_done() -> None:
    go, drawn = asyncio.Event(), list[str]()

    def steps() -> Iterator[Step]:
        yield b"a"
        drawn.append("hold")
        yield Hold(go)
        drawn.append("rest")
        yield b"b"

    async with ScriptedServer([steps()]) as server, dialled(server) as (reader, writer):
        writer.write(REQUEST)
        assert await reader.readexactly(1) == b"a"
        assert drawn == ["hold"]
        go.set()
        assert await reader.readexactly(1) == b"b"
        assert drawn == ["hold", "rest"]


async def test_endings() -> None:
    async with ScriptedServer([[b"a", Ending.CLOSE], [b"a", Ending.DROP], [Ending.RESET]]) as server:
        for _ in range(2):
            async with dialled(server) as (reader, writer):
                writer.write(REQUEST)
                assert await reader.read() == b"a"
        # The last answer, and then none is left.
        for _ in range(2):
            async with dialled(server) as (reader, writer):
                writer.write(REQUEST)
                with pytest.raises(ConnectionResetError):
                    await reader.read()


async def test_it_may_speak_first() -> None:
    async with ScriptedServer([b"2"], greeting=b"1") as server, dialled(server) as (reader, writer):
        assert await reader.readexactly(1) == b"1"
        writer.write(REQUEST)
        assert await reader.readexactly(1) == b"2"


async def test_over_tls() -> None:
    authority = trustme.CA()
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    async with ScriptedServer([b"ab", [b"cd", Ending.CLOSE]], tls=served) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        async with dialled(server, trusting) as (reader, writer):
            writer.write(REQUEST)
            assert await reader.readexactly(2) == b"ab"
            writer.write(REQUEST)
            assert await reader.read() == b"cd"


async def test_large_answers_wait_for_a_slow_reader() -> None:
    body = bytes(8 << 20)
    async with ScriptedServer([[answer(body), b"behind"]]) as server, dialled(server) as (reader, writer):
        writer.write(REQUEST)
        await server.until(lambda: len(server.requests) == 1)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n")
        assert await reader.readexactly(len(body)) == body
        assert await reader.readexactly(6) == b"behind"


async def test_it_may_take_no_more_connections() -> None:
    async with ScriptedServer([b"ab"]) as server, dialled(server) as (reader, writer):
        await server.until(lambda: server.open == 1)
        server.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, server.port)
        writer.write(REQUEST)
        assert await reader.readexactly(2) == b"ab"


async def test_leaving_drops_clients_in_any_state() -> None:
    async with ScriptedServer([[b"a", Hold()]]) as server:
        async with dialled(server) as (reader, writer), dialled(server) as (idle, _):
            writer.write(REQUEST)
            await reader.readexactly(1)
            await server.until(lambda: server.open == 2)
            await server.__aexit__(None, None, None)
            assert server.open == 0
            assert await reader.read() == b""
            assert await idle.read() == b""
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_arrives_in_the_turn_in_which_it_is_left_is_dropped_too(
    loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    async def leave() -> socket.socket:
        async with ScriptedServer() as server:
            client = socket.create_connection((server.host, server.port))  # nobody has accepted it yet
            for _ in range(turns):
                await asyncio.sleep(0)
        return client

    with asyncio.Runner(loop_factory=loop) as runner:
        client = runner.run(asyncio.wait_for(leave(), 20))
    gc.collect()  # what nobody holds any more and has not been closed warns, and warnings are errors
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


async def test_who_does_not_finish_its_handshake_is_dropped_too() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with ScriptedServer(tls=context) as server:
        client = socket.create_connection((server.host, server.port))
        for _ in range(5):
            await asyncio.sleep(0)
    gc.collect()
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


async def test_a_head_without_end_is_cut_off() -> None:
    async with ScriptedServer() as server, dialled(server) as (reader, writer):
        writer.write(b"x" * (2 << 20))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert server.requests == []


def test_answers_are_easily_made() -> None:
    assert answer(b"ab", status="404 Not Found", headers=["A: b"]) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nA: b\r\n\r\nab"
    )
    assert dribble(b"abcde", 2) == [b"ab", b"cd", b"e"]
    assert dribble(b"") == []
