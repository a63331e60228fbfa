"""Freshness as a user meets it: offline, and with an origin that fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from asyncfetch import CachePolicy, Failure, Fetcher, NetworkPolicy
from asyncfetch.errors import (
    AccessDenied,
    EndpointUnreachable,
    NotInCache,
    ObjectNotFound,
    OriginError,
    OriginTimeout,
    RangeNotSatisfiable,
    ServerError,
    Throttled,
    TransferInterrupted,
)
from asyncfetch.testing import Ending, Hold, ScriptedServer, answer, demo_objects
from tests.objects import Bucket

ONE_TRY = NetworkPolicy(attempts=1, read_timeout=0.3)
BODY = b"what the cache has" * 100
FIRST = answer(BODY, headers=['ETag: "one"'])


def offline(cache_dir: Path) -> Fetcher:
    return Fetcher(cache=CachePolicy(cache_dir=cache_dir, offline=True, revalidate="always"))


def forgiving(cache_dir: Path, **rest: Any) -> Fetcher:
    return Fetcher(cache=CachePolicy(cache_dir=cache_dir, stale_if_error=True), network=ONE_TRY, **rest)


async def test_offline_serves_what_is_there_whatever_its_age_and_sends_nothing(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    key, photograph = next((key, body) for key, body in demo_objects(12) if "motorcycle" in key)
    uri = empty_bucket.put(key, photograph)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        before = await fetcher.fetch(uri)
        stat = await fetcher.stat(uri)
        (listed,) = [stat async for stat in fetcher.list(empty_bucket.uri())]
    empty_bucket.put(key, b"changed since")
    newer = [stat async for stat in _list(empty_bucket, cache_dir)]
    empty_bucket.server.reset_counts()
    async with offline(cache_dir) as fetcher:
        for source in (uri, listed, *newer):
            assert (await fetcher.fetch(source)).digest == before.digest
            assert await fetcher.read_bytes(source) == photograph
            assert await fetcher.read_bytes(source, 10, 20) == photograph[10:20]
            assert (await fetcher.image(source)).pixels.shape[2] == 3
            assert await fetcher.stat(source) == stat
        with pytest.raises(RangeNotSatisfiable):
            await fetcher.read_bytes(uri, len(photograph))
        assert [image.uri async for image in fetcher.images([uri])] == [uri]
        assert (await fetcher.prefetch([uri])).hit_rate == 1
    assert not empty_bucket.server.requests()


async def _list(bucket: Bucket, cache_dir: Path) -> Any:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        async for stat in fetcher.list(bucket.uri()):
            yield stat


async def test_offline_raises_a_named_error_for_the_rest_and_sends_nothing(
    empty_bucket: Bucket, cache_dir: Path
) -> None:
    there, missing = empty_bucket.put("there", b"x"), empty_bucket.put("missing", b"y")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.fetch(there)
    empty_bucket.server.reset_counts()
    async with offline(cache_dir) as fetcher:
        for attempt in (
            fetcher.fetch(missing),
            fetcher.fetch(there, cache=False),
            fetcher.read_bytes(missing),
            fetcher.read_bytes(missing, 0, 1),
            fetcher.read_bytes(there, cache=False),
            fetcher.image(missing),
            fetcher.stat(missing),
            fetcher.fetch("http://127.0.0.1:9/nobody"),
        ):
            with pytest.raises(NotInCache, match="offline") as raised:
                await attempt
            assert isinstance(raised.value, FileNotFoundError)
        with pytest.raises(NotInCache, match="list"):
            _ = [stat async for stat in fetcher.list(empty_bucket.uri())]
        items = [item async for item in fetcher.entries([there, missing], on_error="yield")]
        assert isinstance(items[1], Failure)
        assert (type(items[1].exception), items[1].stage, items[1].attempts) == (NotInCache, "fetch", 1)
        assert fetcher.stats().failures["NotInCache"] >= 3
    assert not empty_bucket.server.requests()
    async with Fetcher(cache_dir=cache_dir, revalidate="never") as fetcher:
        assert (await fetcher.fetch(there)).from_cache, "what could not be had offline has not been forgotten"


async def test_offline_needs_no_credentials_and_serves_local_files(
    empty_bucket: Bucket, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = empty_bucket.put("k", b"body")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.fetch(uri)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    (tmp_path / "local").write_bytes(b"local")
    async with offline(cache_dir) as fetcher:
        assert await fetcher.read_bytes(uri) == b"body"
        assert await fetcher.read_bytes(tmp_path / "local") == b"local"
        assert (await fetcher.stat(tmp_path / "local")).size == 5
        assert [stat.size async for stat in fetcher.list(tmp_path / "local")] == [5]


FAILURES = [
    pytest.param(answer(status="500 Internal Server Error"), ServerError, id="500"),
    pytest.param(answer(status="503 Slow Down"), Throttled, id="503"),
    pytest.param([Ending.RESET], TransferInterrupted, id="reset"),
    pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Ending.DROP], TransferInterrupted, id="half"),
    pytest.param([Hold()], OriginTimeout, id="time-out"),
]


@pytest.mark.parametrize("first", [FIRST, answer(BODY)], ids=["etag", "no etag"])
@pytest.mark.parametrize(("failure", "error"), FAILURES)
async def test_a_failing_origin_is_raised_unless_stale_will_do(
    cache_dir: Path, first: bytes, failure: Any, error: type[OriginError], caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer([first, *[failure] * 8]) as server:
        uri = f"{server.url}/o"
        async with Fetcher(cache_dir=cache_dir) as fetcher:
            await fetcher.fetch(uri)
        async with Fetcher(cache_dir=cache_dir, network=ONE_TRY) as fetcher:
            for attempt in (fetcher.fetch(uri), fetcher.read_bytes(uri), fetcher.read_bytes(uri, 1, 5)):
                with pytest.raises(error):
                    await attempt
        caplog.clear()
        async with forgiving(cache_dir) as fetcher:
            entry = await fetcher.fetch(uri)
            assert (entry.path.read_bytes(), entry.from_cache) == (BODY, True)
            assert await fetcher.read_bytes(uri) == BODY
            assert await fetcher.read_bytes(uri, 1, 5) == BODY[1:5]
            stats = fetcher.stats()
            assert (stats.stale, stats.hits, stats.revalidated, stats.downloaded) == (3, 0, 0, 0)
            with pytest.raises(error):
                await fetcher.fetch(f"{server.url}/other")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([text for text in warnings if "unchecked" in text]) == 1, "told once, not for each object"


async def test_an_origin_that_is_not_there_is_a_failing_origin(cache_dir: Path) -> None:
    async with ScriptedServer([FIRST]) as server:
        uri = f"{server.url}/o"
        async with Fetcher(cache_dir=cache_dir) as fetcher:
            await fetcher.fetch(uri)
    async with Fetcher(cache_dir=cache_dir, network=ONE_TRY) as fetcher:
        with pytest.raises(EndpointUnreachable):
            await fetcher.fetch(uri)
    async with forgiving(cache_dir) as fetcher:
        assert (await fetcher.fetch(uri)).path.read_bytes() == BODY


async def test_gone_and_forbidden_are_no_failures_of_the_origin(cache_dir: Path) -> None:
    refusals = [answer(status="403 Forbidden"), answer(status="404 Not Found"), answer(status="503 Slow Down")]
    async with ScriptedServer([FIRST, *refusals]) as server:
        uri = f"{server.url}/o"
        async with Fetcher(cache_dir=cache_dir) as fetcher:
            await fetcher.fetch(uri)
        async with forgiving(cache_dir) as fetcher:
            with pytest.raises(AccessDenied):
                await fetcher.fetch(uri)
            with pytest.raises(ObjectNotFound):
                await fetcher.fetch(uri)
            with pytest.raises(Throttled):
                await fetcher.fetch(uri)  # the 404 has dropped what was known: nothing can stand in
            assert fetcher.stats().stale == 0
