"""Late answers are overtaken by a second request, and of the one that lost nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncfetch import Fetcher, NetworkPolicy
from asyncfetch.testing import Fault, Faults, FaultServer, Generated
from asyncfetch.testing.scripted import Answer, Ending, Pause, RawRequest, ScriptedServer, Step, answer
from tests.leaks import census, temporary_files

LATE = "00000300"  # the others make known what is usual
BROKEN: list[Step] = [b"HTTP/1.1 200", Ending.RESET]  # with a byte of it, for else the client repeats it
LARGE = bytes(range(256)) * (4 << 12)


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "faulty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "faulty-secret")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    objects = {**Generated(1000, 2000), "large": LARGE}
    with FaultServer(objects) as server:
        yield server


def opened(endpoint_url: str | None, cache_dir: Path, **network: object) -> Fetcher:
    return Fetcher(
        cache_dir=cache_dir,
        endpoint_url=endpoint_url,
        region="us-east-1",
        workers=1,
        revalidate="always",
        # Few at once: on a busy machine many would have to wait for each other, and some of them be late.
        network=NetworkPolicy(**{"concurrency": 4, **network}),  # type: ignore[arg-type]
    )


def uris(server: FaultServer, count: int) -> list[str]:
    return [server.uri(f"{index:08d}") for index in range(count)]


async def make_known(fetcher: Fetcher, names: list[str]) -> None:
    """Reads until it is known what is usual, and a second request can be had: on a busy machine some are late."""
    sent = -1
    await fetcher.prefetch(names)
    while sent != fetcher.stats().hedges:
        sent = fetcher.stats().hedges
        await fetcher.prefetch(names[:100])


async def until(met: Callable[[], bool]) -> None:
    while not met():
        await asyncio.sleep(0.005)


async def test_stalled_answers_are_overtaken_with_few_requests_more(server: FaultServer, cache_dir: Path) -> None:
    stalled = {(f"{index:08d}", 1): Fault.SLOW for index in range(200, 1000, 100)}
    server.faults = Faults(at=stalled, slow_seconds=100)
    async with opened(server.endpoint_url, cache_dir, concurrency=16) as fetcher:
        report = await fetcher.prefetch(uris(server, 1000))
        stats = fetcher.stats()
        assert (report.objects, report.failed, stats.retries) == (1000, 0, 0)
        assert stats.hedges_won >= len(stalled)
        assert stats.hedges <= 0.02 * 1000
        assert server.count() == stats.requests == 1000 + stats.hedges
        assert stats.hedges_won * 2000 <= stats.hedged_bytes <= stats.hedges * 2000
        assert (stats.lanes_busy, stats.memory) == (0, 0)


async def test_without_it_they_are_waited_for(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(at={(LATE, 1): Fault.SLOW}, slow_seconds=0.5)
    async with opened(server.endpoint_url, cache_dir, hedge=False) as fetcher:
        await fetcher.prefetch(uris(server, 400))
        assert fetcher.stats().hedges == 0
        assert server.count() == 400


async def test_a_first_request_that_is_answered_after_all_stops_the_second(
    server: FaultServer, cache_dir: Path
) -> None:
    server.faults = Faults(at={(LATE, 1): Fault.SLOW, (LATE, 2): Fault.SLOW}, slow_seconds=0.4)
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        await fetcher.prefetch(uris(server, 400))
        stats = fetcher.stats()
        assert stats.hedges > stats.hedges_won
        assert server.count(key=LATE) == 2
        await until(lambda: not any("Twin.run" in str(task.get_coro()) for task in asyncio.all_tasks()))


async def test_nothing_is_left_of_one_or_the_other(server: FaultServer, cache_dir: Path) -> None:
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        await fetcher.prefetch(uris(server, 10))
    before = census()
    server.faults = Faults(at={(LATE, 1): Fault.SLOW}, slow_seconds=100)
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        await fetcher.prefetch(uris(server, 400))
        assert fetcher.stats().hedges_won >= 1
    assert census() == before
    assert not temporary_files(cache_dir)


async def test_a_revalidation_is_hedged_too(server: FaultServer, cache_dir: Path) -> None:
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        await fetcher.prefetch(uris(server, 400))
        await fetcher.prefetch(uris(server, 400))
        server.faults = Faults(at={(LATE, 3): Fault.SLOW}, slow_seconds=100)
        won = fetcher.stats().hedges_won
        entry = await fetcher.fetch(server.uri(LATE))
        assert entry.from_cache
        assert fetcher.stats().hedges_won == won + 1


async def test_a_large_object_goes_on_in_parts_with_the_second(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(at={("large", 1): Fault.SLOW}, slow_seconds=100)
    async with opened(server.endpoint_url, cache_dir, parts_from=1 << 20, part_size=1 << 20) as fetcher:
        await make_known(fetcher, uris(server, 300))
        won = fetcher.stats().hedges_won
        entry = await fetcher.fetch(server.uri("large"))
        assert entry.path.read_bytes() == LARGE
        assert fetcher.stats().hedges_won == won + 1
        await until(lambda: fetcher.stats().memory == 0)


@pytest.mark.parametrize("parts_from", [None, 1 << 20])
async def test_cancelling_while_the_second_brings_it_leaves_nothing(
    parts_from: int | None, server: FaultServer, cache_dir: Path
) -> None:
    server.faults = Faults(
        at={("large", 1): Fault.SLOW, ("large", 2): Fault.STALL}, slow_seconds=100, stall_seconds=100
    )
    async with opened(server.endpoint_url, cache_dir, parts_from=parts_from, part_size=1 << 20) as fetcher:
        await make_known(fetcher, uris(server, 300))
        won = fetcher.stats().hedges_won
        call = asyncio.create_task(fetcher.fetch(server.uri("large")))
        await until(lambda: fetcher.stats().hedges_won > won)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await until(lambda: fetcher.stats().lanes_busy == 0 and fetcher.stats().memory == 0)
        await until(lambda: not temporary_files(cache_dir))
        assert (await fetcher.fetch(server.uri("large"))).path.read_bytes() == LARGE


async def test_cancelling_while_both_wait_leaves_nothing(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(at={("large", 1): Fault.SLOW, ("large", 2): Fault.SLOW}, slow_seconds=100)
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        await make_known(fetcher, uris(server, 300))
        tasks = len(asyncio.all_tasks())
        sent = fetcher.stats().hedges
        call = asyncio.create_task(fetcher.fetch(server.uri("large")))
        await until(lambda: fetcher.stats().hedges > sent)
        call.cancel()
        await asyncio.wait([call])
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert (fetcher.stats().lanes_busy, fetcher.stats().memory) == (0, 0)


async def test_closing_while_both_wait_leaves_nothing(server: FaultServer, cache_dir: Path) -> None:
    before = census()
    server.faults = Faults(at={("large", 1): Fault.SLOW, ("large", 2): Fault.SLOW}, slow_seconds=100)
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        await make_known(fetcher, uris(server, 300))
        sent = fetcher.stats().hedges
        call = asyncio.create_task(fetcher.fetch(server.uri("large")))
        await until(lambda: fetcher.stats().hedges > sent)
    with pytest.raises(Exception, match="closed"):
        await call
    assert census() == before
    assert not temporary_files(cache_dir)


@pytest.mark.parametrize(
    ("second", "requests"),
    [
        ([Pause(0.3), answer(b"late")], 2),  # the second goes on alone
        ([Pause(0.3), *BROKEN], 3),  # it fails as well, and that is a failed try
        (BROKEN, 3),  # it fails before the first does, which changes nothing
    ],
    ids=["goes on", "fails too", "fails before"],
)
async def test_a_first_request_that_fails_leaves_the_second_to_go_on(
    second: Answer, requests: int, cache_dir: Path
) -> None:
    late: list[Answer] = [[Pause(0.2), *BROKEN], second, answer(b"late")]
    asked = 0

    def reply(request: RawRequest) -> Answer:
        nonlocal asked
        if "late" not in request.target:
            return answer(b"usual")
        asked += 1
        return late[asked - 1]

    async with ScriptedServer(reply) as server, opened(None, cache_dir) as fetcher:
        await make_known(fetcher, [f"{server.url}/{index}" for index in range(300)])
        sent = fetcher.stats().hedges
        entry = await fetcher.fetch(f"{server.url}/late")
        assert entry.path.read_bytes() == b"late"
        assert (asked, fetcher.stats().hedges - sent, fetcher.stats().retries) == (requests, 1, requests - 2)
        await until(lambda: fetcher.stats().memory == 0)


async def test_throttling_suspends_it(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(slow=0.02, slow_seconds=0.3, rate_limit=200, burst=20)
    async with opened(server.endpoint_url, cache_dir) as fetcher:
        report = await fetcher.prefetch(uris(server, 600))
        assert report.failed == 0
        assert fetcher.stats().hedges <= 4, "at most those before it was asked for less"
