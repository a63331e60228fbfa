"""Large bodies received on threads: the same bytes, the same errors, and nothing left behind, whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from asyncfetch.http import ConnectionLost, ReadTimeout, Stalled, connection
from asyncfetch.http import receivers as module
from asyncfetch.http.receivers import LEAST
from asyncfetch.testing.scripted import Pause, dribble
from tests.http.helpers import Channel, Collect, Ending, Hold, answer, get, leaving_nothing, sockets
from tests.interrupts import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.http import Response
    from asyncfetch.testing.scripted import Step
    from tests.http.helpers import Answer

BODY = random.Random(5).randbytes(3 * LEAST + 77)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Taken:
    """An intake that keeps what comes, and says on which threads it was called."""

    def __init__(self, into: Offering, left: int) -> None:
        self.left = left
        self._into = into
        self._room = memoryview(bytearray(100_000))

    def get_buffer(self) -> memoryview:
        return self._room[: self.left]

    def advance(self, count: int) -> None:
        self._into.threads.add(threading.get_ident())
        self._into.data += self._room[:count]
        self.left -= count
        self._into.on_bytes()

    def close(self) -> None:
        self._into.closed += 1
        self._into.at_end()


class Offering(Collect):
    """A sink that has threads receive, so many bytes at a time at most."""

    def __init__(self, most: int = 1 << 30, *, on_bytes: Callable[[], None] = lambda: None) -> None:
        super().__init__(100_000)
        self.threads: set[int] = set()
        self.lent = self.closed = 0
        self.on_bytes = on_bytes
        self.at_end: Callable[[], None] = lambda: None
        self._most = most

    def drain(self) -> None:
        assert self.lent == self.closed, "asked while a thread receives"

    def intake(self, left: int) -> Taken | None:
        self.lent += 1
        return Taken(self, min(left, self._most))


async def once(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


@pytest.mark.parametrize("most", [1 << 30, len(BODY) // 3])
async def test_a_large_body_comes_on_threads_and_its_connection_serves_again(plain: Channel, most: int) -> None:
    async with leaving_nothing(), plain.talk([answer(BODY), answer(BODY), answer(b"next")]) as (server, client):
        for _ in range(2):
            sink = Offering(most)
            assert (await get(client, server, sink=sink)).received == len(BODY)
            assert bytes(sink.data) == BODY
            assert sink.lent == sink.closed
            assert sink.threads
            assert threading.get_ident() not in sink.threads
        assert (await get(client, server)).body == b"next"
        assert server.connections == 1
        assert client.statistics().bytes_received == 2 * len(BODY) + 4


async def test_the_loop_receives_what_is_small_or_of_unknown_length_or_encrypted(channels: dict[str, Channel]) -> None:
    chunked: list[Step] = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    ]
    until_close: list[Step] = [b"HTTP/1.1 200 OK\r\n\r\n" + BODY, Ending.CLOSE]
    cases: list[tuple[str, Answer, bytes]] = [
        ("plain", answer(BODY[: LEAST - 1]), BODY[: LEAST - 1]),
        ("plain", chunked, BODY),
        ("plain", until_close, BODY),
        ("tls", answer(BODY), BODY),
    ]
    for name, script, body in cases:
        sink = Offering()
        async with leaving_nothing(), channels[name].talk([script]) as (server, client):
            assert (await get(client, server, sink=sink)).received == len(body)
        assert bytes(sink.data) == body
        assert not sink.lent


async def test_reads_wait_only_while_a_thread_has_the_socket() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(b"abc")
        seen: list[bool] = []
        loan = module.Loan(near.dup(), Taken(Offering(on_bytes=lambda: seen.append(os.get_blocking(near.fileno()))), 3))
        await asyncio.to_thread(loan.run)
        await loan.over
        assert (set(seen), os.get_blocking(near.fileno())) == ({True}, False)


async def test_what_no_thread_is_there_for_the_loop_receives(plain: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    gates = [asyncio.Event(), asyncio.Event()]
    held: list[list[Step]] = [[HEAD + BODY[:LEAST], Hold(gate), BODY[LEAST:]] for gate in gates]
    async with leaving_nothing(), plain.talk([*held, answer(BODY), answer(BODY)]) as (server, client):
        sinks = [Offering(), Offering()]
        under_way = [get(client, server, sink=sink) for sink in sinks]
        await once(lambda: all(sink.threads for sink in sinks))
        third = Offering()
        await get(client, server, sink=third)
        assert (bytes(third.data), third.lent) == (BODY, 0)
        for gate in gates:
            gate.set()
        await asyncio.gather(*under_way)
        assert [bytes(sink.data) for sink in sinks] == [BODY, BODY]
        fourth = Offering()
        await get(client, server, sink=fourth)
        assert fourth.lent, "the threads are free again"


async def test_a_system_that_gives_no_more_threads_or_descriptors_leaves_it_to_the_loop(
    plain: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    async with leaving_nothing(), plain.talk([answer(b"before"), *[answer(BODY)] * 3]) as (server, client):
        await get(client, server)  # whose name is looked up on a thread of the loop's
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            sink = Offering()
            await get(client, server, sink=sink)
            assert (bytes(sink.data), sink.lent) == (BODY, 0)
        with monkeypatch.context() as patched:
            patched.setattr("socket.socket.dup", lambda self: os.open("/nowhere/to/be/found", os.O_RDONLY))
            sink = Offering()
            await get(client, server, sink=sink)
            assert (bytes(sink.data), sink.lent) == (BODY, 0)
        sink = Offering()
        await get(client, server, sink=sink)
        assert sink.lent


@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.RESET])
@pytest.mark.parametrize("came", [0, 10, LEAST + 5])
async def test_a_body_cut_short_is_a_lost_connection_wherever_it_ends(
    plain: Channel, ending: Ending, came: int
) -> None:
    sink = Offering()
    gate = asyncio.Event()
    script: list[Step] = [HEAD + BODY[:came], Hold(gate), ending]
    async with leaving_nothing(), plain.talk([script, answer(b"next")]) as (server, client):
        under_way = get(client, server, sink=sink)
        await once(lambda: len(sink.data) == came and sink.lent == 1)
        gate.set()
        with pytest.raises(ConnectionLost, match=f"after {came} of {len(BODY)} bytes"):
            await under_way
        assert bytes(sink.data) == BODY[:came]
        assert sink.lent == sink.closed == 1
        assert (await get(client, server)).body == b"next"


async def test_more_than_was_announced_stays_for_the_connection_to_be_closed_over(plain: Channel) -> None:
    async with leaving_nothing(), plain.talk([HEAD + BODY + b"surplus", answer(b"next")]) as (server, client):
        sink = Offering()
        await get(client, server, sink=sink)
        assert bytes(sink.data) == BODY
        assert (await get(client, server)).body == b"next"
        assert server.connections == 2


async def test_what_the_intake_raises_ends_the_request(plain: Channel) -> None:
    def fail() -> None:
        raise OSError("disk full")

    for when in ("on_bytes", "at_end"):
        sink = Offering()
        setattr(sink, when, fail)
        async with leaving_nothing(), plain.talk([answer(BODY)]) as (server, client):
            with pytest.raises(OSError, match="disk full"):
                await get(client, server, sink=sink)
            assert sink.closed == 1
            await server.until(lambda: server.open == 0)


async def test_a_server_that_falls_silent_or_slow_is_given_up(plain: Channel) -> None:
    sink = Offering()
    script: list[Step] = [HEAD + BODY[: LEAST + 5], Hold()]
    async with leaving_nothing(), plain.talk([script], read_timeout=0.1) as (server, client):
        with pytest.raises(ReadTimeout, match=f"after {LEAST + 5} of {len(BODY)} bytes"):
            await get(client, server, sink=sink)
        await server.until(lambda: server.open == 0)
    sink = Offering()
    trickle: list[Step] = [HEAD, *(step for at in range(300) for step in (BODY[at : at + 1], Pause(0.01)))]
    async with leaving_nothing(), plain.talk([trickle], stall_bytes=LEAST, stall_window=0.2) as (server, client):
        with pytest.raises(Stalled):
            await get(client, server, sink=sink)
        await server.until(lambda: server.open == 0)
    assert bytes(sink.data) == BODY[: len(sink.data)]


async def test_time_in_which_the_intake_is_behind_does_not_count(plain: Channel) -> None:
    behind, gate = threading.Event(), threading.Event()

    def hold() -> None:
        behind.set()
        gate.wait()

    sink = Offering(on_bytes=hold)
    async with leaving_nothing(), plain.talk([answer(BODY)], read_timeout=0.05) as (server, client):
        under_way = get(client, server, sink=sink)
        await asyncio.to_thread(behind.wait)
        await asyncio.wait([under_way], timeout=0.3)
        assert not under_way.done()
        gate.set()
        assert (await under_way).received == len(BODY)
        assert bytes(sink.data) == BODY


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_ended_while_the_intake_has_the_word_it_waits_for_that(plain: Channel, how: str) -> None:
    behind, gate = threading.Event(), threading.Event()

    def hold() -> None:
        behind.set()
        gate.wait()

    sink = Offering(on_bytes=hold)
    async with leaving_nothing(), plain.talk([answer(BODY)]) as (server, client):
        under_way = get(client, server, sink=sink)
        await asyncio.to_thread(behind.wait)
        if how == "cancel":
            under_way.cancel()
        closing = asyncio.create_task(client.aclose())
        await asyncio.wait([under_way])
        await server.until(lambda: server.open == 0)
        assert not closing.done(), "the thread has the socket yet"
        assert sink.lent > sink.closed
        closing.cancel()
        await asyncio.wait([closing])
        gate.set()
        await client.aclose()
        assert sink.lent == sink.closed
        await once(
            lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("asyncfetch-receive")]
        )
        assert bytes(sink.data) == BODY[: len(sink.data)]


async def test_cancelled_at_any_moment_nothing_is_left(plain: Channel) -> None:
    """At some moments in the life of a body that comes in pieces: before, within and after each loan."""
    pieces = list(dribble(HEAD + BODY, 500_000))
    for most in range(0, len(BODY) + LEAST, LEAST // 2):
        sink = Offering(LEAST)
        async with leaving_nothing(), plain.talk([pieces, answer(b"next")]) as (server, client):
            under_way = get(client, server, sink=sink)
            await once(lambda: len(sink.data) >= most or under_way.done())  # noqa: B023 (called at once)
            under_way.cancel()
            await asyncio.wait([under_way])
            if not under_way.cancelled():
                assert bytes(sink.data) == BODY
            await once(lambda: sink.lent == sink.closed)  # noqa: B023
            assert bytes(sink.data) == BODY[: len(sink.data)]


@pytest.mark.parametrize("function", ["_lend", "lend"])
def test_interrupted_as_a_thread_is_to_receive_the_request_ends_and_every_intake_is_closed(function: str) -> None:
    """By a loop that goes on afterwards, as a notebook's does."""
    loop = asyncio.new_event_loop()
    ends, at, over = set[str](), 0, False
    while not over:
        at += 1
        sink = Offering()

        async def begin() -> tuple[contextlib.AsyncExitStack, asyncio.Task[Response]]:
            stack = contextlib.AsyncExitStack()
            server, client = await stack.enter_async_context(Channel(None, None).talk([answer(BODY), answer(BODY)]))
            return stack, get(client, server, sink=sink)  # noqa: B023 (called at once)

        async def go_on(stack: contextlib.AsyncExitStack, under_way: asyncio.Task[Response]) -> None:
            async with asyncio.timeout(10), stack:
                try:
                    assert (await under_way).received == len(BODY)
                except ConnectionLost:
                    ends.add("lost")
                else:
                    ends.add("whole")
                    assert bytes(sink.data) == BODY  # noqa: B023
            assert sink.lent == sink.closed  # noqa: B023

        before = sockets()
        stack, under_way = loop.run_until_complete(begin())
        ends.clear()
        over = not interrupted(
            lambda: loop.run_until_complete(asyncio.wait([under_way])),  # noqa: B023
            at,
            connection.__file__,
            module.__file__,
            function=function,
            closely=True,
        )
        loop.run_until_complete(go_on(stack, under_way))
        assert ends == {"whole" if over else "lost"}, at
        assert sockets() == before
    loop.close()
    assert at > 1


async def test_what_an_intake_raises_for_a_request_that_ends_in_that_turn_is_told_to_nobody(plain: Channel) -> None:
    """And asyncio does not say that nobody asked."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context))

    def fail() -> None:
        loop.call_soon_threadsafe(under_way.cancel)
        raise OSError("disk full")

    sink = Offering()
    sink.at_end = fail
    async with leaving_nothing(), plain.talk([answer(BODY)]) as (server, client):
        under_way = get(client, server, sink=sink)
        with pytest.raises(asyncio.CancelledError):
            await under_way
        await server.until(lambda: server.open == 0)
    gc.collect()
    assert not told


def test_a_loop_that_is_closed_over_a_loan_leaves_no_descriptor() -> None:
    """Nobody closed the client, as at the end of a program that was interrupted: the thread ends by itself."""
    gate, ended = threading.Event(), threading.Event()

    def hold() -> None:
        gate.wait()

    sink = Offering(on_bytes=hold)
    sink.at_end = ended.set

    async def leave() -> None:
        loop = asyncio.get_running_loop()
        async with Channel(None, None).talk([answer(BODY)]) as (server, client):
            under_way = get(client, server, sink=sink)
            await once(lambda: bool(sink.threads))
            loop.call_later(0.01, gate.set)
            under_way.cancel()

    asyncio.run(leave())
    assert ended.wait(5)
