"""What the tests of the cache share: an open cache, its answers as awaitables, bodies, and what lies on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blake3 import blake3

from asyncfetch.cache import Begun, Body, BodySink, Cache, CacheStats, Elsewhere, Found, Published, RefKey
from asyncfetch.cache.partmap import missing, parse
from asyncfetch.settings import CachePolicy, Digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from asyncfetch.cache import PartedBody

T = TypeVar("T")

HASHES: dict[str, Callable[[bytes], str]] = {
    "blake3": lambda data: blake3(data).hexdigest(),
    "sha256": lambda data: hashlib.sha256(data).hexdigest(),
}


def key(name: str, version: str = "") -> RefKey:
    return RefKey("http://127.0.0.1:9000", "bucket", name, version)


@asynccontextmanager
async def opened(
    directory: Path, digest: Digest = "blake3", *, job_started: float | None = None, **policy: Any
) -> AsyncIterator[Cache]:
    async with opened_by(CachePolicy(cache_dir=directory, digest=digest, **policy), job_started=job_started) as cache:
        yield cache


@asynccontextmanager
async def opened_by(policy: CachePolicy, *, job_started: float | None = None) -> AsyncIterator[Cache]:
    cache = await asyncio.to_thread(Cache.open, policy, loop=asyncio.get_running_loop(), job_started=job_started)
    try:
        yield cache
    finally:
        await cache.aclose()


async def fill(sink: BodySink, data: bytes, *, announced: bool = True, step: int = 1 << 30) -> Body:
    """Puts a body into a sink as an origin does, `step` bytes at a time at most."""
    view = memoryview(data)
    try:
        while len(view):
            if (pause := sink.drain()) is not None:
                await pause
            room = sink.get_buffer(len(view) if announced else -1)
            count = min(len(room), len(view), step)
            room[:count] = view[:count]
            sink.advance(count)
            view = view[count:]
        return await sink.finish()
    except BaseException:
        sink.abort()
        raise


async def whole(cache: Cache, name: RefKey) -> bytes | None:
    """An object's bytes as they may be served: looked up, and checked where there is a doubt."""
    (found,) = await look_up(cache, name)
    if found is None:
        return None
    good: bool = await taken(lambda done: cache.check(name, found, done)) if found.doubt else True
    if not good:
        return None
    return Path(found.path).read_bytes()


async def publish(cache: Cache, data: bytes, name: RefKey | None = None, **facts: Any) -> Published:
    body = await fill(cache.sink(), data)
    return await taken(lambda done: cache.publish(body, name, done, **facts))


async def begin(cache: Cache, begun: Begun) -> PartedBody:
    """A large body that goes on with what came of it before."""
    body = cache.parted(begun.size, begun=begun)
    while (pause := body.opening()) is not None:
        await pause
    return body


async def bring(body: PartedBody, start: int, stop: int, data: bytes) -> None:
    """Puts these bytes of `data`, which is all of it, into a large body."""
    sink = body.part(start, stop)
    while sink.at < stop:
        while (pause := sink.drain()) is not None:
            await pause
        room = sink.get_buffer(stop - sink.at)
        room[:] = data[sink.at : sink.at + len(room)]
        sink.advance(len(room))
    await sink.flush()


async def give_up(cache: Cache, begun: Begun, data: bytes, *spans: tuple[int, int]) -> None:
    """Brings these parts of a large body and leaves them, some moments later, to another attempt."""
    body = await begin(cache, begun)
    for span in spans:
        await bring(body, *span, data)
    body.abort(of_use=True)


async def go_on(cache: Cache, begun: Begun, data: bytes) -> Published:
    """Brings what is missing of a large body, and publishes it."""
    body = await begin(cache, begun)
    try:
        for span in missing(body.present, begun.size):
            await bring(body, *span, data)
        whole = await body.finish()
    finally:
        body.abort(of_use=True)
    return await taken(lambda done: cache.publish(whole, begun.key, done, etag=begun.etag))


async def keep_private(cache: Cache, data: bytes) -> Published:
    body = await fill(cache.sink(), data)
    return await taken(lambda done: cache.keep_private(body, done))


async def look_up(cache: Cache, *names: RefKey) -> list[Found | None]:
    answers: list[Found | Elsewhere | None] = await taken(lambda done: cache.look_up(names, done))
    found = [one for one in answers if not isinstance(one, Elsewhere)]
    assert len(found) == len(names), "who does not say that it will fetch is not made to wait"
    return found


async def settled(cache: Cache) -> CacheStats:
    """What its index says once all is done that was handed in before."""
    return await cache._ask(cache._index.totals)


async def taken(ask: Callable[[Callable[[T | Exception], None]], None]) -> T:
    """What a callback is given; raised when that is an exception."""
    answer: asyncio.Future[T | Exception] = asyncio.get_running_loop().create_future()
    ask(answer.set_result)
    result = await answer
    if isinstance(result, Exception):
        raise result
    return result


def totals(directory: Path) -> tuple[int, int]:
    """The number of blobs and their bytes, as the index in force says."""
    path = directory / "v1" / "index"
    with closing(sqlite3.connect(path / f"index-{(path / 'CURRENT').read_text()}.sqlite")) as connection:
        connection.execute("BEGIN")  # both of one moment: a cache may be evicting
        number, size = connection.execute("SELECT blobs, blob_bytes FROM totals").fetchone()
        assert (number, size) == connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM blobs").fetchone()
    return number, size


@contextmanager
def held(directory: Path) -> Iterator[sqlite3.Connection]:
    """Another has the write lock of the index, until it commits or at the end: a backup, say, which is no company."""
    index = directory / "v1" / "index"
    path = index / f"index-{(index / 'CURRENT').read_text()}.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def check_accounts(directory: Path) -> None:
    """The index knows just the blobs that there are, and their bytes."""
    paths = blobs(directory).values()
    assert totals(directory) == (len(paths), sum(path.stat().st_size for path in paths))


def blobs(directory: Path) -> dict[str, Path]:
    """Every blob by its digest."""
    paths = (directory / "v1" / "blobs").glob("*/*/*")
    return {f"{path.parent.parent.name}:{path.name}": path for path in paths}


def check_blobs(directory: Path, names: Sequence[str] | None = None) -> None:
    """Every blob that can be read has the digest that it is called by, and lies where that digest says."""
    found = blobs(directory)
    for digest, path in found.items():
        algorithm, _, name = digest.partition(":")
        assert HASHES[algorithm](path.read_bytes()) == name
        assert path.parent.name == name[:2]
    if names is not None:
        assert set(found) == set(names)


def unfinished(directory: Path) -> list[Path]:
    """What came of each large object that is not whole and that nobody is bringing."""
    return list((directory / "v1" / "partial").glob("*"))


def check_unfinished(directory: Path, content: Callable[[str], bytes]) -> None:
    """No map claims bytes that are not there; `content` gives those of an object by its key."""
    for path in unfinished(directory):
        said = parse((path / "map").read_bytes())
        assert said is not None
        assert said.begun.name == path.name
        body, right = (path / "body").read_bytes(), content(said.begun.key.key)
        assert said.stretches
        assert all(body[start:stop] == right[start:stop] for start, stop in said.stretches)


def leftovers(directory: Path) -> list[Path]:
    """The files that owners have under tmp/, but for their locks and for intents that are fulfilled."""
    paths = (directory / "v1" / "tmp").glob("*/*")
    return [path for path in paths if path.name != "lock" and not (path.name == "intent" and not path.stat().st_size)]


def owners(directory: Path) -> list[Path]:
    return list((directory / "v1" / "tmp").iterdir())
