"""Sinks that cannot take a body as fast as it comes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from asyncfetch.http import ConnectionLost
from asyncfetch.testing.scripted import dribble
from tests.http.helpers import Channel, Ending, Paced, answer, get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.testing.scripted import Answer, Step

BODY = os.urandom(300_000)


class TestASinkThatFallsBehind:
    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_loses_nothing(self, channel: Channel, framing: str) -> None:
        asked = 0

        def pause() -> asyncio.Future[None] | None:
            nonlocal asked
            asked += 1
            if asked % 2:
                return None
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, None)
            return future

        if framing == "length":
            script: Answer = answer(BODY)
        elif framing == "chunked":
            chunks = [
                b"%x\r\n%s\r\n" % (len(BODY[at : at + 9999]), BODY[at : at + 9999]) for at in range(0, len(BODY), 9999)
            ]
            script = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"".join(chunks), b"0\r\n\r\n"]
        else:
            script = [b"HTTP/1.1 200 OK\r\n\r\n" + BODY, Ending.CLOSE]
        sink = Paced(pause, room=3000)
        async with channel.talk([script, answer(b"next")]) as (server, client):
            assert (await get(client, server, sink=sink)).received == len(BODY)
            assert bytes(sink.data) == BODY
            assert (await get(client, server)).body == b"next"

    async def test_stops_the_reading(self, channel: Channel) -> None:
        ready = asyncio.Event()
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def pause() -> asyncio.Future[None] | None:
            ready.set()
            return None if gate.done() else gate

        sink, written = Paced(pause), asyncio.Event()
        body = os.urandom(20 << 20)  # more than all the buffers on the way

        def steps() -> Iterator[Step]:
            yield from dribble(answer(body), 1 << 20)
            written.set()

        async with channel.talk([steps()], read_timeout=0.05) as (server, client):
            under_way = get(client, server, sink=sink)
            await ready.wait()
            # Silence of the server is not counted while it is us who do not listen.
            await asyncio.wait([under_way], timeout=0.3)
            assert not under_way.done()
            assert len(sink.data) == 0
            assert not written.is_set()
            gate.set_result(None)
            assert (await under_way).received == len(body)
            assert bytes(sink.data) == body

    @pytest.mark.parametrize("how", ["future", "call", "cancel"])
    async def test_may_fail(self, channel: Channel, how: str) -> None:
        def pause() -> asyncio.Future[None]:
            if how == "call":
                raise OSError("disk full")
            future = asyncio.get_running_loop().create_future()
            if how == "cancel":
                asyncio.get_running_loop().call_soon(future.cancel)
            else:
                asyncio.get_running_loop().call_soon(future.set_exception, OSError("disk full"))
            return future

        async with channel.talk([answer(BODY)]) as (server, client):
            with pytest.raises((OSError, asyncio.CancelledError)) as caught:
                await get(client, server, sink=Paced(pause))
            assert (str(caught.value) == "disk full") == (how != "cancel")
            await server.until(lambda: server.open == 0)
            assert client.statistics().open == 0

    async def test_is_left_alone_after_a_cancellation(self, channel: Channel) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = asyncio.Event()

        def pause() -> asyncio.Future[None]:
            asked.set()
            return gate

        sink = Paced(pause)
        async with channel.talk([answer(BODY)]) as (server, client):
            under_way = get(client, server, sink=sink)
            await asked.wait()
            under_way.cancel()
            with pytest.raises(asyncio.CancelledError):
                await under_way
            gate.set_result(None)
            await server.until(lambda: server.open == 0)
            assert sink.hints == []

    async def test_may_still_have_bytes_to_take_when_the_connection_ends(self, channel: Channel) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = asyncio.Event()

        def pause() -> asyncio.Future[None] | None:
            asked.set()
            return None if gate.done() else gate

        sink = Paced(pause)
        async with channel.talk([[answer(b"x" * 5000), Ending.CLOSE]]) as (server, client):
            under_way = get(client, server, sink=sink)
            await asked.wait()
            for _ in range(20):
                await asyncio.sleep(0)  # so that the end may come, where the transport lets it
            gate.set_result(None)
            assert (await under_way).received == 5000

    @pytest.mark.parametrize("whole", [True, False])
    async def test_learns_how_the_connection_ended_meanwhile(self, channel: Channel, whole: bool) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def pause() -> asyncio.Future[None] | None:
            return None if gate.done() else gate

        sink, head = Paced(pause), b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        said = head + (b"\r\nab" if whole else b"Content-Length: 3\r\n\r\nab")
        async with channel.talk([[said, Ending.CLOSE]], read_timeout=5) as (server, client):
            under_way = get(client, server, sink=sink)
            await server.until(lambda: len(server.requests) == 1)
            for _ in range(20):
                await asyncio.sleep(0)  # so that the end may come, where the transport lets it
            gate.set_result(None)
            if whole:
                assert (await under_way).received == 2
            else:
                with pytest.raises(ConnectionLost):
                    await under_way
            assert bytes(sink.data) == b"ab"

    async def test_is_not_left_with_a_connection_that_ended_meanwhile(self, channel: Channel) -> None:
        """asyncio's TLS layer keeps to itself an end that comes while reading is paused, and swallows what is sent."""
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def pause() -> asyncio.Future[None] | None:
            return None if gate.done() else gate

        async with channel.talk([[answer(b"x" * 5000), Ending.DROP], answer(b"next")], read_timeout=5) as (
            server,
            client,
        ):
            under_way = get(client, server, sink=Paced(pause))
            await server.until(lambda: server.connections == 1 and server.open == 0)
            for _ in range(20):
                await asyncio.sleep(0)  # so that the end may come, where the transport lets it
            gate.set_result(None)
            assert (await under_way).received == 5000
            assert (await get(client, server)).body == b"next"
