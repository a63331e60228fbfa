"""What a client does with servers that behave, and with those that hang up at the wrong moment."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import weakref
from typing import TYPE_CHECKING, Any

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
from asyncfetch.testing.scripted import ScriptedServer, dribble
from tests.http.helpers import Channel, Collect, Ending, Hold, Paced, RawRequest, answer, get, leaving_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.testing.scripted import Answer, Step

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
                await client.request(endpoint, "GET", build, lambda head: None)
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
                asyncio.create_task(client.request(endpoint, "GET", lambda n=n: build(n), lambda head: None))  # type: ignore[misc]  # mypy cannot type a default of a lambda
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
            requests = [client.request(endpoint, "GET", unable, lambda head: None) for _ in range(3)]
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
                await client.request(endpoint, "GET", lambda: b"GET / HTTP/1.1\r\n\r\n", lambda head: sink)
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
