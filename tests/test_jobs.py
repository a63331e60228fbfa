"""One job of many processes: what one of its fetchers has checked, no other checks again."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asyncfetch import Fetcher, Job, Settings
from asyncfetch.errors import UsageError
from tests.objects import Bucket

# What a worker of a DataLoader does with the settings that it was pickled with.
WORKER = """
import asyncio, pickle, sys
from asyncfetch import Fetcher

async def main():
    settings, uris = pickle.load(sys.stdin.buffer)
    async with Fetcher(settings) as fetcher:
        report = await fetcher.prefetch(uris)
        print(report.objects, report.downloaded, fetcher.stats().revalidated, fetcher.settings.job)

asyncio.run(main())
"""


def worker(settings: Settings, uris: list[str], **environment: str) -> list[str]:
    """Objects, how many of them were transferred and how many checked, and the job, as another process tells them."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=pickle.dumps((settings, uris)),
        env={**os.environ, **environment},
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


@pytest.fixture
def uris(empty_bucket: Bucket) -> list[str]:
    return [empty_bucket.put(f"k{number}", b"%d" % number) for number in range(5)]


async def test_once_is_once_for_all_fetchers_made_of_an_open_ones_settings(
    empty_bucket: Bucket, uris: list[str], cache_dir: Path
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        await fetcher.prefetch(uris)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        empty_bucket.server.reset_counts()
        job = str(fetcher.settings.job)
        assert worker(fetcher.settings, uris) == ["5", "0", "5", job], "the first of the job checks"
        assert empty_bucket.requests() == 5
        assert worker(fetcher.settings, uris) == ["5", "0", "0", job], "the others do not"
        assert (await fetcher.prefetch(uris)).hit_rate == 1
        assert empty_bucket.requests() == 5
        stranger = worker(Fetcher(cache_dir=cache_dir).settings, uris)
        assert stranger[:3] == ["5", "0", "5"], "another job checks for itself"
        assert stranger[3] != job


async def test_the_environment_gives_a_job_to_ranks(empty_bucket: Bucket, uris: list[str], cache_dir: Path) -> None:
    settings = Fetcher(cache_dir=cache_dir).settings
    job = f"nightly-7:{time.time()!r}"
    assert worker(settings, uris, ASYNCFETCH_JOB=job) == ["5", "5", "0", job]
    empty_bucket.server.reset_counts()
    assert worker(settings, uris, ASYNCFETCH_JOB=job) == ["5", "0", "0", job]
    assert empty_bucket.requests() == 0
    later = f"nightly-8:{time.time()!r}"
    assert worker(settings, uris, ASYNCFETCH_JOB=later) == ["5", "0", "5", later]


async def test_settings_carry_the_job_while_the_fetcher_is_open(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = Fetcher(cache_dir=cache_dir)
    made = fetcher.settings
    assert made.job is None
    async with fetcher:
        first = fetcher.settings.job
        assert first is not None
        assert first.started <= time.time()
        assert pickle.loads(pickle.dumps(fetcher.settings)) == fetcher.settings
        async with Fetcher(fetcher.settings, concurrency=2) as second:
            assert second.settings.job == first
        assert second.settings.job == first, "it was given, and stays"
    assert fetcher.settings == made, "a job ends with its root"
    monkeypatch.setenv("ASYNCFETCH_JOB", "j:12.5")
    async with Fetcher(made) as fetcher:
        assert fetcher.settings.job == Job("j", 12.5)
        assert str(fetcher.settings.job) == "j:12.5"
    async with Fetcher(Settings(cache=made.cache, job=first)) as fetcher:
        assert fetcher.settings.job == first, "what is said in Python wins"


@pytest.mark.parametrize(
    "text",
    [
        "nightly",
        ":12",
        "a b:12",
        "j:",
        "j:soon",
        "j:-1",
        "j:0",
        "j:nan",
        "j:inf",
        "j:1700000000000000",
        "x" * 129 + ":1",
    ],
)
async def test_a_job_that_is_none_is_refused_by_name(
    text: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCFETCH_JOB", text)
    with pytest.raises(UsageError, match=r"ASYNCFETCH_JOB .* <id>:<seconds since 1970>"):
        async with Fetcher(cache_dir=cache_dir):
            raise AssertionError("it opened")
    assert not cache_dir.exists()


@pytest.mark.parametrize(("id", "started"), [("", 1.0), ("a/b", 1.0), ("j", "1"), ("j", True), (7, 1.0), ("j", 1.7e12)])
def test_nonsense_about_a_job_is_refused_when_it_is_said(id: str, started: float) -> None:
    with pytest.raises(UsageError, match="of a job"):
        Job(id, started)


def test_only_a_job_is_a_job() -> None:
    with pytest.raises(UsageError, match="Job"):
        Settings(job="nightly:1")  # type: ignore[arg-type]
