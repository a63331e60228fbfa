"""Large objects in parts: every byte once and of one object, whatever the origin does meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch import Access, CachePolicy, Fetcher
from asyncfetch.cache.sinks import PIECE
from asyncfetch.engine.parts import MOST_PARTS, STREAMS, Plan, in_parts
from asyncfetch.errors import AccessDenied, ObjectNotFound, TransferInterrupted, UsageError
from asyncfetch.objects import ObjectStat
from asyncfetch.settings import MIB, NetworkPolicy
from asyncfetch.testing import Ending, Hold, RawRequest, ScriptedServer
from tests.leaks import census, temporary_files
from tests.objects import Bucket
from tests.soak import Soak

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer

pytestmark = pytest.mark.usefixtures("helpers_join_at_once")

PART = 64 << 10
FROM = 2 * PART
NOISE = random.Random(11).randbytes(3 * MIB)
LARGE = 20 * PART + 1234
URI = "s3://bucket/large"


def policy(**options: Any) -> NetworkPolicy:
    return NetworkPolicy(**{"concurrency": 8, "part_size": PART, "parts_from": FROM, **options})


class Shop:
    """A server of one object, as the tests want it to be: `object` may change, and a hook sees each request first."""

    def __init__(self, body: bytes, etag: str = '"one"') -> None:
        self.body = body
        self.etag = etag
        self.if_match = self.ranges = True
        self.before: Callable[[RawRequest], Answer | None] = lambda request: None
        self.seen: list[tuple[int, int] | None] = []  # the ranges that were asked for, None for all

    def __call__(self, request: RawRequest) -> Answer:
        span = span_of(request)
        self.seen.append(span)
        canned = self.before(request)
        return self.answer(request) if canned is None else canned

    def answer(self, request: RawRequest) -> bytes:
        pinned, span = request.header("if-match"), span_of(request)
        if self.if_match and pinned is not None and pinned != self.etag:
            return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
        if span is None or not self.ranges:
            return self.head("200 OK", len(self.body)) + self.body
        part = self.body[span[0] : span[1]]
        told = f"Content-Range: bytes {span[0]}-{span[0] + len(part) - 1}/{len(self.body)}"
        return self.head("206 Partial Content", len(part), told) + part

    def head(self, status: str, length: int, *more: str) -> bytes:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", f"ETag: {self.etag}", *more]
        return "\r\n".join([*lines, "\r\n"]).encode()


def span_of(request: RawRequest) -> tuple[int, int] | None:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.header("range") or "")
    return (int(found[1]), int(found[2]) + 1) if found else None


def opened(server: ScriptedServer, cache_dir: Path, **options: Any) -> Fetcher:
    network = options.pop("network", None) or policy()
    access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1", origin=options.pop("origin", "native"))
    return Fetcher(cache=CachePolicy(cache_dir=cache_dir), access=access, network=network, **options)


async def settled(fetcher: Fetcher, cache_dir: Path) -> None:
    """Waits until nothing is under way; a run that leaves something behind ends in the time-out of the test."""
    cache = fetcher._engine().cache  # which buffers are lent nobody but the cache can tell
    while (
        (stats := fetcher.stats()).lanes_busy
        or stats.waiting
        or stats.memory
        or cache.statistics().buffer_bytes
        or temporary_files(cache_dir)
    ):
        await asyncio.sleep(0)


@given(size=st.integers(1, 1 << 40), part_size=st.integers(1024, 1 << 30), order=st.data())
def test_claims_in_any_order_tile_the_object(size: int, part_size: int, order: st.DataObject) -> None:
    plan = Plan(size, max(part_size, size // 50))
    ends: list[list[int]] = []
    while not plan.over:
        place = order.draw(st.integers(-1, len(ends) - 1))
        if place >= 0:
            run = ends[place]
            further = plan.extend(run[1])
            assert (further is None) == (run[1] != max(end for _, end in ends)), "it grows only into what is free"
            run[1] = further or run[1]
        else:
            claimed = plan.claim()
            assert claimed is not None
            ends.append(list(claimed))
    assert plan.claim() is None
    assert plan.extend(size) is None
    ends.sort()
    assert ends[0][0] == 0
    assert ends[-1][1] == size
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))


@given(size=st.integers(1, 1 << 50), part_size=st.integers(1024, 1 << 30))
def test_parts_are_not_smaller_than_asked_for_nor_too_many(size: int, part_size: int) -> None:
    start, stop = Plan(size, part_size).claim() or (0, 0)
    assert start == 0
    assert stop >= min(size, part_size)
    assert -(-size // stop) <= MOST_PARTS
    assert stop <= max(part_size, -(-size // MOST_PARTS))


@pytest.mark.parametrize(
    ("size", "etag", "expected"),
    [
        (FROM, "e", True),
        (FROM - 1, "e", False),
        (FROM, None, False),
        (FROM, "", False),
        (FROM, 'W/"e', False),
    ],
)
def test_only_large_objects_that_can_be_pinned_come_in_parts(size: int, etag: str | None, expected: bool) -> None:
    assert in_parts(ObjectStat(URI, size, etag), policy()) is expected
    assert not in_parts(ObjectStat(URI, size, etag), policy(parts_from=None))
    assert not in_parts(ObjectStat(URI, size, etag), policy(part_size=FROM))


@pytest.mark.parametrize("options", [{"part_size": 0}, {"part_size": 2 << 30}, {"parts_from": 0}, {"part_size": 1.5}])
def test_nonsense_sizes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NetworkPolicy(**options)


@pytest.mark.parametrize("origin", ["native", "boto"])
@pytest.mark.parametrize("size", [FROM - 1, FROM, FROM + 1, 3 * PART, 3 * PART + 1, 10 * PART - 1, LARGE, 3 * MIB])
async def test_objects_come_whole_from_s3_at_every_threshold(
    empty_bucket: Bucket, cache_dir: Path, size: int, origin: str
) -> None:
    body = NOISE[:size]
    uri = empty_bucket.put("object", body)
    empty_bucket.server.reset_counts()
    access = Access(origin=origin)  # type: ignore[arg-type]
    async with Fetcher(cache_dir=cache_dir, access=access, network=policy()) as fetcher:
        entry = await fetcher.fetch(uri)
        assert entry.path.read_bytes() == body
        assert (entry.size, entry.digest) == (size, f"blake3:{blake3(body).hexdigest()}")
        again = await fetcher.fetch(uri)
        assert (again.path, again.from_cache) == (entry.path, True)
        await settled(fetcher, cache_dir)
        stats = fetcher.stats()
        assert (stats.downloaded, stats.downloaded_bytes, stats.retries) == (1, size, 0)
    assert (empty_bucket.requests() > 1) == (size >= FROM)


async def test_each_part_is_asked_for_once_and_pinned(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        entry = await fetcher.fetch(URI)
        assert entry.path.read_bytes() == shop.body
    assert shop.seen[0] is None
    ranges = sorted(span for span in shop.seen[1:] if span is not None)
    assert len(ranges) == len(shop.seen) - 1, "one request is for all"
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ranges))
    assert {request.header("if-match") for request in server.requests[1:]} == {'"one"'}


async def test_ranges_run_while_the_first_answer_hangs_and_the_first_stream_goes_on_alone_with_its_part(
    cache_dir: Path,
) -> None:
    shop, others_are_there = Shop(NOISE[:LARGE]), asyncio.Event()

    def first_hangs(request: RawRequest) -> Answer | None:
        if span_of(request) is not None:
            return None
        whole = shop.answer(request)
        return [whole[:5000], Hold(others_are_there), whole[5000:]]

    shop.before = first_hangs
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        fetching = asyncio.create_task(fetcher.fetch(URI))
        await server.until(lambda: len(shop.seen) == 1 + LARGE // PART)
        while fetcher.stats().lanes_busy > 1:
            await asyncio.sleep(0)
        assert not fetching.done()
        others_are_there.set()
        assert (await fetching).path.read_bytes() == shop.body
        await settled(fetcher, cache_dir)
    assert min(span for span in shop.seen if span is not None)[0] == PART


async def test_helpers_join_only_while_few_lanes_are_at_work(cache_dir: Path) -> None:
    shop, go_on = Shop(NOISE[:LARGE]), asyncio.Event()

    def hold(request: RawRequest) -> Answer:
        whole = shop.answer(request)
        return [Hold(go_on), whole] if span_of(request) else [whole[:1000], Hold(go_on), whole[1000:]]

    shop.before = hold
    async with (
        ScriptedServer(shop) as server,
        opened(server, cache_dir, network=policy(concurrency=64)) as fetcher,
    ):
        fetching = asyncio.create_task(fetcher.fetch(URI))
        await server.until(lambda: len(shop.seen) == STREAMS)
        assert fetcher.stats().lanes_busy == STREAMS, "and no more are on their way"
        go_on.set()
        assert (await fetching).path.read_bytes() == shop.body
        assert len(shop.seen) == 1 + LARGE // PART


async def test_a_lone_lane_takes_it_all_with_one_request(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])
    async with ScriptedServer(shop) as server:
        async with opened(server, cache_dir, network=policy(concurrency=1)) as fetcher:
            assert (await fetcher.fetch(URI)).path.read_bytes() == shop.body
        assert shop.seen == [None]
        assert server.connections == 1


async def test_helpers_leave_lanes_to_objects_that_wait(cache_dir: Path) -> None:
    shop, asked_for_all = Shop(NOISE[:LARGE]), asyncio.Event()

    def hold_heads(request: RawRequest) -> Answer | None:
        if shop.seen.count(None) == 4:
            asked_for_all.set()
        return [Hold(asked_for_all), shop.answer(request)]

    shop.before = hold_heads
    async with (
        ScriptedServer(shop) as server,
        opened(server, cache_dir, network=policy(concurrency=4)) as fetcher,
    ):
        report = await fetcher.prefetch([f"{URI}-{index}" for index in range(40)])
        assert (report.objects, report.failed, report.bytes) == (40, 0, 40 * LARGE)
        await settled(fetcher, cache_dir)
    last_whole = len(shop.seen) - 1 - shop.seen[::-1].index(None)
    assert shop.seen[: last_whole - 4] == [None] * (last_whole - 4), "ranges come when no object is left to begin"


async def test_a_helper_makes_room_for_what_has_come_to_wait(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])
    first, helped, others = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def hold(request: RawRequest) -> Answer:
        whole = shop.answer(request)
        if "large" not in request.target:
            return [Hold(others), whole]
        return [Hold(helped), whole] if span_of(request) else [whole[:1000], Hold(first), whole[1000:]]

    shop.before = hold
    async with (
        ScriptedServer(shop) as server,
        opened(server, cache_dir, network=policy(concurrency=2)) as fetcher,
    ):
        fetching = asyncio.create_task(fetcher.fetch(URI))
        await server.until(lambda: len(shop.seen) == 2)
        waiting = asyncio.create_task(fetcher.prefetch([f"s3://bucket/{index}" for index in range(3)]))
        while fetcher.stats().waiting < 3:
            await asyncio.sleep(0)
        helped.set()
        await server.until(lambda: len(shop.seen) == 3)
        assert fetcher.stats().waiting == 2
        first.set()
        # It meets the helper's part, so the rest is for another stream; a caller waits for that one, so it goes first.
        await server.until(lambda: len(shop.seen) == 4)
        assert ["large" in request.target for request in server.requests] == [True, True, False, True]
        others.set()
        assert (await fetching).path.read_bytes() == shop.body
        assert (await waiting).objects == 3


async def test_a_small_budget_holds_up_nothing(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])

    def break_some(request: RawRequest) -> Answer | None:
        whole = shop.answer(request)
        return [whole[: len(whole) // 2], Ending.RESET] if len(shop.seen) % 5 == 0 else None

    shop.before = break_some
    async with (
        ScriptedServer(shop) as server,
        opened(server, cache_dir, network=policy(attempts=50), memory_budget=MIB + MIB // 2) as fetcher,
    ):
        report = await fetcher.prefetch([f"{URI}-{index}" for index in range(6)])
        assert (report.objects, report.failed) == (6, 0)
        await settled(fetcher, cache_dir)
        assert fetcher.stats().memory_peak <= 3 * MIB


# What does not fit together is never put together.


class Elsewhere:
    """Changes what the shop has when a range is asked for."""

    def __init__(self, shop: Shop, change: Callable[[Shop], None]) -> None:
        self.shop, self.change = shop, change

    def __call__(self, request: RawRequest) -> None:
        if span_of(request) is not None:
            self.change(self.shop)


def replace(shop: Shop) -> None:
    shop.body, shop.etag = NOISE[-LARGE:], '"two"'


def replace_without_if_match(shop: Shop) -> None:
    replace(shop)
    shop.if_match = False


def cut_short(shop: Shop) -> None:
    shop.body, shop.etag = NOISE[-PART:], '"two"'


def change_under_its_etag(shop: Shop) -> None:
    shop.body = NOISE[: LARGE + 5]


def ignore_ranges(shop: Shop) -> None:
    shop.ranges = False


@pytest.mark.parametrize("origin", ["native", "boto"])
@pytest.mark.parametrize(
    "change",
    [replace, replace_without_if_match, cut_short, change_under_its_etag, ignore_ranges],
    ids=lambda change: str(change.__name__),
)
@pytest.mark.parametrize("concurrency", [2, 8])
async def test_an_object_that_changes_meanwhile_is_fetched_anew_as_a_whole(
    cache_dir: Path, change: Callable[[Shop], None], origin: str, concurrency: int
) -> None:
    shop = Shop(NOISE[:LARGE])
    shop.before = Elsewhere(shop, change)
    async with (
        ScriptedServer(shop) as server,
        opened(server, cache_dir, origin=origin, network=policy(concurrency=concurrency)) as fetcher,
    ):
        entry = await fetcher.fetch(URI)
        assert entry.path.read_bytes() == shop.body
        assert entry.etag == shop.etag.strip('"')
        assert shop.seen.count(None) == 2
        await settled(fetcher, cache_dir)
        assert fetcher.stats().downloaded == 1


async def test_an_object_that_changes_all_the_time_is_fetched_anew_once(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])

    def ever_new(request: RawRequest) -> None:
        shop.etag = f'"{len(shop.seen)}"'

    shop.before = ever_new
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        assert (await fetcher.fetch(URI)).path.read_bytes() == shop.body
        assert shop.seen.count(None) == 2
        assert shop.seen[-1] is None


async def test_an_object_that_is_gone_meanwhile_is_not_found(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])

    def gone(request: RawRequest) -> Answer | None:
        return None if len(shop.seen) == 1 else b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    shop.before = gone
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        with pytest.raises(ObjectNotFound):
            await fetcher.fetch(URI)
        await settled(fetcher, cache_dir)


async def test_an_origin_without_ranges_is_asked_for_one_once(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])
    shop.ranges = False
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        assert (await fetcher.fetch(URI)).path.read_bytes() == shop.body
        asked = len(shop.seen)
        assert (await fetcher.fetch(f"{URI}-2")).path.read_bytes() == shop.body
        assert shop.seen[asked:] == [None]


async def test_a_weak_etag_pins_nothing(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE], etag='W/"one"')
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        assert (await fetcher.fetch(URI)).path.read_bytes() == shop.body
    assert shop.seen == [None]


# What breaks goes on where it broke.


@pytest.mark.parametrize("breaks", ["first", "ranges"])
@pytest.mark.parametrize("origin", ["native", "boto"])
async def test_what_broke_is_taken_up_where_it_broke(cache_dir: Path, breaks: str, origin: str) -> None:
    shop, sent = Shop(NOISE[:LARGE]), 0
    broken: set[int] = set()

    def break_once(request: RawRequest) -> Answer | None:
        nonlocal sent
        span, whole = span_of(request), shop.answer(request)
        start, stop = span or (0, 0)
        if stop in broken or (span is None) != (breaks == "first"):
            sent += stop - start
            return None
        broken.add(stop)
        sent += 10_000
        return [whole[: whole.index(b"\r\n\r\n") + 4 + 10_000], Ending.CLOSE]

    shop.before = break_once
    async with ScriptedServer(shop) as server, opened(server, cache_dir, origin=origin) as fetcher:
        assert (await fetcher.fetch(URI)).path.read_bytes() == shop.body
        assert fetcher.stats().retries >= 1
        await settled(fetcher, cache_dir)
    assert 10_000 in {span[0] % PART for span in shop.seen if span is not None}
    assert sent <= LARGE, "nothing is asked for twice"


async def test_an_error_that_stands_is_raised_and_ends_every_stream(cache_dir: Path) -> None:
    shop, refused, never = Shop(NOISE[:LARGE]), asyncio.Event(), asyncio.Event()

    def refuse_one(request: RawRequest) -> Answer | None:
        if span_of(request) == (3 * PART, 4 * PART):
            return [Hold(refused), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"]
        return [shop.answer(request)[:1000], Hold(never)]

    shop.before = refuse_one
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        fetching = asyncio.create_task(fetcher.fetch(URI))
        while fetcher._engine().cache.statistics().buffer_bytes < 7 * PIECE:
            await asyncio.sleep(0)
        assert len(shop.seen) == 8, "all but one hang in the middle of their parts"
        refused.set()
        with pytest.raises(AccessDenied):
            await fetching
        await settled(fetcher, cache_dir)
        await server.until(lambda: server.open <= 1)


async def test_attempts_of_a_part_are_bounded(cache_dir: Path) -> None:
    shop = Shop(NOISE[:LARGE])
    shop.before = lambda request: None if span_of(request) is None else [Ending.RESET]
    async with (
        ScriptedServer(shop) as server,
        opened(server, cache_dir, network=policy(attempts=2)) as fetcher,
    ):
        with pytest.raises(TransferInterrupted) as caught:
            await fetcher.fetch(URI)
        assert caught.value.attempts == 2
        await settled(fetcher, cache_dir)


# Whoever leaves, leaves nothing.


async def test_cancelled_at_any_moment_nothing_is_left(cache_dir: Path, soak: Soak) -> None:
    shop, chance = Shop(NOISE[:LARGE]), random.Random(5)

    def break_some(request: RawRequest) -> Answer | None:
        whole = shop.answer(request)
        return [whole[: len(whole) // 2], Ending.RESET] if chance.random() < 0.1 else None

    shop.before = break_some
    async with ScriptedServer(shop) as server:
        async with opened(server, cache_dir, network=policy(attempts=50)) as fetcher:
            await fetcher.fetch(f"{URI}-warm")
        await server.until(lambda: server.open == 0)
        before = census()
        async with opened(server, cache_dir, network=policy(attempts=50)) as fetcher:
            for index in range(soak.part_cancellations):
                asked = len(shop.seen)
                task = asyncio.create_task(fetcher.fetch(f"{URI}-{index}"))
                await server.until(lambda asked=asked, task=task: len(shop.seen) > asked or task.done())  # type: ignore[misc]
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await settled(fetcher, cache_dir)
            assert (await fetcher.fetch(f"{URI}-0")).path.read_bytes() == shop.body
        await server.until(lambda: server.open == 0)
        assert census() == before


async def test_a_fetcher_that_closes_ends_every_part(cache_dir: Path) -> None:
    shop, never = Shop(NOISE[:LARGE]), asyncio.Event()
    shop.before = lambda request: [shop.answer(request)[:30_000], Hold(never)]
    async with ScriptedServer(shop) as server:
        async with opened(server, cache_dir) as fetcher:
            fetching = asyncio.create_task(fetcher.fetch(URI))
            await server.until(lambda: len(shop.seen) == 8)
        with pytest.raises(Exception, match="closed"):
            await fetching
        await server.until(lambda: server.open == 0)
    assert not temporary_files(cache_dir)


async def test_the_second_waiter_keeps_the_parts_going(cache_dir: Path) -> None:
    shop, go_on = Shop(NOISE[:LARGE]), asyncio.Event()

    def hold_ranges(request: RawRequest) -> Answer | None:
        return [Hold(go_on), shop.answer(request)]

    shop.before = hold_ranges
    async with ScriptedServer(shop) as server, opened(server, cache_dir) as fetcher:
        first, second = (asyncio.create_task(fetcher.fetch(URI)) for _ in range(2))
        await server.until(lambda: len(shop.seen) == 1)
        first.cancel()
        go_on.set()
        assert (await second).path.read_bytes() == shop.body
        assert shop.seen.count(None) == 1
