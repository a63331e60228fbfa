"""The survey of a bucket: what it reads, what it tells, what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import UsageError
from asyncfetch.objects import ObjectStat, Percentiles, Verdict
from asyncfetch.settings import Access, CachePolicy, NetworkPolicy, Settings
from asyncfetch.testing import Fault, Faults, FaultServer, Generated, demo_objects
from asyncfetch.testing.scripted import Answer, Hold, RawRequest, ScriptedServer, answer
from asyncfetch.toolbox import Step, measure
from asyncfetch.toolbox.throughput import verdict_of
from tests.cli.terminal import asyncfetch
from tests.leaks import temporary_files
from tests.objects import Bucket


@pytest.fixture
def bucket(empty_bucket: Bucket) -> Bucket:
    for key, body in demo_objects(18):
        empty_bucket.put(f"photos/{key}", body)
    empty_bucket.server.reset_counts()
    return empty_bucket


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "faulty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "faulty-secret")


async def test_each_step_reads_the_sample_once_and_nothing_is_written(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        sample = [stat async for stat in fetcher.list(bucket.uri("photos/"))]
        settings = fetcher.settings
    survey = await measure(settings, sample, [2, 8], list_requests=1)
    assert [(step.concurrency, step.objects, step.failed) for step in survey.steps] == [(2, 20, 0), (8, 20, 0)]
    for step in survey.steps:
        assert step.bytes == sum(stat.size for stat in sample)
        assert 0 < step.first_byte.p50 <= step.first_byte.p99
        assert step.first_byte.p50 <= step.whole_body.p50
        assert step.cpu_seconds > 0
    assert bucket.bodies() == 40
    assert {seen.method for seen in bucket.server.requests()} == {"GET", "HEAD"}
    assert survey.best in survey.steps
    assert survey.verdict.sentence
    assert survey.dollars == pytest.approx(42 * 0.0004 / 1000 + 0.005 / 1000)
    assert [moment.seconds for moment in survey.curve] == sorted(moment.seconds for moment in survey.curve)
    assert survey.curve[-1].objects == 40
    assert not temporary_files(cache_dir)
    assert not list(cache_dir.glob("v1/blobs/*/*/*"))


async def test_every_request_is_counted_and_priced(cache_dir: Path, signed: None) -> None:
    """Parts, repeats and second requests cost what any other does."""
    objects = {f"{number:04d}": b"x" * 2000 for number in range(300)} | {"large": os.urandom(8 << 20)}
    wrong = {("0290", 1): Fault.SLOW, ("0280", 1): Fault.ERROR, ("large", 1): Fault.STALL}
    with FaultServer(objects, faults=Faults(at=wrong, slow_seconds=5, stall_seconds=0.3)) as server:
        network = NetworkPolicy(parts_from=1 << 20, part_size=1 << 20)
        access = Access(endpoint_url=server.endpoint_url, region="us-east-1")
        settings = Settings(access=access, cache=CachePolicy(cache_dir=cache_dir), network=network)
        async with Fetcher(settings) as fetcher:
            sample = [stat async for stat in fetcher.list(server.uri(""))]
            listing = fetcher.stats().requests
        assert listing == server.count()
        survey = await measure(settings, sample, [16], list_requests=listing)
        (step,) = survey.steps
        assert (step.objects, step.failed) == (301, 0)
        assert step.requests == server.count() - listing
        assert server.count(key="large") > 1, "it came in parts"
        # A HEAD, a GET for each object and for a part at least, a repeat, and a second request for what was late.
        assert step.requests >= 1 + 301 + 1 + 1 + 1
        assert survey.dollars == pytest.approx(step.requests * 0.0004 / 1000 + listing * 0.005 / 1000)


async def test_a_step_has_as_many_out_as_it_says_from_the_first_request_on(cache_dir: Path) -> None:
    """Each answer waits until all are asked for: fewer at once would never have one."""
    everyone = asyncio.Event()
    asked = 0

    def reply(request: RawRequest) -> Answer:
        nonlocal asked
        if request.head.startswith(b"HEAD"):
            return answer(b"", headers=["ETag: a"])
        asked += 1
        if asked == 100:
            everyone.set()
        return [Hold(everyone), answer(b"ab")]

    async with ScriptedServer(reply) as server:
        settings = Settings(cache=CachePolicy(cache_dir=cache_dir), network=NetworkPolicy(hedge=False, deadline=10))
        sample = [ObjectStat(f"{server.url}/{number}", 2, "a") for number in range(100)]
        (step,) = (await measure(settings, sample, [100])).steps
        assert (step.concurrency, step.objects, step.failed) == (100, 100, 0)


async def test_decoding_takes_part_when_asked(bucket: Bucket, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        sample = [stat async for stat in fetcher.list(bucket.uri("photos/"))]
        settings = fetcher.settings
    (step,) = (await measure(settings, sample, [4], decode=True)).steps
    assert (step.objects, step.failed) == (18, 2)


def step(concurrency: int, rate: float, stage: str = "network", objects: int = 10) -> Step:
    none = Percentiles(0.0, 0.0, 0.0)
    verdict = Verdict(stage, f"What {stage} says.")
    return Step(concurrency, objects, int(rate * 10), 0, 10.0, 1.0, none, none, objects, verdict)


@pytest.mark.parametrize(
    ("steps", "stage", "sentence"),
    [
        ([step(4, 10), step(8, 20), step(16, 20.5)], "network", "network: concurrency 8 is enough."),
        ([step(4, 10), step(8, 20)], "network", "8 was the most tried, and more may be faster."),
        ([step(8, 10)], "network", "8 was the only one tried, and more or fewer may be faster."),
        ([step(8, 10, "none")], "network", "8 was the only one tried"),
        ([step(8, 10, "decode")], "decode", "What decode says; more at once would not help."),
        ([step(4, 10, "decode"), step(8, 9)], "decode", "What decode says; concurrency 4 is enough for that."),
        ([step(4, 10), step(8, 20, "throttled")], "throttled", "What throttled says; more at once would not help."),
        ([step(8, 20), step(16, 19, "throttled")], "throttled", "8 is enough; with 16: What throttled says."),
        ([step(8, 20), step(16, 20), step(32, 19, "cpu")], "network", "network: concurrency 8 is enough."),
        ([step(8, 0, objects=0)], "none", "Nothing could be read."),
    ],
)
def test_one_line_says_what_holds_a_bucket_back(steps: list[Step], stage: str, sentence: str) -> None:
    verdict = verdict_of(steps)
    assert verdict.stage == stage
    assert sentence in verdict.sentence


async def test_a_bucket_that_asks_for_less_is_told_as_such(cache_dir: Path, signed: None) -> None:
    with FaultServer(Generated(160, 100), faults=Faults(rate_limit=150, burst=10)) as server:
        access = Access(endpoint_url=server.endpoint_url, region="us-east-1")
        settings = Settings(access=access, cache=CachePolicy(cache_dir=cache_dir))
        sample = [ObjectStat(server.uri(f"{number:08d}"), 100) for number in range(160)]
        survey = await measure(settings, sample, [32])
    assert [step.failed for step in survey.steps] == [0]
    assert survey.verdict.stage == "throttled"
    assert "asked for fewer requests" in survey.verdict.sentence


async def test_nothing_to_measure_is_said(cache_dir: Path) -> None:
    with pytest.raises(UsageError):
        await measure(Fetcher(cache_dir=cache_dir).settings, [], [4])


def test_the_command_tells_and_draws(bucket: Bucket, tmp_path: Path) -> None:
    done = asyncfetch(
        *(
            "bench",
            bucket.uri("photos/"),
            "--objects",
            "10",
            "--steps",
            "2,4",
            "--plot",
            tmp_path / "curve.png",
            "--json",
        ),
        TMPDIR=str(tmp_path),
    )
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [step["concurrency"] for step in told["steps"]] == [2, 4]
    assert told["enough"] in (2, 4)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png"], "and nothing is left"
    shown = asyncfetch("bench", bucket.uri("photos/"), "-n", "5", "--steps", "2")
    assert b"list price" in shown.out
    assert b"network" in shown.out
    assert b"Of fewer objects" not in shown.out
    few = asyncfetch("bench", bucket.uri("photos/"), "-n", "2", "--steps", "4")
    assert b"Of fewer objects" in few.out


def test_nothing_of_the_users_cache_is_touched(bucket: Bucket, tmp_path: Path) -> None:
    """Not to list either: a bench beside a run must not wait for that run's index, nor fill its disk."""
    home, named = tmp_path / "home", tmp_path / "named"
    for arguments in ([], ["--cache-dir", named]):
        done = asyncfetch(
            "bench", bucket.uri("photos/"), "-n", "2", "--steps", "2", *arguments, ASYNCFETCH_CACHE_DIR=str(home)
        )
        assert done.code == 0, done.err
    assert not home.exists()
    assert not list(named.rglob("*"))


def test_it_reads_as_many_as_it_was_told_or_all(bucket: Bucket) -> None:
    for arguments, objects in ((["-n", "10"], 10), (["--all"], 20)):
        bucket.server.reset_counts()
        done = asyncfetch("bench", bucket.uri("photos/"), *arguments, "--steps", "2,4", "--json")
        assert done.code == 0, done.err
        told = json.loads(done.out)
        assert [step["objects"] for step in told["steps"]] == [objects, objects]
        assert bucket.bodies() == 2 * objects
        assert told["list_requests"] == 1
        assert sum(step["requests"] for step in told["steps"]) + 1 == bucket.server.requests().total()
        for step in told["steps"]:
            for latencies in (step["first_byte_seconds"], step["whole_body_seconds"]):
                assert list(latencies) == ["p50", "p95", "p99"]
                assert 0 < latencies["p50"] <= latencies["p95"] <= latencies["p99"]
            assert step["verdict"]["sentence"]


def test_a_picture_that_cannot_be_written_costs_no_measurement(bucket: Bucket, tmp_path: Path) -> None:
    done = asyncfetch("bench", bucket.uri("photos/"), "--steps", "2", "--plot", tmp_path / "none" / "curve.png")
    assert done.code != 0
    assert "none/curve.png" in done.err
    assert not bucket.server.requests(), "it is known before anything is read"


def test_what_becomes_of_the_picture_takes_nothing_from_the_figures(bucket: Bucket, tmp_path: Path) -> None:
    """Its disk may fill up meanwhile."""
    done = asyncfetch("bench", bucket.uri("photos/"), "-n", "2", "--steps", "2", "--json", "--plot", "/dev/full")
    assert done.code != 0
    assert "No space left" in done.err
    assert [step["objects"] for step in json.loads(done.out)["steps"]] == [2]


@pytest.mark.parametrize("steps", ["", "0", "four", "4;8"])
def test_steps_that_are_none_are_refused(bucket: Bucket, steps: str) -> None:
    done = asyncfetch("bench", bucket.uri("photos/"), "--steps", steps)
    assert done.code == 2
    assert "--steps" in done.err
