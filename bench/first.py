"""How long a training program waits for its first batch: `python -m bench.first [--rounds 5] [--alone]`.

A process each, from its start to a batch of 64 photographs at 224x224 in its hands: the interpreter starts, packages
are imported, a cache is begun in an empty directory, workers start, objects come from an S3 on this machine. Beside it,
unless `--alone` is said, a DataLoader with as many workers that reads the same by boto3. What is printed, as JSON, are
medians with the least and the most, in seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import data, machine, servers
from bench.ending import heed
from bench.names import BUCKET
from bench.rows.training import BATCH, SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

_US = """
import asyncio, json, sys, time
from asyncfetch import Access, DecodePolicy, Fetcher

endpoint, directory, width, height, batch, workers, *uris = sys.argv[1:]

async def main():
    access = Access(endpoint_url=endpoint, anonymous=True, region="us-east-1")
    async with Fetcher(cache_dir=directory, access=access, workers=int(workers)) as fetcher:
        images = fetcher.images(uris, size=(int(width), int(height)), fit="exact")
        async for found in images.batch(int(batch)):
            print(found.pixels.shape, flush=True)
            break

asyncio.run(main())
"""
_DATALOADER = """
import sys
import boto3, botocore, cv2, numpy as np
from botocore.config import Config
from torch.utils.data import DataLoader

endpoint, directory, width, height, batch, workers, *uris = sys.argv[1:]

class Photographs:
    client = None

    def __len__(self):
        return len(uris)

    def __getitem__(self, index):
        if self.client is None:
            config = Config(signature_version=botocore.UNSIGNED, s3={"addressing_style": "path"})
            self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
        bucket, _, key = uris[index].removeprefix("s3://").partition("/")
        body = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
        return cv2.cvtColor(cv2.resize(image, (int(width), int(height))), cv2.COLOR_BGR2RGB)

for found in DataLoader(Photographs(), batch_size=int(batch), num_workers=int(workers)):
    print(tuple(found.shape), flush=True)
    break
"""
_PROGRAMS = {"asyncfetch": _US, "DataLoader and boto3": _DATALOADER}


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts the programs in turn, and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="Where the objects are made, once, and kept.")
    parser.add_argument("--batches", type=int, default=8, help="That there are to be had.")
    parser.add_argument("--alone", action="store_true", help="Measure no other program.")
    options = parser.parse_args(arguments)
    programs = dict(list(_PROGRAMS.items())[:1]) if options.alone else _PROGRAMS
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        objects = data.make(options.work or scratch / "work", "photos", options.batches * BATCH)
        uris = [f"s3://{BUCKET}/{item.key}" for item in objects.items]
        certificate = servers.certificate(scratch)
        with servers.serve(servers.available()[0], objects.root, scratch, certificate) as server:
            for number in range(options.rounds):
                for name, program in programs.items():
                    directory = scratch / f"cache-{number}"
                    told = [server.plain or "", str(directory), *map(str, (*SIZE, BATCH, machine.cores())), *uris]
                    seconds[name].append(_first(program, told))
                    shutil.rmtree(directory, ignore_errors=True)
    figures = {name: [statistics.median(all), min(all), max(all)] for name, all in seconds.items()}
    json.dump({name: [round(value, 2) for value in found] for name, found in figures.items()}, sys.stdout)
    print()
    return 0


def _first(program: str, arguments: list[str]) -> float:
    """Seconds from the start of a program to the line that it prints."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not line.startswith(f"({BATCH}, {SIZE[1]}, {SIZE[0]}, 3)".encode()):
        raise SystemExit(f"a program ended with {process.returncode} and gave {line!r}")
    return seconds


if __name__ == "__main__":
    heed()
    sys.exit(main())
