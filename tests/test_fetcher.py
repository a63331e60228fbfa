"""The fetcher against a real S3 server: what is fetched, kept, checked, shared, bounded and told."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import asyncfetch
from asyncfetch import Access, Failure, Fetcher, Settings
from asyncfetch.errors import (
    BucketNotFound,
    CacheUnusable,
    EndpointUnreachable,
    FetcherClosed,
    ForeignUse,
    InvalidURI,
    NoCredentials,
    ObjectNotFound,
    RangeNotSatisfiable,
    UsageError,
)
from asyncfetch.testing import EmbeddedS3
from asyncfetch.uris import s3
from tests.leaks import temporary_files
from tests.objects import Bucket

BODIES = {f"o/{index:03d}": f"body {index}".encode() * (index + 1) for index in range(20)}


@pytest.fixture
def bucket(empty_bucket: Bucket) -> Bucket:
    for key, body in BODIES.items():
        empty_bucket.put(key, body)
    empty_bucket.server.reset_counts()
    return empty_bucket


def test_every_public_name_is_there() -> None:
    for name in asyncfetch.__all__:
        assert getattr(asyncfetch, name) is not None


async def test_an_object_comes_whole_with_its_facts(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        entry = await fetcher.fetch((bucket.uri("o/007"), {"label": 7}))
        assert entry.path.read_bytes() == BODIES["o/007"]
        assert entry.size == len(BODIES["o/007"])
        assert entry.digest == f"blake3:{blake3(BODIES['o/007']).hexdigest()}"
        assert (entry.uri, entry.index, entry.payload) == (bucket.uri("o/007"), 0, {"label": 7})
        assert entry.etag
        assert not entry.from_cache
        again = await fetcher.fetch(bucket.uri("o/007"))
        assert again.from_cache
        assert again.path == entry.path
    assert bucket.requests() == 1


async def test_a_stream_keeps_order_payloads_and_indices(bucket: Bucket, cache_dir: Path) -> None:
    sources = [(bucket.uri(key), key) for key in BODIES] * 2
    async with Fetcher(cache_dir=cache_dir, concurrency=7) as fetcher:
        seen = [entry async for entry in fetcher.entries(sources)]
    assert [entry.index for entry in seen] == list(range(len(sources)))
    assert [entry.payload for entry in seen] == [key for _, key in sources]
    assert [entry.path.read_bytes() for entry in seen] == [BODIES[key] for _, key in sources]
    assert bucket.bodies() == len(BODIES), "what is asked for twice is transferred once"


async def test_order_of_completion_gives_every_item_once(bucket: Bucket, cache_dir: Path) -> None:
    sources = [bucket.uri(key) for key in BODIES]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        seen = [entry async for entry in fetcher.entries(sources, order="completion")]
    assert sorted(entry.index for entry in seen) == list(range(len(sources)))
    assert {entry.uri: entry.path.read_bytes() for entry in seen} == {
        bucket.uri(key): body for key, body in BODIES.items()
    }


async def test_many_callers_of_one_object_share_one_transfer(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        entries = await asyncio.gather(*[fetcher.fetch(bucket.uri("o/003")) for _ in range(50)])
        assert fetcher.stats().shared == 49
    assert {entry.path for entry in entries} == {entries[0].path}
    assert [entry.from_cache for entry in entries].count(False) == 1
    assert bucket.requests() == 1


async def test_a_second_pass_over_a_prefix_downloads_nothing(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        first = await fetcher.prefetch(fetcher.list(bucket.uri("o/")))
        assert (first.objects, first.downloaded, first.failed) == (20, 20, 0)
    bucket.server.reset_counts()
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        second = await fetcher.prefetch(fetcher.list(bucket.uri("o/")))
    assert (second.objects, second.downloaded, second.hit_rate) == (20, 0, 1.0)
    assert bucket.requests() == 0, "the listing alone confirms what the cache has"


async def test_once_a_job_is_one_conditional_get(bucket: Bucket, cache_dir: Path) -> None:
    uris = [bucket.uri(key) for key in BODIES]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.prefetch(uris)
    bucket.server.reset_counts()
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        for _ in range(2):
            assert (await fetcher.prefetch(uris)).downloaded == 0
        assert fetcher.stats().revalidated == 20
    assert (bucket.requests(), bucket.bodies()) == (20, 0)


async def test_never_sends_no_request_at_all(bucket: Bucket, cache_dir: Path) -> None:
    uris = [bucket.uri(key) for key in BODIES]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.prefetch(uris)
    bucket.server.reset_counts()
    async with Fetcher(cache_dir=cache_dir, revalidate="never") as fetcher:
        assert (await fetcher.prefetch(uris)).objects == 20
    assert not bucket.server.requests()


async def test_always_asks_each_time_and_sees_a_change(bucket: Bucket, cache_dir: Path) -> None:
    uri = bucket.uri("o/001")
    async with Fetcher(cache_dir=cache_dir, revalidate="always") as fetcher:
        before = await fetcher.fetch(uri)
        assert (await fetcher.fetch(uri)).from_cache
        bucket.put("o/001", b"new")
        after = await fetcher.fetch(uri)
        assert after.path.read_bytes() == b"new"
        assert not after.from_cache
        assert before.path.read_bytes() == BODIES["o/001"], "what was handed out does not change"


async def test_seconds_trust_a_young_check(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.fetch(bucket.uri("o/001"))
    bucket.server.reset_counts()
    async with Fetcher(cache_dir=cache_dir, revalidate=3600.0) as fetcher:
        assert (await fetcher.fetch(bucket.uri("o/001"))).from_cache
    assert bucket.requests() == 0


async def test_a_changed_object_in_a_listing_is_fetched_anew(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.prefetch(fetcher.list(bucket.uri("o/")))
    bucket.put("o/004", b"changed")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        report = await fetcher.prefetch(fetcher.list(bucket.uri("o/")))
        assert report.downloaded == 1
        assert await fetcher.read_bytes(bucket.uri("o/004")) == b"changed"


async def test_an_object_that_is_gone_is_dropped_and_raised(bucket: Bucket, cache_dir: Path) -> None:
    uri = bucket.put("passing", b"here")
    async with Fetcher(cache_dir=cache_dir, revalidate="always") as fetcher:
        await fetcher.fetch(uri)
        bucket.client.delete_object(Bucket=bucket.name, Key="passing")
        with pytest.raises(ObjectNotFound, match="passing"):
            await fetcher.fetch(uri)
    async with Fetcher(cache_dir=cache_dir, revalidate="never") as fetcher:
        with pytest.raises(FileNotFoundError):
            await fetcher.fetch(uri)


async def test_equal_bytes_under_two_keys_are_stored_once(bucket: Bucket, cache_dir: Path) -> None:
    bucket.put("a", b"same")
    bucket.put("b", b"same")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        first, second = [entry async for entry in fetcher.entries([bucket.uri("a"), bucket.uri("b")])]
        assert first.path == second.path
    assert len([path for path in cache_dir.glob("v1/blobs/*/*/*") if path.is_file()]) == 1


async def test_without_the_cache_nothing_is_kept_and_the_file_goes_as_the_stream_moves_on(
    bucket: Bucket, cache_dir: Path
) -> None:
    uris = [bucket.uri(key) for key in BODIES]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        previous: Path | None = None
        async for entry in fetcher.entries(uris, cache=False):
            assert entry.path.read_bytes() == BODIES[entry.uri.removeprefix(bucket.uri())]
            previous, path = entry.path, previous
            async with asyncio.timeout(10):
                while path is not None and path.exists():  # it goes with the cache's next batch
                    await asyncio.sleep(0)
        assert previous is not None
        assert await fetcher.read_bytes(uris[3], cache=False) == BODIES["o/003"]
    assert not list(cache_dir.glob("v1/blobs/*/*/*"))
    assert not temporary_files(cache_dir)


@pytest.mark.parametrize("cached", [False, True])
async def test_ranges_of_bytes(bucket: Bucket, cache_dir: Path, cached: bool) -> None:
    uri, body = bucket.uri("o/019"), BODIES["o/019"]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        if cached:
            await fetcher.fetch(uri)
            bucket.server.reset_counts()
        assert await fetcher.read_bytes(uri, 3, 10) == body[3:10]
        assert await fetcher.read_bytes(uri, 5) == body[5:]
        assert await fetcher.read_bytes(uri, stop=4) == body[:4]
        assert await fetcher.read_bytes(uri, 7, 7) == b""
        assert await fetcher.read_bytes(uri, 10, 10**15) == body[10:]
        with pytest.raises(RangeNotSatisfiable):
            await fetcher.read_bytes(uri, len(body))
        with pytest.raises(UsageError):
            await fetcher.read_bytes(uri, 5, 3)
        with pytest.raises(UsageError):
            await fetcher.read_bytes(uri, -5)
        if cached:
            assert bucket.requests() == 0
        assert await fetcher.read_bytes(uri) == body


async def test_stat_and_list(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stat = await fetcher.stat(bucket.uri("o/002"))
        assert (stat.uri, stat.size) == (bucket.uri("o/002"), len(BODIES["o/002"]))
        assert stat.last_modified is not None
        assert stat.last_modified.tzinfo is not None
        listed = [stat async for stat in fetcher.list(bucket.uri("o/00"))]
        assert [stat.uri for stat in listed] == [bucket.uri(f"o/00{n}") for n in range(10)]
        assert listed[2] == stat
        top = [stat.uri async for stat in fetcher.list(bucket.uri(), recursive=False)]
        assert top == [bucket.uri("o/")]
        assert [stat async for stat in fetcher.list(bucket.uri("nothing/"))] == []


async def test_a_listing_of_many_pages_is_whole(bucket: Bucket, cache_dir: Path) -> None:
    keys = [f"many/{index % 3}/{index:05d}" for index in range(1_105)]
    bucket.client.put_object(Bucket=bucket.name, Key="seed", Body=b"x")
    for key in keys:
        bucket.put(key, b"x")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        for parallel in (1, 4):
            listed = [stat.uri async for stat in fetcher.list(bucket.uri("many/"), parallel=parallel)]
            assert listed == [bucket.uri(key) for key in sorted(keys)]


async def test_failures_stand_in_their_places(bucket: Bucket, cache_dir: Path) -> None:
    sources: list[Any] = [
        bucket.uri("o/000"),
        (bucket.uri("missing"), "label"),
        "ftp://nowhere",
        None,
        bucket.uri("o/001"),
        "s3://no-such-bucket-anywhere/k",
    ]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        items = [item async for item in fetcher.entries(sources, on_error="yield")]
        skipped = [item.index async for item in fetcher.entries(sources, on_error="skip")]
    assert [type(item).__name__ for item in items] == ["Entry", "Failure", "Failure", "Failure", "Entry", "Failure"]
    assert [item.index for item in items] == list(range(6))
    missing, ftp, nothing, bad_bucket = [item for item in items if isinstance(item, Failure)]
    assert (missing.uri, missing.payload, missing.stage, missing.attempts) == (
        bucket.uri("missing"),
        "label",
        "fetch",
        1,
    )
    assert isinstance(missing.exception, ObjectNotFound)
    assert isinstance(ftp.exception, InvalidURI)
    assert (ftp.stage, nothing.stage) == ("source", "source")
    assert isinstance(nothing.exception, UsageError)
    assert isinstance(bad_bucket.exception, BucketNotFound)
    assert skipped == [0, 4]


async def test_raise_is_the_default_and_raises_the_items_own_exception(bucket: Bucket, cache_dir: Path) -> None:
    seen = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries([bucket.uri("o/000"), bucket.uri("missing"), bucket.uri("o/001")])
        with pytest.raises(ObjectNotFound) as raised:
            async for entry in stream:
                seen.append(entry.index)
        assert raised.value.uri == bucket.uri("missing")
        assert seen == [0]
        assert [entry async for entry in stream] == [], "an error ends a stream"


async def test_sources_are_read_no_further_than_the_look_ahead(bucket: Bucket, cache_dir: Path) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield bucket.uri(f"o/{read % 20:03d}")

    async with Fetcher(cache_dir=cache_dir) as fetcher, fetcher.entries(endless(), look_ahead=10) as stream:
        for taken in range(1, 100):
            await anext(stream)
            assert read <= taken + 10
        report = stream.report()
    assert report.objects == 99


async def test_async_sources_with_pauses_are_not_waited_for_in_batches(bucket: Bucket, cache_dir: Path) -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[str]:
        yield bucket.uri("o/000")
        await go_on.wait()
        yield bucket.uri("o/001")

    async with Fetcher(cache_dir=cache_dir) as fetcher, fetcher.entries(slow()) as stream:
        assert (await anext(stream)).index == 0, "the first item does not wait for the second source"
        go_on.set()
        assert (await anext(stream)).index == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_the_users_iterable_raises_comes_in_its_place(
    bucket: Bucket, cache_dir: Path, asynchronous: bool
) -> None:
    def broken() -> Iterator[str]:
        yield bucket.uri("o/000")
        yield bucket.uri("o/001")
        raise LookupError("the manifest ends here")

    async def broken_too() -> AsyncIterator[str]:
        for uri in broken():
            yield uri

    seen = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(LookupError, match="the manifest ends here"):
            async for entry in fetcher.entries(broken_too() if asynchronous else broken()):
                seen.append(entry.index)
    assert seen == [0, 1]


async def test_access_can_differ_by_bucket(bucket: Bucket, cache_dir: Path) -> None:
    with EmbeddedS3() as elsewhere:
        there = Bucket(elsewhere, {"k": b"from elsewhere"})
        async with Fetcher(
            cache_dir=cache_dir, buckets={there.name: Access(endpoint_url=elsewhere.endpoint_url)}
        ) as fetcher:
            assert await fetcher.read_bytes(there.uri("k")) == b"from elsewhere"
            assert await fetcher.read_bytes(bucket.uri("o/000")) == BODIES["o/000"]


@pytest.mark.parametrize(
    "key",
    [
        *("with space", "a+b", "100%", "%20", "ünïcödé/日本", "../up", "a/../b", "/leading", "//double", "trailing/"),
        *("x" * 1024, "q?versionId=7", "a#b&c=d"),
    ],
)
async def test_keys_of_every_kind_come_back_as_they_are(bucket: Bucket, cache_dir: Path, key: str) -> None:
    bucket.put(key, key.encode())
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        location = s3(bucket.name, key)
        entry = await fetcher.fetch(location)
        assert entry.path.read_bytes() == key.encode()
        assert await fetcher.read_bytes(str(location)) == key.encode()
        assert cache_dir in entry.path.parents


async def test_versions_are_objects_of_their_own_and_never_checked_again(bucket: Bucket, cache_dir: Path) -> None:
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    first = bucket.client.put_object(Bucket=bucket.name, Key="v", Body=b"one")["VersionId"]
    bucket.put("v", b"two")
    async with Fetcher(cache_dir=cache_dir, revalidate="always") as fetcher:
        assert await fetcher.read_bytes(bucket.uri(f"v?versionId={first}")) == b"one"
        assert await fetcher.read_bytes(bucket.uri("v")) == b"two"
        bucket.server.reset_counts()
        assert await fetcher.read_bytes(bucket.uri(f"v?versionId={first}")) == b"one"
    assert bucket.requests() == 0


async def test_missing_things_are_named(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(ObjectNotFound):
            await fetcher.stat(bucket.uri("missing"))
        with pytest.raises(BucketNotFound):
            await fetcher.fetch("s3://no-such-bucket-anywhere/k")
        with pytest.raises(BucketNotFound):
            _ = [stat async for stat in fetcher.list("s3://no-such-bucket-anywhere/")]
        with pytest.raises(InvalidURI):
            await fetcher.fetch("gopher://old/file")
        with pytest.raises(InvalidURI):
            await fetcher.fetch("s3:///no-bucket")


async def test_no_credentials_is_one_clear_sentence(
    bucket: Bucket, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(NoCredentials, match="AWS_PROFILE"):
            await fetcher.fetch(bucket.uri("o/000"))
    async with Fetcher(cache_dir=cache_dir, anonymous=True) as fetcher:
        with pytest.raises(PermissionError):
            await fetcher.fetch(bucket.uri("o/000"))


async def test_an_unreachable_endpoint_is_named_after_its_retries(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    network = asyncfetch.NetworkPolicy(attempts=2)
    async with Fetcher(
        cache_dir=cache_dir, endpoint_url="http://127.0.0.1:9", region="us-east-1", network=network
    ) as fetcher:
        with pytest.raises(EndpointUnreachable, match="127.0.0.1:9") as raised:
            await fetcher.fetch("s3://bucket/key")
        assert raised.value.attempts == 2
        assert fetcher.stats().retries == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": -1},
        {"concurrency": "many"},
        {"memory_budget": 0},
        {"memory_budget": "lots"},
        {"memory_budget": "-5MB"},
        {"revalidate": "sometimes"},
        {"revalidate": -1},
        {"endpoint_url": "localhost:9000"},
        {"workers": 0},
    ],
)
def test_nonsense_is_refused_when_it_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Fetcher(**wrong)


@pytest.mark.parametrize("wrong", [{"order": "random"}, {"on_error": "ignore"}, {"look_ahead": 0}])
async def test_nonsense_about_a_stream_is_refused_at_once(cache_dir: Path, wrong: dict[str, Any]) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(UsageError):
            fetcher.entries([], **wrong)
        with pytest.raises(UsageError):
            fetcher.entries("s3://bucket/key")
        with pytest.raises(UsageError):
            fetcher.images([], color="mauve")  # type: ignore[call-overload]


async def test_a_cache_directory_that_is_a_file_is_refused_on_entering(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(CacheUnusable, match="file"):
        async with Fetcher(cache_dir=tmp_path / "file"):
            raise AssertionError("it opened")


async def test_the_cache_directory_is_for_its_owner_alone(cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir):
        assert cache_dir.stat().st_mode & 0o777 == 0o700


async def test_a_closed_or_unopened_fetcher_says_so(cache_dir: Path) -> None:
    fetcher = Fetcher(cache_dir=cache_dir)
    with pytest.raises(FetcherClosed):
        await fetcher.fetch("/etc/hostname")
    async with fetcher:
        stream = fetcher.entries(["/etc/hostname"])
    with pytest.raises(FetcherClosed):
        fetcher.stats()
    with pytest.raises(FetcherClosed):
        await anext(stream)
    with pytest.raises(UsageError):
        await fetcher.__aenter__()


async def test_another_loop_and_a_fork_are_refused_by_name(cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:

        async def elsewhere() -> None:
            await fetcher.fetch("/etc/hostname")

        with pytest.raises(ForeignUse, match="loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            try:
                fetcher.entries(["/etc/hostname"])
            except BaseException as error:
                os.write(writing, type(error).__name__.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 100) == b"ForeignUse"
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"settings": "cache"}, r"settings must be of the type Settings, not str. .*cache_dir="),
        ({"access": "key"}, "access must be of the type Access, not str"),
        ({"cache": Path("cache")}, "cache must be of the type CachePolicy, not PosixPath"),
        ({"network": 4}, "network must be of the type NetworkPolicy, not int"),
        ({"decode": "fast"}, "decode must be of the type DecodePolicy, not str"),
        ({"buckets": {"b": "profile"}}, r"buckets\['b'\] must be of the type Access, not str"),
        ({"cache_dir": 3}, "cache_dir must be text or a path, not 3"),
        ({"cache_dir": b"cache"}, "cache_dir must be text or a path, not b'cache'"),
        ({"region": 5}, "region must be text, not 5"),
        ({"endpoint_url": b"http://localhost"}, "endpoint_url must be text"),
        ({"anonymous": "no"}, "anonymous must be True or False, not 'no'"),
        ({"ephemeral": 1}, "ephemeral must be True or False, not 1"),
    ],
)
def test_what_is_of_another_type_is_refused_when_it_is_said(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Fetcher(**keywords)


def test_a_fetcher_that_is_pickled_says_what_to_pickle_instead() -> None:
    with pytest.raises(TypeError, match=r"Pickle fetcher.settings"):
        pickle.dumps(Fetcher())


def test_settings_and_errors_can_be_pickled() -> None:
    fetcher = Fetcher(
        cache_dir="/tmp/x", region="eu-west-1", buckets={"b": Access(anonymous=True)}, memory_budget="1GiB"
    )
    settings = pickle.loads(pickle.dumps(fetcher.settings))
    assert settings == fetcher.settings
    assert isinstance(settings, Settings)
    assert Fetcher(settings).settings == settings
    error = ObjectNotFound("s3://b/k", "no such object", code="NoSuchKey", status=404, request_id="R", attempts=3)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ObjectNotFound
    assert (str(copy), copy.uri, copy.code, copy.status, copy.request_id, copy.attempts) == (
        str(error),
        "s3://b/k",
        "NoSuchKey",
        404,
        "R",
        3,
    )


async def test_small_cached_objects_are_read_whole_and_stay_subject_to_revalidation(
    bucket: Bucket, cache_dir: Path
) -> None:
    uri = bucket.uri("o/002")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        for _ in range(3):
            assert await fetcher.read_bytes(uri) == BODIES["o/002"]
        assert (fetcher.stats().downloaded, fetcher.stats().hits) == (1, 2)
    bucket.put("o/002", b"changed")
    bucket.server.reset_counts()
    async with Fetcher(cache_dir=cache_dir, revalidate="never") as fetcher:
        assert await fetcher.read_bytes(uri) == BODIES["o/002"]
    assert bucket.requests() == 0
    async with Fetcher(cache_dir=cache_dir, revalidate="always") as fetcher:
        assert await fetcher.read_bytes(uri) == b"changed"
        assert await fetcher.read_bytes(uri) == b"changed"
    assert (bucket.requests(), bucket.bodies()) == (2, 1)


@pytest.mark.parametrize("kind", ["entries", "bytes", "images"])
def test_help_names_the_keywords_of_a_stream(kind: str) -> None:
    keywords = inspect.signature(getattr(Fetcher, kind)).parameters
    assert {"order", "on_error", "failures", "cache", "look_ahead"} <= keywords.keys()


@pytest.mark.parametrize("kind", ["entries", "bytes", "images"])
@pytest.mark.parametrize("name", ["decode", "takes", "engine", "settings"])
async def test_a_keyword_that_no_stream_has_is_refused(cache_dir: Path, kind: str, name: str) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(TypeError, match=name):
            getattr(fetcher, kind)([], **{name: None})
