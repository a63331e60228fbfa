"""Small thumbnails written back to S3, each answer 20 ms late, beside a loop of boto3 and Pillow.

`python -m bench.thumbnails`: photographs of 320 x 240 pixels, thumbnails of 64, on a server of ours (`bench.late`). The
loop does fewer, one by one, as people write it, and is timed without its start and its listing; ours is timed as a
process, with both. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.ending import heed
from bench.names import ACCESS_KEY, BUCKET, REGION, SECRET_KEY
from bench.servers import late

LATE = 0.02  # seconds
TARGET = 10.0  # times the loop
SIDE, QUALITY = 64, 80

_LOOP = """
import io, os, sys, time, boto3
from PIL import Image, ImageOps
client = boto3.client("s3", endpoint_url=os.environ["ASYNCFETCH_ENDPOINT_URL"])
keys = [found["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket=sys.argv[1], Prefix="photos/")
        for found in page["Contents"]]
began = time.perf_counter()
for key in keys[: int(sys.argv[2])]:
    body = client.get_object(Bucket=sys.argv[1], Key=key)["Body"].read()
    image = Image.open(io.BytesIO(body))
    image.draft("RGB", (64, 64))
    image = ImageOps.exif_transpose(image)
    image.thumbnail((64, 64))
    made = io.BytesIO()
    image.save(made, "WEBP", quality=80)
    client.put_object(Bucket=sys.argv[1], Key=sys.argv[3] + key.rpartition("/")[2], Body=made.getvalue(),
                      ContentType="image/webp")
print(time.perf_counter() - began)
"""


def main() -> int:
    """Prints the rounds and their medians; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_500, help="the figure of the documents is of 10,000")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--directory", help="where the cache lies; else a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-thumbnails-", dir=options.directory) as name:
        top = Path(name)
        with late(options.images, LATE) as slow:
            assert slow.plain is not None
            environment = {
                **os.environ,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_DEFAULT_REGION": REGION,
                "ASYNCFETCH_ENDPOINT_URL": slow.plain,
            }
            some = max(60, options.images // 50)
            ours, theirs, cpu = [], [], []
            for number in range(options.rounds):
                to = f"s3://{BUCKET}/ours-{number}/"
                command = [sys.executable, "-m", "asyncfetch", "thumbnails", f"s3://{BUCKET}/photos/", "--to", to]
                command += ["--max-side", str(SIDE), "--quality", str(QUALITY), "-yq", "--cache-dir"]
                rate, seconds = _rate([*command, str(top / f"cache-{number}")], environment, options.images)
                ours.append(rate)
                cpu.append(seconds / options.images * 1e3)
                loop = [sys.executable, "-c", _LOOP, BUCKET, str(some), f"theirs-{number}/"]
                done = subprocess.run(loop, check=True, env=environment, capture_output=True, text=True)
                theirs.append(some / float(done.stdout))
                print(
                    f"round {number + 1}: {ours[-1]:,.0f}/s of {options.images:,}; boto3 + Pillow {theirs[-1]:,.1f}/s"
                )
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"thumbnails written back: {mine:,.0f}/s, {mine / other:.1f} times as many as the loop (wanted {TARGET:.0f}); "
        f"{statistics.median(cpu):.2f} ms of CPU each, workers and start included"
    )
    return int(mine < TARGET * other)


def _rate(command: list[str], environment: dict[str, str], images: int) -> tuple[float, float]:
    """Images a second of a command, with its start, and the seconds of CPU that it and its workers took."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return images / seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    heed()
    raise SystemExit(main())
