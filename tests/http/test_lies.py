"""Servers that lie: each ends in a named error, never in a hang, a wrong byte, or a doubtful connection used again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from asyncfetch.http import Client, ConnectionLost, Endpoint, HTTPError, ProtocolError, ReadTimeout, TLSFailed
from asyncfetch.http.parser import HEAD_ROOM
from asyncfetch.testing.scripted import ScriptedServer, dribble
from tests.http.helpers import Asking, Channel, Collect, Ending, Hold, answer, get, leaving_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import trustme

    from asyncfetch.http import ResponseHead
    from asyncfetch.testing.scripted import Answer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

LIES: dict[str, tuple[Answer, type[HTTPError], str]] = {
    "garbage for a status line": (b"hello, how are you?\r\n\r\n", ProtocolError, "not a status line"),
    "garbage without an end": (b"\0\0\0\0", ProtocolError, "not a status line"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError, "SSH-2.0"),
    "another version": (b"HTTP/2.0 200 OK\r\n\r\n", ProtocolError, "not a status line"),
    "a header line of 64 KiB": (OK + b"A: " + b"x" * (64 << 10), ProtocolError, "more than 65536 bytes"),
    "headers without end": (OK + b"A: b\r\n" * 20_000, ProtocolError, "more than 65536 bytes"),
    "200 fields": (OK + b"A: b\r\n" * 200 + b"\r\n", ProtocolError, "more than 128 fields"),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", ProtocolError, "several values"),
    "a list of lengths": (OK + b"Content-Length: 2, 3\r\n\r\nabc", ProtocolError, "several values"),
    "a negative length": (OK + b"Content-Length: -2\r\n\r\nab", ProtocolError, "Content-Length '-2'"),
    "no number for a length": (OK + b"Content-Length: 2abc\r\n\r\nab", ProtocolError, "Content-Length '2abc'"),
    "length and chunks": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ProtocolError,
        "both",
    ),
    "a folded line": (OK + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nab", ProtocolError, "folded"),
    "line feeds alone": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", ProtocolError, "LF alone"),
    "a NUL in a field": (OK + b"A: \0\r\nContent-Length: 2\r\n\r\nab", ProtocolError, "not a field line"),
    "a body shorter than its length": ([OK + b"Content-Length: 9\r\n\r\nab", Ending.CLOSE], ConnectionLost, "2 of 9"),
    "a body that never comes": ([OK + b"Content-Length: 9\r\n\r\nab", Hold()], ReadTimeout, "2 of 9"),
    "chunks cut short": ([CHUNKED + b"5\r\nab", Ending.CLOSE], ConnectionLost, "after 2 bytes"),
    "chunks without their end": ([CHUNKED + b"2\r\nab\r\n", Ending.CLOSE], ConnectionLost, "after 2 bytes"),
    "trailers without their end": ([CHUNKED + b"0\r\nA: b\r\n", Ending.CLOSE], ConnectionLost, "chunked"),
    "a head cut short": ([OK + b"Content-Le", Ending.CLOSE], ConnectionLost, "within the head"),
    "no answer": ([Ending.CLOSE], ConnectionLost, "before the response"),
    "a chunk in the millions": ([CHUNKED + b"2faf080\r\nab", Ending.CLOSE], ConnectionLost, "after 2 bytes"),
    "an absurd chunk": (CHUNKED + b"ffffffffffffffff\r\nab", ProtocolError, "a chunk of"),
    "a chunk longer than its size": (CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", ProtocolError, "longer than its size"),
    "an extension without end": (CHUNKED + b"2;" + b"x" * 5000, ProtocolError, "a line of more than"),
    "nothing but interim answers": (b"HTTP/1.1 102 Processing\r\n\r\n" * 100, ProtocolError, "too many 1xx"),
    "a protocol switch": (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", ProtocolError, "switch"),
    "nothing at all": ([Hold()], ReadTimeout, "before the response"),
    "a head that never ends": ([OK + b"A: b", Hold()], ReadTimeout, "within the head"),
    "a chunk that never comes": ([CHUNKED + b"f", Hold()], ReadTimeout, "chunked body"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_a_named_error_and_the_connection_is_closed(channel: Channel, lie: str) -> None:
    said, error, complaint = LIES[lie]
    async with leaving_nothing(), channel.talk([said, answer(b"truth")], read_timeout=0.2) as (server, client):
        with pytest.raises(error, match=complaint):
            await get(client, server, sink=Collect())
        await server.until(lambda: server.open == 0)
        assert client.statistics().open == 0
        assert (await get(client, server)).body == b"truth"


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"whole", headers=["A: b"]),
        CHUNKED + b"2;x\r\nwh\r\n3\r\nole\r\n0\r\nA: b\r\n\r\n",
    ],
)
async def test_the_truth_may_come_byte_by_byte(channel: Channel, wire: bytes, size: int) -> None:
    async with channel.talk([dribble(wire, size), dribble(wire, size)]) as (server, client):
        for _ in range(2):
            assert (await get(client, server)).body == b"whole"
        assert server.connections == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("together", [True, False])
async def test_a_body_after_an_answer_that_has_none_reaches_nobody(
    channel: Channel, status: str, together: bool
) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\n".encode()
    read = asyncio.Event()
    said: Answer = head + b"poison" if together else [head, Hold(read), b"poison"]
    sink = Collect()
    async with channel.talk([said, answer(b"truth")]) as (server, client):
        response = await get(client, server, sink=sink)
        assert (response.received, bytes(sink.data)) == (0, b"")
        read.set()
        await server.until(lambda: server.open == 0)
        assert (await get(client, server)).body == b"truth"
        assert server.connections == 2


async def test_a_body_cut_by_a_reset_is_an_error(channel: Channel) -> None:
    got = asyncio.Event()

    class Noticing(Collect):
        def advance(self, count: int) -> None:
            super().advance(count)
            got.set()

    said: Answer = [OK + b"Content-Length: 9\r\n\r\nab", Hold(got), Ending.RESET]
    async with channel.talk([said]) as (server, client):
        with pytest.raises(ConnectionLost, match="2 of 9"):
            await get(client, server, sink=Noticing())


async def test_a_body_that_ends_with_the_connection_must_end_in_good_order(tls: Channel) -> None:
    """RFC 9112, section 9.8: without TLS's farewell, nobody knows whether it was the server who ended it."""
    for ending in (Ending.DROP, Ending.RESET):
        async with tls.talk([[OK + b"\r\nab", ending]]) as (server, client):
            with pytest.raises(ConnectionLost):
                await get(client, server, sink=Collect())
    async with tls.talk([[OK + b"\r\nab", Ending.CLOSE]]) as (server, client):
        assert (await get(client, server)).body == b"ab"


async def test_a_server_that_speaks_first_is_no_server(channel: Channel) -> None:
    async with leaving_nothing(), channel.talk([answer()], greeting=b"220 ready\r\n") as (server, client):
        # Before the request is sent it is an unasked byte; after it, no answer.
        with pytest.raises((ProtocolError, ConnectionLost)):
            await get(client, server)
        await server.until(lambda: server.open == 0)


async def test_a_server_that_hangs_up_at_once(channel: Channel) -> None:
    async with leaving_nothing(), channel.talk([], greeting=[Ending.CLOSE]) as (server, client):
        with pytest.raises(ConnectionLost) as caught:
            await get(client, server)
        assert caught.value.stale
        assert client.statistics().open == 0


async def test_a_server_that_hangs_up_before_the_connection_is_made(authority: trustme.CA) -> None:
    """In TLS 1.2 the server ends the handshake, so that its farewell may come together with it."""
    channel = Channel.over_tls(authority, authority.issue_cert("127.0.0.1"))
    assert channel.server is not None
    channel.server.maximum_version = ssl.TLSVersion.TLSv1_2
    async with leaving_nothing(), channel.talk([], greeting=[Ending.CLOSE], read_timeout=5) as (server, client):
        with pytest.raises(ConnectionLost) as caught:
            await get(client, server)
        assert caught.value.stale
        assert client.statistics().open == 0


@pytest.mark.parametrize("reply", [answer(b"Bad Request", status="400 Bad Request"), b""])
async def test_tls_to_a_plain_port(channels: Mapping[str, Channel], reply: bytes) -> None:
    """One server answers what it cannot read; another hangs up."""
    async with leaving_nothing(), ScriptedServer(greeting=[reply, Ending.CLOSE]) as server:
        client = channels["tls"].new_client(connect_timeout=5)
        with pytest.raises(TLSFailed, match=r"port does not speak it|ended in the handshake"):
            await get(client, server, tls=True)
        await client.aclose()


async def test_plain_to_a_tls_port(channels: Mapping[str, Channel]) -> None:
    async with leaving_nothing(), ScriptedServer(tls=channels["tls"].server) as server:
        client = channels["plain"].new_client(read_timeout=5)
        with pytest.raises((ProtocolError, ConnectionLost)):
            await get(client, server, tls=False)
        await client.aclose()


async def test_an_alert_of_tls_is_recognised(plain: Channel) -> None:
    async with plain.talk([[b"\x15\x03\x01\x00\x02\x02\x46", Ending.CLOSE]]) as (server, client):
        with pytest.raises(ProtocolError, match="the server speaks TLS"):
            await get(client, server)


async def test_nothing_of_a_lie_is_seen_by_the_next_request(channel: Channel) -> None:
    """An answer to another request than was asked, hidden behind a first one, is not served to whoever comes next."""
    hidden = answer(b"a") + answer(b"poison")
    async with channel.talk([hidden, answer(b"b"), answer(b"c")], max_connections=1) as (server, client):
        bodies = [response.body for response in await asyncio.gather(*[get(client, server) for _ in range(3)])]
        assert bodies == [b"a", b"b", b"c"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_bytes_behind_a_body_are_seen_before_the_next_request(channel: Channel, at_once: bool) -> None:
    """The body ends just where its view does, so what lies behind has not been received when the response is whole."""
    body = os.urandom(40_000)  # more than comes with the head, and less than a TCP window, so that it all is there
    answers = [answer(body) + answer(b"poison"), answer(body), answer(body)]
    async with channel.talk(answers, max_connections=1) as (server, client):
        sinks = [Collect(1 << 16) for _ in range(3)]
        if at_once:
            await asyncio.gather(*[get(client, server, sink=sink) for sink in sinks])
        else:
            for sink in sinks:
                await get(client, server, sink=sink)
        assert [bytes(sink.data) for sink in sinks] == [body] * 3
        assert server.connections == 2


class Exact(Collect):
    """A sink whose room never is more than the body still needs, as one is that writes into what becomes the result."""

    def get_buffer(self, hint: int) -> memoryview:
        return super().get_buffer(hint)[:hint]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("new_sink", [lambda: Exact(1 << 16), lambda: None], ids=["exact", "collected"])
async def test_bytes_behind_a_body_are_seen_though_nobody_had_room_for_them(
    channel: Channel, new_sink: Callable[[], Collect | None], at_once: bool
) -> None:
    """The last view ends with the body itself, and what lies behind it stays where the system has it."""
    body = os.urandom(40_000)
    answers = [answer(body) + answer(b"poison"), answer(body), answer(body)]
    async with channel.talk(answers, max_connections=1) as (server, client):
        sinks = [new_sink() for _ in range(3)]
        if at_once:
            responses = await asyncio.gather(*[get(client, server, sink=sink) for sink in sinks])
        else:
            responses = [await get(client, server, sink=sink) for sink in sinks]
        bodies = [bytes(sink.data) if sink else got.body for sink, got in zip(sinks, responses, strict=True)]
        assert bodies == [body] * 3
        assert server.connections == 2
        counts = client.statistics()
        assert counts.requests == len(server.requests) == 3, "what found the connection in doubt was not sent on it"
        assert counts.reused == 1


async def test_bytes_behind_an_answer_that_fills_the_room_of_heads_are_seen(plain: Channel) -> None:
    """One of small pieces, which ends just where that room does."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: %s\r\n\r\n"
    framing = b"2\r\nab\r\n0\r\n\r\n"
    whole = head % (b"x" * (HEAD_ROOM - len(head) - len(framing) + 2)) + framing
    assert len(whole) == HEAD_ROOM
    async with plain.talk([whole + answer(b"poison"), answer(b"b")], max_connections=1) as (server, client):
        bodies = [response.body for response in await asyncio.gather(get(client, server), get(client, server))]
        assert bodies == [b"ab", b"b"]
        assert server.connections == 2


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 No Content")]
)
@pytest.mark.parametrize("framing", [b"Content-Length: 40", b"Transfer-Encoding: chunked"])
async def test_a_body_where_none_may_be_is_seen_when_it_comes_behind_the_head(
    method: str, status: str, framing: bytes
) -> None:
    """It is announced, and came while the head was read: who waits for the connection would be given it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(5)
        endpoint, client = Endpoint("127.0.0.1", listener.getsockname()[1], False), Client(max_connections=1)

        async def accept() -> socket.socket:
            server = stack.enter_context(await asyncio.to_thread(lambda: listener.accept()[0]))
            await asyncio.to_thread(server.recv, 100)
            return server

        def come_behind(head: ResponseHead) -> None:
            server.sendall(answer(b"poison"))

        asked = [
            Asking(lambda: b"%s / HTTP/1.1\r\n\r\n" % method.encode(), come_behind, method=method),
            Asking(lambda: b"GET / HTTP/1.1\r\n\r\n"),
        ]
        first, second = [asyncio.create_task(client.request(endpoint, one)) for one in asked]
        server = await accept()
        server.sendall(b"HTTP/1.1 %s\r\n%s\r\n\r\n" % (status.encode(), framing))
        assert (await first).head.status == int(status[:3])
        (await accept()).sendall(answer(b"asked for"))
        assert (await second).body == b"asked for"
        await client.aclose()


async def test_a_failed_request_hurts_no_other(channel: Channel) -> None:
    async with channel.talk(lambda r: b"garbage" if r.target == "/bad" else answer(b"ab"), max_connections=2) as (
        server,
        client,
    ):
        paths = ["/good", "/bad"] * 20
        results = await asyncio.gather(*[get(client, server, path) for path in paths], return_exceptions=True)
        for path, result in zip(paths, results, strict=True):
            if path == "/bad":
                assert isinstance(result, ProtocolError)
            else:
                assert not isinstance(result, BaseException)
                assert result.body == b"ab"
        with contextlib.suppress(asyncio.CancelledError):
            await client.aclose()
