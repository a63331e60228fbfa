"""Servers that hang up at the wrong moment."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING

import pytest

from asyncfetch.http import Client, ConnectionLost, Endpoint
from asyncfetch.http.connection import UNSEEN
from tests.http.helpers import Asking, Channel, Ending, Hold, RawRequest, answer, get

if TYPE_CHECKING:
    from asyncfetch.http import Response
    from asyncfetch.testing.scripted import Answer


class TestAStaleConnection:
    @pytest.mark.parametrize("ending", list(Ending))
    async def test_is_replaced_and_the_request_repeated(self, channel: Channel, ending: Ending) -> None:
        async with channel.talk([answer(b"ab"), [ending], answer(b"cd")]) as (server, client):
            await get(client, server)
            assert (await get(client, server, "/again")).body == b"cd"
            assert [request.target for request in server.requests] == ["/", "/again", "/again"]
            assert [request.connection for request in server.requests] == [0, 0, 1]
            assert client.statistics().repeated == 1

    async def test_has_its_request_built_anew(self, plain: Channel) -> None:
        built: list[bytes] = []

        def build() -> bytes:
            built.append(b"GET /%d HTTP/1.1\r\n\r\n" % len(built))
            return built[-1]

        async with plain.talk([answer(), [Ending.RESET], answer()]) as (server, client):
            endpoint = Endpoint(server.host, server.port, False)
            for _ in range(2):
                await client.request(endpoint, Asking(build))
            assert [request.target for request in server.requests] == ["/0", "/1", "/2"]

    async def test_is_replaced_once_only(self, channel: Channel) -> None:
        async with channel.talk([answer(b"ab"), [Ending.RESET], [Ending.RESET], answer()]) as (server, client):
            await get(client, server)
            with pytest.raises(ConnectionLost) as caught:
                await get(client, server)
            assert caught.value.stale
            assert len(server.requests) == 3

    async def test_is_an_error_on_its_first_request(self, channel: Channel) -> None:
        async with channel.talk([[Ending.CLOSE], answer()]) as (server, client):
            with pytest.raises(ConnectionLost) as caught:
                await get(client, server)
            assert caught.value.stale
            assert len(server.requests) == 1

    async def test_is_an_error_for_what_must_not_be_done_twice(self, channel: Channel) -> None:
        async with channel.talk([answer(), [Ending.RESET], answer()]) as (server, client):
            await get(client, server)
            with pytest.raises(ConnectionLost):
                await get(client, server, method="POST")
            assert len(server.requests) == 2

    @pytest.mark.parametrize("beginning", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
    async def test_is_not_one_that_began_to_answer(self, channel: Channel, beginning: bytes) -> None:
        seen = asyncio.Event()
        async with channel.talk([answer(), [beginning, Hold(seen), Ending.CLOSE], answer()]) as (server, client):
            await get(client, server)
            under_way = get(client, server)
            await server.until(lambda: len(server.requests) == 2)
            for _ in range(10):
                await asyncio.sleep(0)  # the byte is on its way through this very loop
            seen.set()
            with pytest.raises(ConnectionLost) as caught:
                await under_way
            assert not caught.value.stale
            assert len(server.requests) == 2

    async def test_may_never_have_been_used(self, channel: Channel) -> None:
        """A request was cancelled while its connection was being made: that is idle then, and may grow stale too."""
        async with channel.talk([[Ending.RESET], answer(b"ab")]) as (server, client):
            under_way = get(client, server)
            await asyncio.sleep(0)
            under_way.cancel()
            while not client.statistics().idle:
                await asyncio.sleep(0)
            assert (await get(client, server)).body == b"ab"
            assert client.statistics().repeated == 1

    async def test_many_at_once_are_all_replaced(self, channel: Channel) -> None:
        everyone = asyncio.Event()

        def script(request: RawRequest) -> Answer:
            if request.target == "/last":
                return answer(b"fresh") if request.connection >= 4 else [Ending.DROP]
            return [Hold(everyone), answer()]

        async with channel.talk(script, max_connections=4) as (server, client):
            first = [get(client, server) for _ in range(4)]
            await server.until(lambda: len(server.requests) == 4)
            everyone.set()
            await asyncio.gather(*first)
            responses = await asyncio.gather(*[get(client, server, "/last") for _ in range(10)])
            assert {response.body for response in responses} == {b"fresh"}
            assert client.statistics().repeated == 4

    async def test_that_was_told_so_in_a_long_turn_takes_no_request(self) -> None:
        """A 408 comes while the loop is busy: it must not pass for the answer to what is sent next on that connection,
        though the loop has just brought another connection's answer.
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(5)
            endpoint, client = Endpoint("127.0.0.1", listener.getsockname()[1], False), Client()

            def ask(path: bytes, kind: type[Asking] = Asking) -> asyncio.Task[Response]:
                request = b"GET %s HTTP/1.1\r\n\r\n" % path
                return asyncio.create_task(client.request(endpoint, kind(lambda: request)))

            def accept() -> socket.socket:
                return stack.enter_context(listener.accept()[0])

            first = [ask(b"/"), ask(b"/")]
            servers = [await asyncio.to_thread(accept) for _ in first]
            for server in servers:
                await asyncio.to_thread(server.recv, 100)
                server.sendall(answer())
            await asyncio.gather(*first)
            following: list[asyncio.Task[Response]] = []

            class Followed(Asking):
                def end(self, response: Response) -> None:
                    super().end(response)
                    following.extend([ask(b"/a"), ask(b"/b")])

            held = ask(b"/held", Followed)
            await asyncio.sleep(0)
            busy = (await asyncio.to_thread(select.select, servers, [], []))[0][0]
            busy.recv(100)
            idle = next(server for server in servers if server is not busy)

            def long_turn() -> None:
                idle.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
                time.sleep(UNSEEN + 0.01)

            busy.sendall(answer())
            loop.call_soon(long_turn)  # in the very turn that brings the answer
            await held
            for server in [busy, await asyncio.to_thread(accept)]:
                await asyncio.to_thread(server.recv, 100)
                server.sendall(answer(b"asked for"))
            assert [response.body for response in await asyncio.gather(*following)] == [b"asked for"] * 2
            await client.aclose()
