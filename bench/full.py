"""A cache on a disk that is really full: `sudo python -m bench.full`.

Mounts a small tmpfs, which takes root, on Linux. One job after another reads objects of its own, small and large, until
far more has come than the disk holds; nothing limits the cache but the disk's own refusal. Then a job reads more than
the disk holds at once, told to leave some of it free. Every object must be served, and be what the server gave.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch import Access, CachePolicy, Fetcher
from asyncfetch.testing import RawRequest, ScriptedServer, answer

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
DISK = 96 * MIB
JOBS = 8
SMALL, SMALL_BYTES = 300, 86_000  # of each job; with the large ones two fifths of the disk
LARGE, LARGE_BYTES = 3, 5 * MIB
MIN_FREE = 32 * MIB  # room for what is under way: a few large bodies, and 150 small ones


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
    size = LARGE_BYTES if "large" in key else SMALL_BYTES
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
    return uris


async def read(uris: list[str], policy: CachePolicy, access: Access) -> int:
    """One job. Returns how many objects were served as they are."""
    right = 0
    async with Fetcher(cache=policy, access=access) as fetcher:
        async for entry in fetcher.entries(uris):
            right += entry.path.read_bytes() == content(entry.uri.removeprefix("s3://bucket/"))
    return right


async def fill(directory: Path) -> dict[str, float]:
    began, served = time.perf_counter(), 0
    async with ScriptedServer(give) as server:
        access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
        for job in range(JOBS):
            served += await read(objects(job), CachePolicy(cache_dir=directory / "cache"), access)
        held = sum(path.stat().st_size for path in directory.glob("cache/v1/blobs/*/*/*"))
        every = [uri for job in range(JOBS) for uri in objects(job)]
        policy = CachePolicy(cache_dir=directory / "cache", min_free=MIN_FREE)
        at_once = await read(every, policy, access)
    assert served == at_once == len(every)
    return {
        "disk_mb": DISK / 1e6,
        "read_mb": JOBS * (SMALL * SMALL_BYTES + LARGE * LARGE_BYTES) / 1e6,
        "objects": len(every),
        "served_by_jobs_in_turn": served,
        "held_after_them_mb": held / 1e6,
        "served_by_one_job": at_once,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Runs the bench, and prints what was served."""
    with small_disk() as directory:
        print(json.dumps(asyncio.run(fill(directory)), indent=1))


if __name__ == "__main__":
    main()
