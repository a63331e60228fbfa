"""How long a training program waits for its first batch: its process starts on the clock.

The interpreter starts, packages are imported, a cache is begun in an empty directory, workers start, objects come.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bench import data
from bench.names import REGION
from bench.rows.row import Job, Work, decoded
from bench.rows.training import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# Each prints a line once it has its batch, and then one that shows the batch: the middle line of each image.
US = """
import asyncio, json, sys
from asyncfetch import Fetcher

endpoint, region, directory, width, height, batch, workers, *uris = sys.argv[1:]

async def main():
    options = {"cache_dir": directory, "endpoint_url": endpoint, "region": region, "workers": int(workers)}
    async with Fetcher(**options) as fetcher:
        images = fetcher.images(uris, size=(int(width), int(height)), fit="exact")
        async for found in images.batch(int(batch)):
            print(*found.pixels.shape, flush=True)
            print(json.dumps([image[len(image) // 2].tobytes().hex() for image in found.pixels]))
            break

asyncio.run(main())
"""
DATALOADER = """
import json, sys
import boto3, cv2, numpy as np
from botocore.config import Config
from torch.utils.data import DataLoader

endpoint, region, directory, width, height, batch, workers, *uris = sys.argv[1:]

class Photographs:
    client = None

    def __len__(self):
        return len(uris)

    def __getitem__(self, index):
        if self.client is None:
            config = Config(s3={"addressing_style": "path"})
            self.client = boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        bucket, _, key = uris[index].removeprefix("s3://").partition("/")
        body = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
        return cv2.cvtColor(cv2.resize(image, (int(width), int(height))), cv2.COLOR_BGR2RGB)

for found in DataLoader(Photographs(), batch_size=int(batch), num_workers=int(workers)):
    print(*found.shape, flush=True)
    print(json.dumps([image[len(image) // 2].numpy().tobytes().hex() for image in found]))
    break
"""


def beginning(program: str) -> Callable[[Job], AbstractContextManager[Callable[[], Work]]]:
    """Opens a row that starts a program; its work is done when that has a batch of all objects that count."""

    @contextmanager
    def opened(job: Job) -> Iterator[Callable[[], Work]]:
        epoch = data.load(job.objects.root, job.kind, job.made).items
        uris = [f"s3://{job.bucket}/{item.key}" for item in epoch]
        told = [job.endpoint, REGION, f"{job.directory}/cache", *map(str, (*SIZE, job.count, job.workers)), *uris]

        def work() -> Work:
            started = subprocess.Popen([sys.executable, "-c", program, *told], stdout=subprocess.PIPE, text=True)
            process = stack.enter_context(started)
            assert process.stdout is not None
            shape, rest = process.stdout.readline().split(), process.stdout
            if shape != [str(number) for number in (job.count, *SIZE[::-1], 3)]:
                raise RuntimeError(f"a program ended with {process.wait()} and gave {shape!r}")

            def prove() -> Iterator[tuple[str, str]]:
                lines = [bytes.fromhex(line) for line in json.loads(rest.readline())]
                if process.wait():
                    raise RuntimeError(f"a program ended with {process.returncode}")
                yield from decoded(dict(zip(job.keys, lines, strict=True)), 0, []).prove()

            return Work(job.count, job.count * SIZE[0] * SIZE[1] * 3, [], prove)

        with ExitStack() as stack:
            yield work

    return opened
