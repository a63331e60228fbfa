"""Which connection serves which request, seen from a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.http import Endpoint
from asyncfetch.testing.scripted import ScriptedServer
from tests.http.helpers import Asking, Channel, Hold, RawRequest, answer, get

if TYPE_CHECKING:
    from asyncfetch.testing.scripted import Answer


class TestThePoolAtWork:
    async def test_requests_at_once_have_connections_at_once(self, channel: Channel) -> None:
        everyone = asyncio.Event()
        async with channel.talk(lambda request: [Hold(everyone), answer()], max_connections=8) as (server, client):
            under_way = [get(client, server) for _ in range(8)]
            await server.until(lambda: len(server.requests) == 8)
            everyone.set()
            await asyncio.gather(*under_way)
            assert (client.statistics().opened, client.statistics().reused) == (8, 0)

    async def test_there_are_no_more_connections_than_allowed(self, channel: Channel) -> None:
        most = 0

        def script(request: RawRequest) -> Answer:
            nonlocal most
            most = max(most, server.open)
            return answer(request.target.encode())

        async with channel.talk(script, max_connections=3) as (server, client):
            under_way = [get(client, server, f"/{i}") for i in range(50)]
            assert [(await task).body for task in under_way] == [f"/{i}".encode() for i in range(50)]
            assert most <= 3
            assert client.statistics().reused >= 47

    async def test_who_waits_longest_is_served_first(self, plain: Channel) -> None:
        async with plain.talk(lambda request: answer(), max_connections=1) as (server, client):
            await asyncio.gather(*[get(client, server, f"/{i}") for i in range(20)])
            assert [request.target for request in server.requests] == [f"/{i}" for i in range(20)]

    async def test_the_connection_used_last_is_used_next(self, plain: Channel) -> None:
        both = asyncio.Event()
        async with plain.talk(lambda request: [Hold(both), answer()]) as (server, client):
            under_way = [get(client, server) for _ in range(2)]
            await server.until(lambda: len(server.requests) == 2)
            both.set()
            await asyncio.gather(*under_way)
            for _ in range(5):
                await get(client, server)
            assert len({request.connection for request in server.requests[2:]}) == 1

    async def test_a_request_is_built_when_it_is_sent(self, plain: Channel) -> None:
        first = asyncio.Event()
        built: list[int] = []

        def build(number: int) -> bytes:
            built.append(number)
            return b"GET / HTTP/1.1\r\n\r\n"

        async with plain.talk(lambda request: [Hold(first), answer()], max_connections=1) as (server, client):
            endpoint = Endpoint(server.host, server.port, False)
            under_way = [
                asyncio.create_task(client.request(endpoint, Asking(lambda n=n: build(n))))  # type: ignore[misc]  # mypy cannot type a default of a lambda
                for n in range(3)
            ]
            await server.until(lambda: len(server.requests) == 1)
            assert built == [0]
            assert client.statistics().waiting == 2
            first.set()
            await asyncio.gather(*under_way)
            assert built == [0, 1, 2]

    async def test_a_request_that_cannot_be_built_costs_no_connection(self, channel: Channel) -> None:
        def unable() -> bytes:
            raise KeyError("no credentials")

        async with channel.talk(lambda request: answer(b"ab"), max_connections=1) as (server, client):
            endpoint = Endpoint(server.host, server.port, server.url.startswith("https"))
            requests = [client.request(endpoint, Asking(unable)) for _ in range(3)]
            for result in await asyncio.gather(*requests, return_exceptions=True):
                assert isinstance(result, KeyError)
            assert (await get(client, server)).body == b"ab"
            assert server.connections == 1

    @pytest.mark.parametrize("limits", [{"idle_timeout": 0.05}, {"lifetime": 0.05}])
    async def test_connections_are_closed_when_they_are_old(self, channel: Channel, limits: dict[str, Any]) -> None:
        async with channel.talk([answer()], **limits) as (server, client):
            await get(client, server)
            await server.until(lambda: server.open == 0)
            assert client.statistics().open == 0

    async def test_no_connection_grows_old_within_a_request(self, plain: Channel) -> None:
        ticked = asyncio.Event()
        async with plain.talk([[Hold(ticked), answer(b"ab")]], lifetime=0.01) as (server, client):
            under_way = get(client, server)
            await server.until(lambda: len(server.requests) == 1)
            asyncio.get_running_loop().call_later(0.1, ticked.set)
            assert (await under_way).body == b"ab"
            assert client.statistics().open == 0

    async def test_whoever_finds_no_more_connections_waits_for_those_there_are(self, plain: Channel) -> None:
        held = asyncio.Event()
        async with plain.talk(lambda request: [Hold(held), answer(b"ab")], max_connections=2) as (server, client):
            first = get(client, server)
            await server.until(lambda: len(server.requests) == 1)
            server.refuse()
            second = get(client, server)
            await asyncio.wait([second], timeout=0.05)
            assert not second.done()
            held.set()
            assert [(await first).body, (await second).body] == [b"ab", b"ab"]
            assert [request.connection for request in server.requests] == [0, 0]

    async def test_connections_that_could_not_be_made_are_tried_again(self, plain: Channel) -> None:
        held = asyncio.Event()
        async with plain.talk([[Hold(held), answer()]], max_connections=2, read_timeout=5) as (server, client):
            first = get(client, server)
            await server.until(lambda: len(server.requests) == 1)
            server.refuse()
            second = get(client, server)
            await asyncio.wait([second], timeout=0.05)
            async with ScriptedServer([answer(b"ab")], port=server.port):
                assert (await second).body == b"ab"
            assert not first.done()
            held.set()
            await first

    async def test_an_endpoint_out_of_use_is_forgotten(self, plain: Channel) -> None:
        async with plain.talk([answer()], idle_timeout=0.05) as (server, client):
            await get(client, server)
            assert client._hosts
            while client._hosts:  # the clock ticks; nothing tells when
                await asyncio.sleep(0)
            assert client._timer is None

    async def test_endpoints_have_pools_of_their_own(self, plain: Channel) -> None:
        held = asyncio.Event()
        async with (
            plain.talk([[Hold(held), answer()]], max_connections=1) as (busy, client),
            plain.talk([answer(b"ab")]) as (other, _),
        ):
            under_way = get(client, busy)
            assert (await get(client, other)).body == b"ab"
            held.set()
            await under_way
