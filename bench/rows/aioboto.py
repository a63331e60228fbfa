"""What people write today: aioboto3, a digest, aiofiles, a rename, in so many tasks. And its paginator."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.keep import Kept
from bench.rows.row import Job, Row, Work, fetched, in_tasks, listed, on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_PIECE = 1 << 20  # bytes that are read at once


@asynccontextmanager
async def _open(job: Job) -> AsyncIterator[Callable[[], Awaitable[Work]]]:
    import aioboto3
    from botocore.config import Config

    config = Config(max_pool_connections=job.at_once, s3={"addressing_style": "path"})
    async with aioboto3.Session().client("s3", endpoint_url=job.endpoint, config=config) as client:
        if job.workload == "list":
            yield lambda: _list(client, job)
            return
        fetch = _fetching(client, job)
        answer = await client.get_object(Bucket=job.bucket, Key=job.warm_up_keys[0])
        await answer["Body"].read()
        yield fetch


def _fetching(client: Any, job: Job) -> Callable[[], Awaitable[Work]]:
    import aiofiles.os
    from blake3 import blake3

    kept: list[Kept] = []
    serial = count()
    keys = job.keys

    async def one(key: str) -> None:
        scratch = f"{job.directory}/{next(serial)}.tmp"
        answer = await client.get_object(Bucket=job.bucket, Key=key)
        hasher, size = blake3(), 0
        async with aiofiles.open(scratch, "wb") as file, answer["Body"]:
            # A photograph comes in one piece; of a large object there is no more than a piece in memory.
            async for piece in answer["Body"].iter_chunks(_PIECE):
                hasher.update(piece)
                size += len(piece)
                await file.write(piece)
        digest = hasher.hexdigest()
        path = f"{job.directory}/{digest}"
        await aiofiles.os.rename(scratch, path)
        kept.append(Kept(key, size, digest, path))

    async def work() -> Work:
        errors = await in_tasks(keys, job.at_once, one)
        return fetched(kept, errors)

    return work


async def _list(client: Any, job: Job) -> Work:
    found: list[tuple[str, int]] = []
    async for page in client.get_paginator("list_objects_v2").paginate(Bucket=job.bucket):
        found += [(entry["Key"], entry["Size"]) for entry in page["Contents"]]
    return listed(found)


ROW = Row(
    name="aioboto3",
    label="aioboto3 + aiofiles",
    open=on_loop(_open),
    workloads=frozenset({"photos", "small", "large", "list"}),
    packages=("aioboto3", "aiofiles", "blake3"),
)
