"""A cache on a disk that is really full: `sudo python -m bench.full`.

Mounts a small tmpfs, which takes root, on Linux. One job after another reads objects of its own, small and large and
some in parts, until far more has come than the disk holds; nothing limits the cache but the disk's own refusal. Each
is cut short in the middle of an object in parts, and the next begins with what came of it. Then a job reads more than
the disk holds at once, told to leave some of it free. At last the disk is mounted read-only, and the cache only read.
Every object must be served, and be what the server gave.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch import Access, CachePolicy, Fetcher
from asyncfetch.cache import seal
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from bench.ending import heed

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
DISK = 192 * MIB
JOBS = 8
SMALL, SMALL_BYTES = 300, 86_000  # of each job; all of a job have half of the disk
LARGE, LARGE_BYTES = 3, 5 * MIB
PARTED, PARTED_BYTES = 1, 32 * MIB
CUT_BYTES = 32 * MIB  # of the object that each job is cut short in
CUT_MAP = 600  # bytes of the map of that object once some twelve pieces of it have come
MIN_FREE = 96 * MIB  # room for what is under way: two objects in parts, a few large ones, and 150 small ones


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-full-") as top:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "asyncfetch-full", top], check=True)
        try:
            yield Path(top)
        finally:
            subprocess.run(["umount", top], check=True)


def content(key: str) -> bytes:
    """What the server gives: no two objects are alike."""
    kind = key.partition("/")[2].partition("-")[0]
    size = {"small": SMALL_BYTES, "large": LARGE_BYTES, "parted": PARTED_BYTES, "cut": CUT_BYTES}[kind]
    return (key.encode() * (size // len(key) + 1))[:size]


def give(request: RawRequest) -> bytes:
    key = request.target.removeprefix("/bucket/")
    whole = content(key)
    asked = request.header("range")
    if asked is None:
        return answer(whole, headers=['ETag: "e"'])
    start, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
    stop = min(last + 1, len(whole))
    said = f"Content-Range: bytes {start}-{stop - 1}/{len(whole)}"
    return answer(whole[start:stop], status="206 Partial Content", headers=['ETag: "e"', said])


def objects(job: int) -> list[str]:
    """Large ones apart from each other: what is served from private files lies beside the cache until it is read."""
    uris = [f"s3://bucket/job-{job}/small-{number:04}" for number in range(SMALL)]
    for number in range(LARGE):
        uris.insert(number * (SMALL // LARGE), f"s3://bucket/job-{job}/large-{number:04}")
    for number in range(PARTED):
        uris.insert(SMALL // 2, f"s3://bucket/job-{job}/parted-{number:04}")
    return uris


def cut_object(job: int) -> str:
    """The object that a job is cut short in."""
    return f"s3://bucket/job-{job}/cut-0000"


async def read(uris: list[str], policy: CachePolicy, access: Access) -> int:
    """One job. Returns how many objects were served as they are."""
    right = 0
    async with Fetcher(cache=policy, access=access) as fetcher:
        async for entry in fetcher.entries(uris):
            right += entry.path.read_bytes() == content(entry.uri.removeprefix("s3://bucket/"))
    return right


async def read_in_part(uri: str, directory: Path, policy: CachePolicy, access: Access) -> None:
    """A job that is cancelled once some of an object has come."""
    job = asyncio.create_task(read([uri], policy, access))
    while not job.done() and sum(path.stat().st_size for path in directory.glob("cache/v1/tmp/*/*/map")) < CUT_MAP:
        await asyncio.sleep(0.001)
    job.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await job


async def fill(directory: Path) -> dict[str, float]:
    began, served, left = time.perf_counter(), 0, 0
    plain = CachePolicy(cache_dir=directory / "cache")
    async with ScriptedServer(give) as server:
        access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
        for job in range(JOBS):
            served += await read(objects(job), plain, access)
            await read_in_part(cut_object(job), directory, plain, access)
            left += len(list(directory.glob("cache/v1/partial/*")))
            served += await read([cut_object(job)], plain, access)
        held = sum(path.stat().st_size for path in directory.glob("cache/v1/blobs/*/*/*"))
        every = [uri for job in range(JOBS) for uri in [*objects(job), cut_object(job)]]
        at_once = await read(every, CachePolicy(cache_dir=directory / "cache", min_free=MIN_FREE), access)
        seal(directory / "cache")
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        before = len(server.requests)
        sealed = CachePolicy(cache_dir=directory / "cache", read_only=True, revalidate="never")
        only_read = await read(every, sealed, access)
        fetched = len({request.target for request in server.requests[before:]})
    assert served == at_once == only_read == len(every)
    assert left == JOBS
    assert fetched < len(every)
    return {
        "disk_mb": DISK / 1e6,
        "read_mb": sum(len(content(uri.removeprefix("s3://bucket/"))) for uri in every) / 1e6,
        "objects": len(every),
        "served_by_jobs_in_turn": served,
        "cut_short_and_left": left,
        "held_after_them_mb": held / 1e6,
        "served_by_one_job": at_once,
        "served_read_only": only_read,
        "of_those_from_the_server": fetched,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Runs the bench, and prints what was served."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with small_disk() as directory:
        print(json.dumps(asyncio.run(fill(directory)), indent=1))


if __name__ == "__main__":
    heed()
    main()
