"""How many URLs are presigned in a second, beside botocore: `python -m bench.presign`."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time

import boto3

from asyncfetch import Fetcher
from asyncfetch.toolbox import presign
from bench.ending import heed

ROUNDS, OURS, THEIRS = 5, 40_000, 1_000
TARGET = 20_000  # URLs/s

ASCII = "photos/2024/{:07}.jpg"
OTHER = "photos/Größe {:07}.jpg"  # to be percent-encoded


async def ours(fetcher: Fetcher, pattern: str) -> float:
    """URLs for each second of CPU."""
    names = [f"s3://bucket/{pattern.format(number)}" for number in range(OURS)]
    began, made = time.process_time(), 0
    async for _ in presign(fetcher, names):
        made += 1
    return made / (time.process_time() - began)


def theirs(pattern: str) -> float:
    """The same, by botocore."""
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:9", region_name="us-east-1")
    began = time.process_time()
    for number in range(THEIRS):
        client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": pattern.format(number)})
    return THEIRS / (time.process_time() - began)


async def main() -> int:
    """Prints medians of interleaved rounds; 1 where the target is missed."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "A" * 20, "AWS_SECRET_ACCESS_KEY": "S" * 40}
    missed = False
    async with Fetcher(ephemeral=True, endpoint_url="http://127.0.0.1:9", region="us-east-1") as fetcher:
        for name, pattern in (("plain keys", ASCII), ("other keys", OTHER)):
            rounds = [(await ours(fetcher, pattern), theirs(pattern)) for _ in range(ROUNDS)]
            mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
            missed |= mine < TARGET
            print(
                f"{name}: {mine:,.0f} URLs for a second of CPU; botocore {other:,.0f}, {mine / other:.0f} times as many"
            )
    return 1 if missed else 0


if __name__ == "__main__":
    heed()
    argparse.ArgumentParser(description=__doc__).parse_args()
    raise SystemExit(asyncio.run(main()))
