"""What the calls without an event loop cost beside the awaited ones: `python -m bench.blocking`.

Everything is warm and on this machine: an embedded S3 server fills the cache, and no request is sent while a clock
runs. CPU is that of the process with its threads, decode workers not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import boto3

from asyncfetch import Fetcher, blocking
from asyncfetch.testing import EmbeddedS3, photographs
from bench.ending import heed

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = "bench-blocking"


def main() -> None:
    """Runs the bench, and prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10, help="over all objects, for each way")
    options = parser.parse_args()
    with EmbeddedS3() as server, tempfile.TemporaryDirectory(prefix="bench-blocking-") as directory:
        os.environ.update(
            AWS_ACCESS_KEY_ID=server.credentials.access_key_id,
            AWS_SECRET_ACCESS_KEY=server.credentials.secret_access_key,
            AWS_DEFAULT_REGION="us-east-1",
            ASYNCFETCH_ENDPOINT_URL=server.endpoint_url,
        )
        client = boto3.client("s3", endpoint_url=server.endpoint_url)
        client.create_bucket(Bucket=BUCKET)
        keys = []
        for key, body in photographs(options.objects):
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
            keys.append(key)
        _measure(keys, directory, options.rounds)


def _measure(keys: list[str], directory: str, rounds: int) -> None:
    uris = [f"s3://{BUCKET}/{key}" for key in keys]
    settings: dict[str, Any] = {"cache_dir": directory, "revalidate": "never"}
    with blocking.Fetcher(**settings) as fetcher:
        fetcher.prefetch(uris)
        _time("entries, a list", len(uris), rounds, lambda: [entry.size for entry in fetcher.entries(uris)])
        _time("entries, a generator", len(uris), rounds, lambda: [one.size for one in fetcher.entries(iter(uris))])
        _time("fetch, one by one", len(uris), rounds, lambda: [fetcher.fetch(uri) for uri in uris])
        _time("local_path", len(uris), rounds, lambda: [blocking.local_path(uri, fetcher=fetcher) for uri in uris])
    asyncio.run(_awaited(uris, settings, rounds))
    with blocking.S3ImageLoader(directory, BUCKET, memory="4GiB") as loader:
        _time("load_image from the disk", len(keys), 1, lambda: [loader.load_image(key) for key in keys])
        _time("load_image from memory", len(keys), rounds, lambda: [loader.load_image(key) for key in keys])


async def _awaited(uris: list[str], settings: dict[str, Any], rounds: int) -> None:
    async with Fetcher(**settings) as fetcher:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            async for _entry in fetcher.entries(uris):
                pass
        _say("awaited: entries, a list", len(uris) * rounds, wall, cpu)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            for uri in uris:
                await fetcher.fetch(uri)
        _say("awaited: fetch, one by one", len(uris) * rounds, wall, cpu)


def _time(name: str, objects: int, rounds: int, work: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        work()
    _say(name, objects * rounds, wall, cpu)


def _say(name: str, objects: int, wall: float, cpu: float) -> None:
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:30} {wall / objects * 1e6:9.1f} us  CPU {cpu / objects * 1e6:9.1f} us an object", flush=True)


if __name__ == "__main__":
    heed()
    main()
