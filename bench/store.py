"""What storing equal data costs the second time, and by two processes at once: `python -m bench.store [--size MIB]`.

The server is moto, which honours conditional writes and keeps versions: what was written twice would show as two. The
hash of the array alone is timed beside each round, as that is what a second store cannot do without.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import boto3
import numpy as np
import numpy.typing as npt

from asyncfetch import Fetcher
from asyncfetch.datastore import DataStore
from asyncfetch.testing import EmbeddedS3
from bench.ending import heed

SIZE = 256  # MiB of the array; the target is of 1 GB
ROUNDS = 3
ARRAYS = 200
MOST = 1.0  # seconds above the hash

CHILD = f"""
import asyncio, sys
import numpy as np
from asyncfetch.datastore import DataStore


async def main():
    async with DataStore("bucket", prefix="together/data") as store:
        print("ready", flush=True)
        sys.stdin.readline()
        arrays = [np.full(1000, number) for number in range({ARRAYS})]
        references = await asyncio.gather(*map(store.store_data, arrays))
        print(len({{reference.digest for reference in references}}), flush=True)

asyncio.run(main())
"""


class Second(NamedTuple):
    """One round: seconds of the hash alone, and of storing what is there."""

    hash: float
    store: float


async def again(array: npt.NDArray[Any], server: EmbeddedS3) -> tuple[float, list[Second], int]:
    """Seconds of the first time, those of the second, and how many objects were written in these."""
    async with Fetcher(ephemeral=True) as fetcher, DataStore("bucket", prefix="again/data", fetcher=fetcher) as store:
        began = time.perf_counter()
        await store.store_data(array)
        first = time.perf_counter() - began
        server.reset_counts()
        rounds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await asyncio.to_thread(lambda: hashlib.sha256(array.data).digest())
            hashed = time.perf_counter()
            await store.store_data(array)
            rounds.append(Second(hashed - began, time.perf_counter() - hashed))
        writes = sum(count for seen, count in server.requests().items() if seen.method in ("PUT", "POST"))
    return first, rounds, writes


def together(client: Any) -> tuple[list[str], int, int]:
    """What two processes that store the same arrays at once say, and the objects and versions that there are then."""
    processes = [
        subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    pages = client.get_paginator("list_object_versions").paginate(Bucket="bucket", Prefix="together/data/")
    versions = [found["Key"] for page in pages for found in page.get("Versions", ()) if found["Key"].endswith(".npy")]
    return said, len(set(versions)), len(versions)


def main() -> int:
    """Prints the figures; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.store")
    parser.add_argument("--size", type=int, default=SIZE, metavar="MIB", help="of the array")
    size = parser.parse_args().size
    array = np.random.default_rng(1).integers(0, 256, size << 20, np.uint8)
    with EmbeddedS3() as server, tempfile.TemporaryDirectory() as cache:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": server.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": server.credentials.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "ASYNCFETCH_ENDPOINT_URL": server.endpoint_url,
            "ASYNCFETCH_CACHE_DIR": cache,
        }
        client = boto3.client("s3", endpoint_url=server.endpoint_url)
        client.create_bucket(Bucket="bucket")
        client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        said, objects, versions = together(client)
        print(f"two processes, {ARRAYS} arrays: {objects} objects, {versions} versions; they say {' and '.join(said)}")
        first, rounds, writes = asyncio.run(again(array, server))
    above = statistics.median(one.store - one.hash for one in rounds)
    hashed = statistics.median(one.hash for one in rounds)
    print(
        f"an array of {size} MiB: {first:.1f} s the first time, then {above:+.2f} s above the {hashed:.2f} s of its "
        f"hash, with {writes} writes in {ROUNDS} rounds"
    )
    met = (said, objects, versions) == ([str(ARRAYS)] * 2, ARRAYS, ARRAYS) and not writes and above <= MOST
    return 0 if met else 1


if __name__ == "__main__":
    heed()
    raise SystemExit(main())
