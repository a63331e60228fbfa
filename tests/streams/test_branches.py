"""Listings by several requests at once: the same objects in the same order, whatever the tree looks like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncfetch import Fetcher
from asyncfetch.engine.credits import Credits
from asyncfetch.engine.lanes import Lanes
from asyncfetch.engine.meter import Meter
from asyncfetch.errors import AccessDenied, FetcherClosed, ServerError, UsageError
from asyncfetch.objects import ObjectStat
from asyncfetch.settings import NetworkPolicy
from asyncfetch.streams import Branches, Listing
from asyncfetch.uris import Location, s3
from tests.objects import Bucket

if TYPE_CHECKING:
    from asyncfetch.engine import Engine
    from asyncfetch.origins import Origin


class Shelf:
    """An origin whose objects are names, and which knows who asked for what."""

    def __init__(self, keys: set[str], *, page: int, tells_begun: bool = True) -> None:
        self.keys = sorted(keys, key=str.encode)
        self.page = page
        self.tells_begun = tells_begun  # a common prefix that begins before `start_after` and ends behind it
        self.requests = 0
        self.given = 0
        self.busy = self.busiest = 0
        self.error: tuple[str, Exception] | None = None  # which pages that have a key do not come

    async def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        names = iter(dict.fromkeys(self._names(prefix.key, start_after or "", recursive)))
        while True:
            self.requests += 1
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            await asyncio.sleep(0)
            self.busy -= 1
            page = [name for name, _ in zip(names, range(self.page), strict=False)]
            if self.error is not None and self.error[0] in page:
                raise self.error[1]
            self.given += len(page)
            for name in page:
                yield ObjectStat(str(s3("bucket", name)), 0)
            if len(page) < self.page:
                return

    def _names(self, prefix: str, after: str, recursive: bool) -> Iterator[str]:
        for key in self.keys:
            if not key.startswith(prefix):
                continue
            slash = -1 if recursive else key.find("/", len(prefix))
            name = key if slash < 0 else key[: slash + 1]
            if (name if slash >= 0 and not self.tells_begun else key) > after:
                yield name


class Wiring(NamedTuple):
    """What a listing needs of an engine."""

    lanes: Lanes
    loop: asyncio.AbstractEventLoop


@asynccontextmanager
async def wired(attempts: int = 1) -> AsyncIterator[Engine]:
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as group:

        def start(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
            group.start_soon(run)

        credits = Credits(1 << 30, loop.call_soon_threadsafe)
        lanes = Lanes(NetworkPolicy(attempts=attempts), 64, credits, Meter(), start)
        yield cast("Engine", Wiring(lanes, loop))
        lanes.close()
        group.cancel_scope.cancel()


def listing(engine: Engine, shelf: Shelf, prefix: str, parallel: int) -> Listing:
    return Listing(Branches(engine, cast("Origin", shelf), s3("bucket", prefix), parallel, page=shelf.page))


async def everything(shelf: Shelf, prefix: str, parallel: int) -> list[str]:
    async with wired() as engine:
        return [stat.uri async for stat in listing(engine, shelf, prefix, parallel)]


def expected(shelf: Shelf, prefix: str = "") -> list[str]:
    return [str(s3("bucket", key)) for key in shelf.keys if key.startswith(prefix)]


# Around '/' in the order of characters are '.' and '0'; nothing is behind the last character of Unicode.
names = st.sampled_from(["", "a", "b", "c", ".", "0", "ü", "\U0010ffff", ".\U0010ffff", "?versionId=", "é" * 3])
keys = st.lists(names, min_size=1, max_size=4).map("/".join).filter(bool)
# Many small branches beside a few large ones.
leaves = st.builds("{}/{}/{}".format, names, st.integers(0, 30), st.integers(0, 2))
trees = st.sets(keys | leaves, max_size=120)


@given(trees, st.sampled_from(["", "a", "a/", "a//", "/", "."]), st.integers(2, 20), st.integers(2, 6), st.booleans())
@example({"a", "a/", "a//", "a//b", "a/.", "a/.\U0010ffff", "a/.\U0010ffff\U0010ffff", "a/0", "a0"}, "", 2, 3, False)
@example({f"{name:03}/x" for name in range(60)} | {f"7/{name}" for name in range(60)}, "", 16, 4, True)
@example({f"{name:03}/x/y" for name in range(60)} | {f"{name:03}.x" for name in range(60)}, "", 16, 4, False)
def test_it_is_the_plain_listing(keys: set[str], prefix: str, page: int, parallel: int, begun: bool) -> None:
    shelf = Shelf(keys, page=page, tells_begun=begun)
    assert asyncio.run(everything(shelf, prefix, parallel)) == expected(shelf, prefix)


@given(trees.filter(bool), st.data())
def test_what_comes_before_a_page_that_fails_is_yielded_first(keys: set[str], data: st.DataObject) -> None:
    shelf = Shelf(keys, page=data.draw(st.integers(2, 20)))
    broken = data.draw(st.sampled_from(shelf.keys))
    shelf.error = broken, AccessDenied(str(s3("bucket", broken)), "no")

    async def run() -> list[str]:
        seen: list[str] = []
        async with wired() as engine:
            objects = listing(engine, shelf, "", 4)
            with pytest.raises(AccessDenied):
                async for stat in objects:
                    seen.append(stat.uri)
            assert [stat async for stat in objects] == []
        return seen

    seen = asyncio.run(run())
    assert seen == expected(shelf)[: len(seen)]
    assert str(s3("bucket", broken)) not in seen


@given(trees, st.data())
def test_a_cancelled_step_has_taken_nothing(keys: set[str], data: st.DataObject) -> None:
    shelf = Shelf(keys, page=data.draw(st.integers(2, 10)))
    turns = data.draw(st.lists(st.integers(0, 3), max_size=20))

    async def run() -> list[str]:
        seen: list[str] = []
        async with wired() as engine:
            objects = listing(engine, shelf, "", 3)
            for count in turns:
                step = asyncio.ensure_future(anext(objects))
                for _ in range(count):
                    await asyncio.sleep(0)
                step.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    seen.append((await step).uri)
            return seen + [stat.uri async for stat in objects]

    assert asyncio.run(run()) == expected(shelf)


async def test_a_page_that_may_come_is_asked_for_again() -> None:
    shelf = Shelf({f"{name}/{leaf:02}" for name in "abc" for leaf in range(40)}, page=10)
    shelf.error = "b/07", ServerError("s3://bucket/", "busy")
    async with wired(attempts=2) as engine:
        objects = listing(engine, shelf, "", 4)
        seen = [(await anext(objects)).uri]
        while shelf.busy:
            await asyncio.sleep(0)
        shelf.error = None
        assert seen + [stat.uri async for stat in objects] == expected(shelf)


async def test_branches_are_listed_at_once() -> None:
    shelf = Shelf({f"{name:02}/{leaf:03}" for name in range(40) for leaf in range(100)}, page=50)
    assert await everything(shelf, "", 8) == expected(shelf)
    assert shelf.busiest == 8


async def test_a_large_branch_among_small_ones_is_taken_apart_too() -> None:
    large = {f"b/{name:02}/{leaf:03}" for name in range(40) for leaf in range(100)}
    shelf = Shelf({f"a/{leaf}" for leaf in range(30)} | large | {"c/x"}, page=50)
    assert await everything(shelf, "", 8) == expected(shelf)
    assert shelf.busiest == 8


@pytest.mark.parametrize(
    "keys",
    [
        {f"{leaf:05}" for leaf in range(5_000)},  # flat
        {f"deep/down/{leaf:05}" for leaf in range(5_000)},
        {f"{name:05}/x" for name in range(5_000)},  # a branch for each object
        {f"a/{leaf:05}" for leaf in range(500)} | {f"b/{name:05}/x" for name in range(5_000)},
        {f"a/{leaf:05}" for leaf in range(500)} | {f"{name:05}/x" for name in range(5_000)},
    ],
    ids=["flat", "deep", "tiny", "large-then-tiny-below", "large-then-tiny-beside"],
)
async def test_what_has_no_branches_worth_it_costs_few_requests_more(keys: set[str]) -> None:
    shelf = Shelf(keys, page=100)
    assert await everything(shelf, "", 8) == expected(shelf)
    assert shelf.requests <= len(keys) / shelf.page + 40


async def test_what_nobody_takes_is_bounded() -> None:
    shelf = Shelf({f"{name:03}/{leaf:03}" for name in range(300) for leaf in range(30)}, page=10)
    async with wired() as engine:
        objects = listing(engine, shelf, "", 5)
        await anext(objects)
        while engine.lanes.busy or engine.lanes.waiting:
            await asyncio.sleep(0)
        assert shelf.given <= 3 * 5 * 10 + 2 * 10  # and what said which branches there are
        await objects.aclose()


async def test_closing_it_tells_whoever_waits_and_ends_its_requests() -> None:
    shelf = Shelf({f"{name}/{leaf}" for name in range(9) for leaf in range(30)}, page=10)
    async with wired() as engine:
        objects = listing(engine, shelf, "", 4)
        step = asyncio.ensure_future(anext(objects))
        await asyncio.sleep(0)
        await objects.aclose()
        with pytest.raises(FetcherClosed):
            await step
        assert [stat async for stat in objects] == []
        while engine.lanes.busy or engine.lanes.waiting:
            await asyncio.sleep(0)


@pytest.mark.parametrize("parallel", [0, -1, 1_001, True, "2", 1.5])
async def test_a_number_of_requests_that_is_none_is_refused(
    empty_bucket: Bucket, cache_dir: Path, parallel: Any
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(UsageError, match="from 1 to 1000"):
            fetcher.list(empty_bucket.uri(), parallel=parallel)


async def test_a_real_bucket_listed_at_once_is_what_it_is_one_by_one(empty_bucket: Bucket, cache_dir: Path) -> None:
    keys = ["a/", "a//x", "a/b/c", "a0", "b/x", "b/y?versionId=1", "b0"]
    for key in keys:
        empty_bucket.put(key, b"x")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        plain = [stat async for stat in fetcher.list(empty_bucket.uri())]
        assert [stat async for stat in fetcher.list(empty_bucket.uri(), parallel=4)] == plain
        assert len(plain) == len(keys)
        top = [stat.uri async for stat in fetcher.list(empty_bucket.uri(), recursive=False, parallel=4)]
        assert top == [empty_bucket.uri(key) for key in ["a/", "a0", "b/", "b0"]]
        report = await fetcher.prefetch(fetcher.list(empty_bucket.uri("b/"), parallel=2))
        assert (report.objects, report.failed) == (2, 0)
