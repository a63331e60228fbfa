"""A request cancelled at any moment leaves no task, no socket, no connection in doubt, and hurts no other request."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from asyncfetch.http import Endpoint, Response
from asyncfetch.testing.scripted import ScriptedServer
from tests.http.helpers import Answer, Asking, Channel, Collect, Ending, Hold, RawRequest, answer, get, leaving_nothing

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100\r\n%s\r\n" % (b"x" * 256) * 20 + b"0\r\n\r\n"


async def cancel_after(turns: int, task: asyncio.Task[Response]) -> bool:
    """Cancels a request after so many turns of the loop. True when it had ended by then."""
    for _ in range(turns):
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return done


async def test_a_first_request_cancelled_at_any_turn(channel: Channel) -> None:
    for turns in itertools.count():
        async with leaving_nothing(), channel.talk(lambda request: CHUNKS, max_connections=1) as (server, client):
            if await cancel_after(turns, get(client, server)):
                break
            # The place in the pool is free again, by a connection that was left over or by a new one.
            assert (await get(client, server)).received == 20 * 256
            assert client.statistics().open == 1


async def test_a_request_on_a_used_connection_cancelled_at_any_turn(channel: Channel) -> None:
    async with leaving_nothing(), channel.talk(lambda request: CHUNKS, max_connections=1) as (server, client):
        await get(client, server)
        for turns in itertools.count():
            done = await cancel_after(turns, get(client, server, sink=Collect()))
            assert (await get(client, server)).received == 20 * 256
            if done:
                break


async def test_a_repeat_cancelled_at_any_turn(channel: Channel) -> None:
    for turns in itertools.count():
        answers: list[Answer] = [answer(), [Ending.RESET], *[answer(b"ab")] * 3]
        async with leaving_nothing(), channel.talk(answers, max_connections=1) as (server, client):
            await get(client, server)
            if await cancel_after(turns, get(client, server)):
                break
            assert (await get(client, server)).body in (b"", b"ab")


async def test_one_of_many_that_wait_cancelled_at_any_turn(channel: Channel) -> None:
    for turns in itertools.count():
        async with leaving_nothing(), channel.talk(lambda request: CHUNKS, max_connections=2) as (server, client):
            under_way = [get(client, server, f"/{i}") for i in range(6)]
            done = await cancel_after(turns, under_way.pop(3))
            for response in await asyncio.gather(*under_way):
                assert response.received == 20 * 256
            assert client.statistics().waiting == 0
            if done:
                break


async def test_the_client_closed_at_any_turn(channel: Channel) -> None:
    for turns in itertools.count():
        async with leaving_nothing(), channel.talk(lambda request: CHUNKS) as (server, client):
            under_way = get(client, server)
            for _ in range(turns):
                await asyncio.sleep(0)
            done = under_way.done()
            await client.aclose()
            await asyncio.gather(under_way, return_exceptions=True)
            if done:
                break


async def test_closing_cancelled_closes_all_the_same(channel: Channel) -> None:
    async with leaving_nothing(), channel.talk(lambda request: [Hold()]) as (server, client):
        under_way = get(client, server)
        await server.until(lambda: len(server.requests) == 1)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(under_way, closing, return_exceptions=True)
        await server.until(lambda: server.open == 0)


async def test_a_cancelled_waiter_never_takes_a_connection_along(plain: Channel) -> None:
    held = asyncio.Event()

    def script(request: RawRequest) -> Answer:
        return [Hold(held), answer(b"ab")] if request.target == "/first" else [answer(b"cd")]

    async with plain.talk(script, max_connections=1) as (server, client):
        first = get(client, server, "/first")
        waiting = [get(client, server, "/waiting") for _ in range(3)]
        await server.until(lambda: len(server.requests) == 1)
        # In the very turn in which its connection comes free, a waiter is cancelled.
        held.set()
        first.add_done_callback(lambda done: waiting[0].cancel())
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [getattr(result, "body", None) for result in results[2:]] == [b"cd", b"cd"]
        assert (await get(client, server)).body == b"cd"


async def test_a_cancelled_waiter_is_not_sent(plain: Channel) -> None:
    held = asyncio.Event()
    async with plain.talk(lambda request: [Hold(held), answer(b"ab")], max_connections=1) as (server, client):
        first, second, third = (get(client, server, path) for path in ("/first", "/second", "/third"))
        await server.until(lambda: len(server.requests) == 1)
        second.cancel()
        await asyncio.wait([second])
        held.set()
        await asyncio.gather(first, third)
        assert [request.target for request in server.requests] == ["/first", "/third"]


async def test_a_request_closed_as_a_coroutine_gives_its_place_back(plain: Channel) -> None:
    async with plain.talk([[Hold()], answer(b"ab")], max_connections=1) as (server, client):
        endpoint = Endpoint(server.host, server.port, False)
        request = client.request(endpoint, Asking(lambda: b"GET / HTTP/1.1\r\n\r\n"))
        request.send(None)
        await server.until(lambda: len(server.requests) == 1)
        request.close()
        assert (await get(client, server)).body == b"ab"


@pytest.mark.parametrize("phase", ["connecting", "handshake"])
async def test_a_dial_that_nobody_waits_for_ends_with_the_client(tls: Channel, phase: str) -> None:
    """The dial goes on for the next request, but not beyond the client."""
    async with leaving_nothing(), ScriptedServer() as server:
        client = tls.new_client()
        under_way = get(client, server, tls=True)
        if phase == "handshake":
            await server.until(lambda: server.connections == 1)
        else:
            await asyncio.sleep(0)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert client.statistics().opening == 1
        await client.aclose()
