"""Who signs, seen from a fetcher: many lanes with one identity that ends, and several identities at once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from asyncfetch import Access, Fetcher
from asyncfetch.errors import InvalidCredentials, NoCredentials
from asyncfetch.testing import EmbeddedS3, RawRequest, ScriptedServer, answer
from asyncfetch.testing.scripted import Answer
from tests.objects import Bucket
from tests.origins.identity import Helper, boxed, lay_home, server, write_static
from tests.origins.scripts import refusing

BODY = b"0123456789"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return lay_home(directory, monkeypatch)


def signer_of(request: RawRequest) -> str:
    found = re.search(r"Credential=([^/]+)/", request.header("authorization") or "")
    return found[1] if found else "nobody"


async def test_credentials_that_end_in_mid_run_are_renewed_once_for_all_lanes(home: Path, cache_dir: Path) -> None:
    helper = Helper(home)
    served: set[str] = set()

    def answers(request: RawRequest) -> Answer:
        # Each is good for a hundred objects, whatever its expiry says. What is asked for twice because the machine is
        # busy, and so its answer late, is one object, and ends nothing.
        good = f"ASIA{1 + min(len(served), 399) // 100}"
        if signer_of(request) != good:
            return refusing("ExpiredToken", status="400 Bad Request")
        served.add(request.target)
        return answer(BODY, headers=['ETag: "e"'])

    async with (
        ScriptedServer(answers) as origin,
        Fetcher(cache_dir=cache_dir, endpoint_url=origin.url, profile="helper", concurrency=64) as fetcher,
    ):
        report = await fetcher.prefetch(f"s3://bucket/{index}" for index in range(400))
        assert (report.objects, report.failed) == (400, 0)
        assert fetcher.stats().retries == 0
    assert helper.runs == 4


async def test_a_container_is_asked_once_for_all_lanes(
    home: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        server(boxed("ASIABOX", 3600)) as (url, asked),
        ScriptedServer(lambda request: answer(BODY, headers=['ETag: "e"'])) as origin,
        Fetcher(cache_dir=cache_dir, endpoint_url=origin.url, region="us-east-1", concurrency=64) as fetcher,
    ):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        report = await fetcher.prefetch(f"s3://bucket/{index}" for index in range(200))
        assert report.failed == 0
        assert {signer_of(request) for request in origin.requests} == {"ASIABOX"}
        assert asked.qsize() == 1


async def test_each_bucket_is_read_by_its_own_profile(home: Path, cache_dir: Path) -> None:
    Helper(home)
    async with ScriptedServer(lambda request: answer(BODY, headers=['ETag: "e"'])) as origin:
        here = Access(endpoint_url=origin.url, region="us-east-1")
        buckets = {
            "mine": replace(here, profile="static"),
            "theirs": replace(here, profile="helper"),
            "public": replace(here, anonymous=True),
        }
        async with Fetcher(cache_dir=cache_dir, buckets=buckets) as fetcher:
            report = await fetcher.prefetch(f"s3://{name}/key" for name in buckets)
            assert report.failed == 0
        signers = {request.target.split("/")[1]: signer_of(request) for request in origin.requests}
        assert signers == {"mine": "AKIASTATIC", "theirs": "ASIA1", "public": "nobody"}


async def test_the_profile_of_the_environment_is_the_one_in_force_when_a_fetcher_first_asks(
    home: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Helper(home)
    async with ScriptedServer(lambda request: answer(BODY)) as origin:
        for profile in ("static", "helper"):
            monkeypatch.setenv("AWS_PROFILE", profile)
            async with Fetcher(cache_dir=cache_dir, endpoint_url=origin.url, region="us-east-1") as fetcher:
                assert await fetcher.read_bytes("s3://bucket/key", 0, 10) == BODY
        assert [signer_of(request) for request in origin.requests] == ["AKIASTATIC", "ASIA1"]


async def test_a_role_is_assumed_through_its_profile_once_for_all_lanes(
    home: Path, empty_bucket: Bucket, moto: EmbeddedS3, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_static(home, "AKIASTATIC")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.endpoint_url)
    uris = [empty_bucket.put(str(index), b"body") for index in range(20)]
    moto.reset_counts()
    async with Fetcher(cache_dir=cache_dir, endpoint_url=moto.endpoint_url, profile="role") as fetcher:
        report = await fetcher.prefetch(uris)
        assert (report.objects, report.failed) == (20, 0)
    posts = {seen.path: count for seen, count in moto.requests().items() if seen.method == "POST"}
    assert posts == {"/": 1}


async def test_nobody_signs_as_nobody_unasked(home: Path, cache_dir: Path) -> None:
    async with (
        ScriptedServer(lambda request: answer(BODY)) as origin,
        Fetcher(cache_dir=cache_dir, endpoint_url=origin.url, region="us-east-1") as fetcher,
    ):
        with pytest.raises(NoCredentials, match="anonymous=True"):
            await fetcher.fetch("s3://bucket/key")
        assert origin.requests == []


async def test_a_role_that_is_refused_is_not_asked_for_by_each_lane(
    home: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    async with (
        server(document, status="403 Forbidden") as (url, asked),
        ScriptedServer(lambda request: answer(BODY)) as origin,
        Fetcher(cache_dir=cache_dir, endpoint_url=origin.url, profile="role", concurrency=64) as fetcher,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        report = await fetcher.prefetch(f"s3://bucket/{index}" for index in range(200))
        assert (report.objects, report.failed) == (0, 200)
        assert {type(failure.exception) for failure in report.failures} == {InvalidCredentials}
        assert origin.requests == []
        assert asked.qsize() == 1
