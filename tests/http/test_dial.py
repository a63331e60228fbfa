from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from asyncfetch.http import Client, ConnectFailed, ConnectTimeout, Endpoint, Response
from asyncfetch.http import dial as dialing
from asyncfetch.testing.scripted import ScriptedServer, answer
from tests.http.helpers import Asking, leaving_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

V4, V6 = socket.AF_INET, socket.AF_INET6


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue is full, so that it neither takes nor refuses a connection."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0.2)
            try:
                caller.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener.getsockname()[1]


async def ask(client: Client, endpoint: Endpoint) -> Response:
    return await client.request(endpoint, Asking(lambda: b"GET / HTTP/1.1\r\n\r\n"))


async def test_a_refusal_is_named() -> None:
    async with leaving_nothing():
        client, endpoint = Client(), Endpoint("127.0.0.1", unused_port(), False)
        for _ in range(2):
            with pytest.raises(ConnectFailed, match=f"127.0.0.1:{endpoint.port}: Connection refused") as caught:
                await ask(client, endpoint)
            assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        await client.aclose()


async def test_each_request_is_told_of_a_refusal_once() -> None:
    client, endpoint = Client(max_connections=3), Endpoint("127.0.0.1", unused_port(), False)
    results = await asyncio.gather(*[ask(client, endpoint) for _ in range(20)], return_exceptions=True)
    assert [type(result) for result in results] == [ConnectFailed] * 20
    assert len(set(map(id, results))) == 20
    await client.aclose()


@pytest.mark.parametrize("name", ["a" * 64, ".."])
async def test_a_name_that_cannot_be_is_named(name: str) -> None:
    client = Client()
    with pytest.raises(ConnectFailed, match="the name does not resolve"):
        await ask(client, Endpoint(name, 80, False))
    await client.aclose()


async def test_a_connection_that_is_never_made_is_named() -> None:
    with silent_port() as port:
        async with leaving_nothing():
            client = Client(connect_timeout=0.2)
            with pytest.raises(ConnectTimeout, match=r"within 0.2 s \(connecting\)") as caught:
                await ask(client, Endpoint("127.0.0.1", port, False))
            assert caught.value.phase == "connecting"
            await client.aclose()


async def test_a_name_serves_as_well_as_an_address() -> None:
    async with leaving_nothing(), ScriptedServer([answer(b"ab")]) as server:
        client = Client()
        assert (await ask(client, Endpoint("localhost", server.port, False))).body == b"ab"
        await client.aclose()
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_server_that_comes_back_is_reached_again() -> None:
    client, endpoint = Client(), Endpoint("127.0.0.1", unused_port(), False)
    with pytest.raises(ConnectFailed):
        await ask(client, endpoint)
    async with ScriptedServer([answer(b"ab")], port=endpoint.port):
        assert (await ask(client, endpoint)).body == b"ab"
        await client.aclose()


class TestTheRaceOfAddresses:
    async def test_is_won_by_whoever_answers(self) -> None:
        with silent_port() as silent:
            async with leaving_nothing(), ScriptedServer() as server:
                targets = [silent, unused_port(), silent, server.port, silent]
                sock = await dialing._race([(V4, 0, ("127.0.0.1", port)) for port in targets])
                assert sock.getpeername()[1] == server.port
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                sock.close()

    async def test_leaves_no_socket_of_those_who_came_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dialing, "HEAD_START", 0)
        async with leaving_nothing(), ScriptedServer() as server:
            sock = await dialing._race([(V4, 0, ("127.0.0.1", server.port))] * 5)
            sock.close()
            await server.until(lambda: server.open == 0)

    async def test_is_lost_with_the_first_reason(self) -> None:
        async with leaving_nothing():
            ports = [unused_port(), unused_port()]
            with pytest.raises(ConnectionRefusedError):
                await dialing._race([(V4, 0, ("127.0.0.1", port)) for port in ports])

    async def test_leaves_nothing_when_cancelled(self) -> None:
        with silent_port() as silent:
            async with leaving_nothing():
                race = asyncio.create_task(dialing._race([(V4, 0, ("127.0.0.1", silent))] * 3))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                race.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await race
                await asyncio.sleep(0)  # in which those who had not won end


async def test_connections_are_spread_over_the_addresses_of_a_name() -> None:
    async with ScriptedServer() as one, ScriptedServer() as other:

        async def look_up() -> list[tuple[socket.AddressFamily, int, tuple[str | int, ...] | tuple[int, bytes]]]:
            return [(V4, 0, ("127.0.0.1", server.port)) for server in (one, other)]

        dialer = dialing.Dialer(Endpoint("name", 1, False), timeout=5, context=dialing.Shared(_no_tls, lifetime=1))
        dialer._addresses = dialing.Shared(look_up, lifetime=60)
        protocols = [asyncio.Protocol() for _ in range(4)]
        for protocol in protocols:
            await dialer.dial(protocol)
        await one.until(lambda: one.connections == 2)
        await other.until(lambda: other.connections == 2)


async def _no_tls() -> ssl.SSLContext:
    raise AssertionError


def test_addresses_take_turns_and_so_do_families() -> None:
    found = [(V6, 0, ("a", 1)), (V6, 0, ("b", 1)), (V4, 0, ("c", 1)), (V4, 0, ("d", 1)), (V4, 0, ("e", 1))]
    orders = ["".join(str(address[2][0]) for address in dialing._rotated(found, turn)) for turn in range(6)]
    assert orders == ["acbde", "bdaec", "aebcd", "bcade", "adbec", "beacd"]


class TestWhatIsShared:
    async def test_is_made_once_for_all_who_ask(self) -> None:
        made = 0

        async def make() -> int:
            nonlocal made
            made += 1
            await asyncio.sleep(0)
            return made

        shared = dialing.Shared(make, lifetime=60)
        assert list(await asyncio.gather(shared.get(), shared.get())) == [1, 1]
        assert await shared.get() == 1
        expired = dialing.Shared(make, lifetime=0)
        assert [await expired.get(), await expired.get()] == [2, 3]

    async def test_outlives_whoever_asked_first(self) -> None:
        ready = asyncio.Event()

        async def make() -> str:
            await ready.wait()
            return "made"

        shared = dialing.Shared(make, lifetime=60)
        first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
        await asyncio.sleep(0)
        first.cancel()
        ready.set()
        assert await second == "made"

    async def test_is_tried_again_after_a_failure(self) -> None:
        failures = [OSError("no")]

        async def make() -> str:
            if failures:
                raise failures.pop()
            return "made"

        shared = dialing.Shared(make, lifetime=60)
        with pytest.raises(OSError, match="no"):
            await shared.get()
        assert await shared.get() == "made"
