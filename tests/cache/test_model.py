"""The cache against a dictionary: two users of one directory, and everything that may befall it in between."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asyncfetch.cache import SMALL, Cache, Ref, RefKey
from asyncfetch.settings import CachePolicy
from tests.soak import examples

from .helpers import HASHES, blobs, check_accounts, check_blobs, fill, key, leftovers, look_up, settled, taken
from .test_index import DAMAGES, current
from .test_recovery import leave, put
from .zygote import LATER

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from asyncfetch.cache import Published

NOISE = random.Random(3).randbytes(SMALL + 9)
# Few, so that objects share them; of every way that a body takes. Rules name them by their place here.
CONTENTS = [b"", NOISE[:5000], NOISE[:SMALL], NOISE]
DIGESTS = ["blake3:" + HASHES["blake3"](content) for content in CONTENTS]

keys = st.sampled_from([key("a"), key("a", "v1"), key("Ünï ✓")])
contents = st.integers(0, len(CONTENTS) - 1)
etags = st.sampled_from([None, "1", "2"])
times = st.floats(0, 1e9)
users = st.integers(0, 1)


class Known(NamedTuple):
    ref: Ref
    content: int
    sure: bool  # False once the index may have lost it


class CacheModel(RuleBasedStateMachine):
    """What is found is what was last said of an object, or nothing where something was lost; never anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.caches: list[Cache] = []
        self.known: dict[RefKey, Known] = {}
        self.damaged: set[int] = set()
        self.doubted: set[int] = set()  # the index may not know what lies there
        self.accounted = True  # until the index was lost, and with it the knowledge of blobs

    def opened(self, max_bytes: int | None = None) -> Cache:
        """A cache of a job to which all that others have used is old."""
        policy = CachePolicy(cache_dir=self.directory, max_bytes=max_bytes)
        return Cache.open(policy, loop=self.loop, job_started=LATER)

    def run(self, work: Coroutine[None, None, object]) -> None:
        self.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        self.caches = [self.opened() for _ in range(2)]

    @rule(user=users, name=keys, content=contents, etag=etags, at=times, announced=st.booleans())
    def publish(self, user: int, name: RefKey, content: int, etag: str | None, at: float, announced: bool) -> None:
        async def publish() -> None:
            cache, data = self.caches[user], CONTENTS[content]
            there = DIGESTS[content] in blobs(self.directory) and content not in self.damaged
            body = await fill(cache.sink(), data, announced=announced)
            if content in self.doubted and body.path:
                there = False  # what lies in a file by now takes their place; bytes in memory are compared with them
            published: Published = await taken(lambda done: cache.publish(body, name, done, etag=etag, validated=at))
            assert (published.digest, published.stored) == (DIGESTS[content], not there)
            assert Path(published.path).read_bytes() == data
            self.damaged.discard(content)
            self.doubted.discard(content)
            self.known[name] = Known(Ref(len(data), etag, published.digest, at), content, True)

        self.run(publish())

    @rule(user=users, names=st.lists(keys, max_size=6))
    def look_up(self, user: int, names: list[RefKey]) -> None:
        async def ask() -> None:
            for name, found in zip(names, await look_up(self.caches[user], *names), strict=True):
                expected = self.known.get(name)
                if found is None:
                    assert expected is None or not expected.sure
                    self.known.pop(name, None)
                else:
                    assert expected is not None
                    assert found.ref == expected.ref
                    assert Path(found.path).read_bytes() == CONTENTS[expected.content]

        self.run(ask())
        self.damaged = {one for one in self.damaged if DIGESTS[one] in blobs(self.directory)}  # set aside when met

    @rule(user=users, name=keys)
    def forget(self, user: int, name: RefKey) -> None:
        async def forget() -> None:
            self.caches[user].forget(name)
            assert await look_up(self.caches[user], name) == [None]
            await settled(self.caches[user])  # from here on the other knows too
            self.known.pop(name, None)

        self.run(forget())

    @rule(user=users, name=keys, at=times)
    def validate(self, user: int, name: RefKey, at: float) -> None:
        async def validate() -> None:
            expected = self.known.get(name)
            if expected is not None:
                self.caches[user].validate(name, expected.ref, at)
                await settled(self.caches[user])
                self.known[name] = expected._replace(ref=expected.ref._replace(validated=at))

        self.run(validate())

    @rule(user=users, content=contents)
    def keep_private(self, user: int, content: int) -> None:
        async def keep() -> None:
            cache = self.caches[user]
            body = await fill(cache.sink(), CONTENTS[content])
            kept: Published = await taken(lambda done: cache.keep_private(body, done))
            assert Path(kept.path).read_bytes() == CONTENTS[content]
            cache.discard(kept.path)
            await settled(cache)
            assert not Path(kept.path).exists()

        self.run(keep())

    @rule(user=users)
    def clear(self, user: int) -> None:
        async def clear() -> None:
            here = blobs(self.directory)
            size = sum(path.stat().st_size for path in here.values())
            assert (await self.caches[user].clear())[2:] == (len(here), size, 0, 0)
            self.known = {}
            self.damaged.clear()
            self.doubted.clear()
            self.accounted = True

        self.run(clear())

    @rule(user=users)
    def open_again(self, user: int) -> None:
        self.run(self.caches[user].aclose())
        self.caches[user] = self.opened()

    @rule(limit=st.sampled_from([1, 6000, SMALL, 2 * SMALL]), content=contents, name=keys)
    def evict(self, limit: int, content: int, name: RefKey) -> None:
        """Another job, with a limit, publishes something and makes room for it."""

        async def evict() -> None:
            cache = self.opened(max_bytes=limit)
            body = await fill(cache.sink(), CONTENTS[content])
            published: Published = await taken(lambda done: cache.publish(body, name, done, validated=7.0))
            assert Path(published.path).read_bytes() == CONTENTS[content]
            if not published.private:
                self.damaged.discard(content)
                self.doubted.discard(content)
                self.known[name] = Known(Ref(published.size, None, published.digest, 7.0), content, True)
            await cache.aclose()

        self.known = {name: known._replace(sure=False) for name, known in self.known.items()}
        self.run(evict())
        self.damaged = {one for one in self.damaged if DIGESTS[one] in blobs(self.directory)}

    @rule(named=st.lists(contents, unique=True), placed=st.booleans(), user=users)
    def crash(self, named: list[int], placed: bool, user: int) -> None:
        """A process names blobs, removes or places them, and dies before it has told the index; another one sweeps."""
        for content in named:
            path = blobs(self.directory).get(DIGESTS[content])
            if placed and path is None:
                put(self.directory, DIGESTS[content], CONTENTS[content])
            elif not placed and path is not None:
                path.unlink()
                self.damaged.discard(content)
                self.known = {
                    name: known._replace(sure=known.sure and known.content != content)
                    for name, known in self.known.items()
                }
        self.doubted.update(named)
        leave(self.directory, *(DIGESTS[content] for content in named))
        self.open_again(user)

    @rule(damage=st.sampled_from(sorted(DAMAGES)), opened=st.booleans())
    def damage_the_index(self, damage: str, opened: bool) -> None:
        """Closed, it is damaged in any way; open, it is lost: what SQLite then has in memory is not ours to model."""
        if opened:
            damage = "CURRENT deleted" if "CURRENT" in damage else "deleted"
        else:
            for cache in self.caches:
                self.run(cache.aclose())
        if (self.directory / "v1" / "index" / "CURRENT").exists() and current(self.directory / "v1").exists():
            DAMAGES[damage](current(self.directory / "v1"))
        self.known = {name: known._replace(sure=False) for name, known in self.known.items()}
        self.accounted = False
        self.doubted.update(range(len(CONTENTS)))
        if not opened:
            self.open()

    @rule(content=contents, how=st.sampled_from(["removed", "cut", "grown"]))
    def damage_a_blob(self, content: int, how: str) -> None:
        path, data = blobs(self.directory).get(DIGESTS[content]), CONTENTS[content]
        if path is not None and content not in self.damaged:
            self.accounted = False
            if how == "removed" or not data:
                path.unlink()
            else:
                path.write_bytes(data[:-1] if how == "cut" else data + b"x")
                self.damaged.add(content)
            self.known = {
                name: known._replace(sure=False) if known.content == content else known
                for name, known in self.known.items()
            }

    @invariant()
    def nothing_is_left_lying(self) -> None:
        assert not leftovers(self.directory)

    @invariant()
    def sums_are_those_of_the_disk(self) -> None:
        if self.accounted and self.caches:
            check_accounts(self.directory)

    def teardown(self) -> None:
        for cache in self.caches:
            self.run(cache.aclose())
            assert cache.statistics().buffer_bytes == 0
        self.loop.close()
        for content in self.damaged:
            blobs(self.directory)[DIGESTS[content]].unlink()
        check_blobs(self.directory)
        shutil.rmtree(self.directory)


TestCache = CacheModel.TestCase
TestCache.settings = settings(
    max_examples=examples(25), stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
