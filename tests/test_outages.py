"""Runs that a server leaves in the lurch for a while, and errands that take too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncfetch
from asyncfetch import Failure, Fetcher, NetworkPolicy
from asyncfetch.errors import EndpointUnreachable, OriginTimeout, ServerError
from asyncfetch.testing import Fault, Faults, FaultServer, Generated
from tests.leaks import census


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "faulty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "faulty-secret")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(Generated(400, 5_000)) as server:
        yield server


def opened(server: FaultServer, cache_dir: Path, **network: object) -> Fetcher:
    return Fetcher(
        cache_dir=cache_dir,
        endpoint_url=server.endpoint_url,
        region="us-east-1",
        workers=1,
        network=NetworkPolicy(**network),  # type: ignore[arg-type]
    )


def uris(server: FaultServer, count: int = 400) -> list[str]:
    return [server.uri(f"{index:08d}") for index in range(count)]


async def test_a_run_goes_on_by_itself_after_an_outage(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(outage_after=100, outage_seconds=2.0)
    async with opened(server, cache_dir, attempts=2, concurrency=16) as fetcher:
        report = await fetcher.prefetch(uris(server))
    assert (report.objects, report.failed) == (400, 0)


async def test_an_outage_multiplies_no_load(
    server: FaultServer, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A hedge is a second request too, and a busy machine alone makes answers late.
    async with opened(server, cache_dir, concurrency=16, hedge=False) as fetcher:
        await fetcher.prefetch(uris(server, 100))
        server.faults = Faults(error=1.0)
        began = time.monotonic()
        run = asyncio.create_task(fetcher.prefetch(uris(server)))
        while "answers nobody" not in caplog.text:
            await asyncio.sleep(0.01)
        met = server.count(fault=Fault.ERROR)
        while (asked := server.count(fault=Fault.ERROR)) < met + 6:
            await asyncio.sleep(0.01)
        # Those that were out when it began, and then two probes each tenth of a second at the very most.
        assert asked < 32 + 20 * (time.monotonic() - began)
        server.faults = Faults()
        report = await run
    assert (report.objects, report.failed) == (400, 0)
    assert server.count(method="GET", status=200) == 400


async def test_patience_ends_and_every_object_fails_with_its_own_error(server: FaultServer, cache_dir: Path) -> None:
    async with opened(server, cache_dir, patience=0.5, attempts=2, concurrency=16) as fetcher:
        await fetcher.fetch(uris(server)[0])
        server.go_down()
        try:
            items = [item async for item in fetcher.entries(uris(server), on_error="yield")]
        finally:
            server.come_up()
        failures = [item for item in items if isinstance(item, Failure)]
        assert len(failures) == 399
        assert all(
            isinstance(item.exception, EndpointUnreachable) and item.uri in str(item.exception) for item in failures
        )
        assert (await fetcher.prefetch(uris(server))).failed == 0, "and it works as before"


async def test_what_may_be_served_stale_is_not_kept_waiting(server: FaultServer, cache_dir: Path) -> None:
    settings = asyncfetch.Settings(
        access=asyncfetch.Access(endpoint_url=server.endpoint_url, region="us-east-1"),
        cache=asyncfetch.CachePolicy(cache_dir=cache_dir, revalidate="always", stale_if_error=True),
        network=NetworkPolicy(attempts=2),
    )
    async with Fetcher(settings, workers=1) as fetcher:
        await fetcher.prefetch(uris(server, 100))
        server.go_down()
        report = await fetcher.prefetch(uris(server, 100))  # with the outage waited for, it would time out here
        server.come_up()
        assert (report.objects, report.failed) == (100, 0)


async def test_a_place_that_never_answered_is_not_waited_for(cache_dir: Path) -> None:
    server = FaultServer(Generated(400, 5_000))
    with server:
        fetcher = opened(server, cache_dir, attempts=3)
        targets = uris(server)
    async with fetcher:
        with pytest.raises(EndpointUnreachable) as raised:
            await fetcher.fetch(targets[0])
        assert raised.value.attempts == 3
        report = await fetcher.prefetch(targets)
    assert report.failed == 400
    assert sum(failure.attempts for failure in report.failures) <= 400 + 100, "the budget has 100 retries"


async def test_an_object_that_never_comes_is_given_up_while_others_come(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(at={("00000007", nth): Fault.ERROR for nth in range(1, 10)})
    async with opened(server, cache_dir, attempts=3) as fetcher:
        report = await fetcher.prefetch(uris(server, 50))
        with pytest.raises(ServerError):  # alone too
            await fetcher.fetch(uris(server)[7])
    assert report.failed == 1
    assert report.failures[0].attempts == 3


async def test_one_place_that_is_out_holds_up_no_other(server: FaultServer, cache_dir: Path) -> None:
    with FaultServer(Generated(100, 5_000), bucket="other") as other:
        async with opened(server, cache_dir, concurrency=4) as fetcher:
            web = [f"{other.endpoint_url}/other/{index:08d}" for index in range(100)]
            await fetcher.prefetch([web[0], uris(server)[0]])
            server.go_down()
            lost = asyncio.create_task(fetcher.prefetch(uris(server)))
            while not fetcher.stats().retries:
                await asyncio.sleep(0.01)
            report = await fetcher.prefetch(web)
            assert (report.objects, report.failed) == (100, 0)
            assert not lost.done()
            server.come_up()
            assert (await lost).failed == 0


async def test_cancelling_in_an_outage_leaves_nothing(server: FaultServer, cache_dir: Path) -> None:
    before = census()
    async with opened(server, cache_dir, concurrency=4) as fetcher:
        await fetcher.prefetch(uris(server, 2))
        server.go_down()
        run = asyncio.create_task(fetcher.prefetch(uris(server)))
        while not fetcher.stats().retries:
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert fetcher.stats().waiting == 0
        server.come_up()
        assert (await fetcher.prefetch(uris(server, 50))).failed == 0
        server.go_down()
        run = asyncio.create_task(fetcher.prefetch(uris(server)))
        while fetcher.stats().retries < 8:
            await asyncio.sleep(0.01)
    with pytest.raises(Exception, match="closed"):
        await run
    server.come_up()
    assert census() == before


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.STALL, Fault.DRIP])
async def test_a_deadline_is_for_all_tries_of_an_object(fault: Fault, server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(
        at={("00000003", nth): fault for nth in range(1, 50)}, slow_seconds=30, stall_seconds=30, drip_bytes=1
    )
    async with opened(server, cache_dir, deadline=0.3, concurrency=4) as fetcher:  # none of the others waits for many
        report = await fetcher.prefetch(uris(server, 50))
        assert report.failed == 1
        failure = report.failures[0].exception
        assert isinstance(failure, OriginTimeout)
        assert "deadline" in str(failure)
        assert failure.attempts == 1
        while fetcher.stats().lanes_busy:  # its connection may still be closing when its failure is told
            await asyncio.sleep(0)


async def test_a_deadline_ends_pauses_too(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(error=1.0)
    async with opened(server, cache_dir, deadline=0.5, attempts=100) as fetcher:
        with pytest.raises((ServerError, OriginTimeout)) as raised:  # in a pause, or in a try that is late
            await fetcher.fetch(uris(server)[0])
    assert 1 < raised.value.attempts < 8


async def test_parts_of_a_large_object_share_its_deadline(cache_dir: Path) -> None:
    faults = Faults(stall=1.0, stall_seconds=30)
    with FaultServer({"large": bytes(4 << 20)}, faults=faults) as server:
        async with opened(server, cache_dir, deadline=0.5, parts_from=1 << 20, part_size=1 << 20) as fetcher:
            with pytest.raises(OriginTimeout, match="deadline"):
                await fetcher.fetch(server.uri("large"))


async def test_a_body_that_drips_is_given_up_and_fetched_again(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(at={("00000003", 1): Fault.DRIP}, drip_bytes=1, drip_seconds=0.05)
    async with opened(server, cache_dir, stall_bytes=1000, stall_window=0.5) as fetcher:
        report = await fetcher.prefetch(uris(server, 50))
        assert (report.failed, fetcher.stats().retries) == (0, 1)


async def test_an_answer_that_does_not_begin_has_a_time_of_its_own(server: FaultServer, cache_dir: Path) -> None:
    server.faults = Faults(at={("00000003", 1): Fault.SLOW}, slow_seconds=30)
    async with opened(server, cache_dir, first_byte_timeout=0.3) as fetcher:
        report = await fetcher.prefetch(uris(server, 50))
        assert (report.failed, fetcher.stats().retries) == (0, 1)
