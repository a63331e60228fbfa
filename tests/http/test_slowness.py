"""Answers that begin too late, or come too slowly though never silent."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import pytest

from asyncfetch.http import ReadTimeout, Stalled
from asyncfetch.testing.scripted import Pause, Step
from tests.http.helpers import Channel, Hold, Paced, answer, get

SLOW: dict[str, Any] = {"stall_bytes": 1000, "stall_window": 0.2, "read_timeout": 50}


async def test_an_answer_that_does_not_begin_has_a_time_of_its_own(channel: Channel) -> None:
    async with channel.talk([[Hold()]], first_byte_timeout=0.05, read_timeout=50) as (server, client):
        with pytest.raises(ReadTimeout, match=r"0\.05 s \(before the response"):
            await get(client, server)


async def test_one_that_has_begun_has_the_other(channel: Channel) -> None:
    said: list[Step] = [answer(b"x" * 9)[:-2], Pause(0.3), b"xx"]
    async with channel.talk([said], first_byte_timeout=0.05, read_timeout=50) as (server, client):
        assert (await get(client, server)).body == b"x" * 9


async def test_an_answer_in_drops_is_given_up_though_it_is_never_silent(channel: Channel) -> None:
    drops = (step for _ in range(10_000) for step in (b"x", Pause(0.01)))
    async with channel.talk([chain([answer(b"x" * 10_000)[:-10_000]], drops)], **SLOW) as (server, client):
        with pytest.raises(Stalled, match=r"bytes in .* of 10000 bytes"):
            await get(client, server)
        await server.until(lambda: server.open == 0)


async def test_one_that_is_slow_and_fast_enough_is_left_alone(channel: Channel) -> None:
    drops = (step for _ in range(120) for step in (b"x" * 1000, Pause(0.01)))
    slow = {**SLOW, "stall_window": 0.5}  # less than it takes, and more than a busy machine holds one drop up
    async with channel.talk([chain([answer(b"x" * 120_000)[:-120_000]], drops)], **slow) as (server, client):
        assert (await get(client, server)).received == 120_000


async def test_small_answers_one_after_another_are_no_slow_one(channel: Channel) -> None:
    async with channel.talk(lambda request: [answer(b"xy")[:-1], Pause(0.02), b"y"], **SLOW) as (server, client):
        for _ in range(30):
            assert (await get(client, server)).body == b"xy"
        assert server.connections == 1


async def test_time_in_which_the_sink_is_behind_does_not_count(channel: Channel) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.6, gate.set_result, None)
    sink = Paced(lambda: None if gate.done() else gate)
    async with channel.talk([answer(b"x" * 4000)], **SLOW) as (server, client):
        assert (await get(client, server, sink=sink)).received == 4000
