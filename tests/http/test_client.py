"""What a client does with servers that behave, and with a caller who does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import weakref
from typing import TYPE_CHECKING

import pytest

from asyncfetch.http import (
    Client,
    ClientClosed,
    ConnectionLost,
    Endpoint,
    ProtocolError,
    ReadTimeout,
    ResponseHead,
    ResponseTooLarge,
)
from tests.http.helpers import Asking, Channel, Collect, Ending, Hold, answer, get, leaving_nothing

if TYPE_CHECKING:
    from asyncfetch.testing.scripted import Answer

BODY = os.urandom(300_000)


async def test_a_body_goes_into_the_sink(channel: Channel) -> None:
    sink = Collect(64_000)
    async with channel.talk([answer(BODY, headers=["ETag: x"])]) as (server, client):
        response = await get(client, server, "/a%20b", sink=sink)
        assert bytes(sink.data) == BODY
        assert (response.head.status, response.head.get("etag"), response.body) == (200, "x", b"")
        assert response.received == len(BODY)
        assert server.requests[0].target == "/a%20b"
        assert client.statistics() == (1, 1, 0, 0, 1, 1, 0, 0, len(BODY))


async def test_without_a_sink_a_body_is_collected(channel: Channel) -> None:
    async with channel.talk([answer(BODY, status="404 Not Found"), answer(BODY)]) as (server, client):
        assert (await get(client, server)).body == BODY
        with pytest.raises(ResponseTooLarge):
            await get(client, server, max_body=len(BODY) - 1)
        assert client.statistics().open == 0


async def test_every_framing(channel: Channel) -> None:
    chunks = b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:200_000], BODY[200_000:]))
    answers: list[Answer] = [
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(BODY),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        answer(b""),
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 300000\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab",
        [b"HTTP/1.1 200 OK\r\n\r\n" + BODY, Ending.CLOSE],
    ]
    async with channel.talk(answers) as (server, client):
        for expected in (BODY, BODY, b"", b"", b"", b"ab", BODY):
            sink = Collect(64_000)
            response = await get(client, server, sink=sink)
            assert bytes(sink.data) == expected
            assert response.received == len(expected)
        assert server.connections == 1


async def test_an_answer_to_head_has_no_body(channel: Channel) -> None:
    async with channel.talk([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", answer(b"x")]) as (server, client):
        response = await get(client, server, method="HEAD")
        assert (response.head.content_length, response.body) == (5, b"")
        assert (await get(client, server)).body == b"x"
        assert server.connections == 1


@pytest.mark.parametrize(
    "farewell",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
        answer(b"ab") + b"and more than was announced",
    ],
)
async def test_a_connection_that_ends_or_is_in_doubt_is_not_used_again(channel: Channel, farewell: bytes) -> None:
    async with channel.talk([farewell, answer(b"cd")]) as (server, client):
        assert (await get(client, server)).body == b"ab"
        assert client.statistics().open == 0
        assert (await get(client, server)).body == b"cd"
        assert server.connections == 2


async def test_bytes_between_responses_close_the_connection(channel: Channel) -> None:
    read = asyncio.Event()
    async with channel.talk([[answer(b"ab"), Hold(read), answer(b"nobody asked")], answer(b"cd")]) as (server, client):
        assert (await get(client, server)).body == b"ab"
        assert client.statistics().idle == 1
        read.set()
        await server.until(lambda: server.open == 0)
        assert client.statistics().open == 0
        assert (await get(client, server)).body == b"cd"


async def test_a_connection_closed_while_idle_is_forgotten(channel: Channel) -> None:
    read = asyncio.Event()
    async with channel.talk([[answer(b"ab"), Hold(read), Ending.CLOSE], answer(b"cd")]) as (server, client):
        await get(client, server)
        read.set()
        await server.until(lambda: server.open == 0)
        assert (await get(client, server)).body == b"cd"
        assert client.statistics().repeated == 0


class TestTheCallersCode:
    @pytest.mark.parametrize("apart", [True, False])
    @pytest.mark.parametrize("where", ["on_head", "get_buffer", "advance", "empty"])
    async def test_may_raise_and_is_heard(self, channel: Channel, where: str, apart: bool) -> None:
        asked = asyncio.Event()

        class Broken(Collect):
            def get_buffer(self, hint: int) -> memoryview:
                if where == "get_buffer":
                    raise LookupError(where)
                return super().get_buffer(hint)[: 0 if where == "empty" else None]

            def advance(self, count: int) -> None:
                if where == "advance":
                    raise LookupError(where)

        def on_head(head: ResponseHead) -> Broken:
            asked.set()
            if where == "on_head":
                raise LookupError(where)
            return Broken()

        # The body comes alone, so that the room for it is asked for by the loop, or together with the head.
        script: Answer = [answer(BODY)[: -len(BODY)], Hold(asked), BODY] if apart else answer(BODY)
        async with channel.talk([script, answer(b"ab")]) as (server, client):
            with pytest.raises(ValueError if where == "empty" else LookupError):
                await get(client, server, on_head=on_head)
            assert client.statistics().open == 0
            await server.until(lambda: server.open == 0)
            assert (await get(client, server)).body == b"ab"

    async def test_hears_of_each_head_once(self, channel: Channel) -> None:
        heads: list[int] = []
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        async with channel.talk([early + answer(b"ab", status="404 Not Found")]) as (server, client):
            await get(client, server, on_head=lambda head: heads.append(head.status))
            assert heads == [404]

    @pytest.mark.parametrize("body", [answer(b"x" * 100), answer(b"x" * 100)[:-1]])
    async def test_is_let_go_of_at_the_end(self, plain: Channel, body: bytes) -> None:
        """Neither an idle client nor a failure may keep a request's buffers until the next collection of garbage."""

        async def use() -> weakref.ref[Collect]:
            sink = Collect()
            endpoint = Endpoint(server.host, server.port, False)
            with contextlib.suppress(ConnectionLost):
                await client.request(endpoint, Asking(lambda: b"GET / HTTP/1.1\r\n\r\n", lambda head: sink))
            return weakref.ref(sink)

        gc.disable()
        try:
            async with plain.talk([[body, Ending.CLOSE]]) as (server, client):
                gone = await use()
                await asyncio.sleep(0)  # the loop itself holds what it runs, for this turn
                assert gone() is None
        finally:
            gc.enable()


class TestClosing:
    async def test_ends_requests_under_way_and_waiting(self, channel: Channel) -> None:
        async with (
            leaving_nothing(),
            channel.talk(lambda request: [Hold()], max_connections=2) as (server, client),
        ):
            under_way = [get(client, server) for _ in range(5)]
            await server.until(lambda: len(server.requests) == 2)
            await client.aclose()
            for result in await asyncio.gather(*under_way, return_exceptions=True):
                assert isinstance(result, ClientClosed)
            with pytest.raises(ClientClosed):
                await get(client, server)
            await server.until(lambda: server.open == 0)

    async def test_ends_what_is_being_connected(self, channel: Channel) -> None:
        async with leaving_nothing(), channel.talk([]) as (server, client):
            under_way = get(client, server)
            await asyncio.sleep(0)
            assert client.statistics().opening == 1
            await client.aclose()
            with pytest.raises(ClientClosed):
                await under_way

    async def test_may_be_done_twice_or_unused(self, plain: Channel) -> None:
        client = plain.new_client()
        await asyncio.gather(client.aclose(), client.aclose())
        assert client.statistics() == (0,) * 9

    async def test_leaves_nothing(self, channel: Channel) -> None:
        async with leaving_nothing(), channel.talk(lambda request: answer(BODY)) as (server, client):
            await asyncio.gather(*[get(client, server) for _ in range(10)])


async def test_a_client_belongs_to_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        await asyncio.to_thread(Client)


class TestSilence:
    async def test_before_the_answer(self, channel: Channel) -> None:
        async with channel.talk([[Hold()]], read_timeout=0.05) as (server, client):
            with pytest.raises(ReadTimeout, match="before the response"):
                await get(client, server)
            await server.until(lambda: server.open == 0)
            assert client.statistics().open == 0

    async def test_within_the_head(self, channel: Channel) -> None:
        async with channel.talk([[b"HTTP/1.1 200", Hold()]], read_timeout=0.05) as (server, client):
            with pytest.raises(ReadTimeout, match="within the head"):
                await get(client, server)

    async def test_within_the_body(self, channel: Channel) -> None:
        async with channel.talk([[answer(b"x" * 9)[:-2], Hold()]], read_timeout=0.05) as (server, client):
            with pytest.raises(ReadTimeout, match="after 7 of 9 bytes"):
                await get(client, server)

    async def test_on_an_idle_connection_is_no_failure(self, channel: Channel) -> None:
        ticked = asyncio.Event()
        async with channel.talk([answer(b"ab"), answer(b"cd")], read_timeout=0.01) as (server, client):
            await get(client, server)
            asyncio.get_running_loop().call_later(0.1, ticked.set)
            await ticked.wait()
            assert (await get(client, server)).body == b"cd"
            assert server.connections == 1


async def test_a_protocol_error_says_what_was_wrong(channel: Channel) -> None:
    async with channel.talk([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"]) as (
        server,
        client,
    ):
        with pytest.raises(ProtocolError, match="several values of Content-Length"):
            await get(client, server)
