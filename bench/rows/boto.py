"""boto3 in threads, with digest, write and rename. And its paginator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.keep import Keep
from bench.rows.row import Job, Row, Work, fetched, listed, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 1 << 20  # bytes of a large body that are read at once


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=job.at_once, s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=job.endpoint, config=config)
    if job.workload == "list":
        yield lambda: _list(client, job)
        return
    keys = job.keys
    client.get_object(Bucket=job.bucket, Key=job.warm_up_keys[0])["Body"].read()
    with threads(job.at_once) as run:

        def work() -> Work:
            keep = Keep(job.directory)

            def one(key: str) -> None:
                answer = client.get_object(Bucket=job.bucket, Key=key)
                if answer["ContentLength"] <= _PIECE:
                    keep.put(key, answer["Body"].read())
                    return
                with keep.begin(key) as file:
                    for piece in answer["Body"].iter_chunks(_PIECE):
                        file.write(piece)

            errors = run(keys, one)
            return fetched(keep.kept, errors)

        yield work


def _list(client: Any, job: Job) -> Work:
    found: list[tuple[str, int]] = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=job.bucket):
        found += [(entry["Key"], entry["Size"]) for entry in page["Contents"]]
    return listed(found)


ROW = Row(
    name="boto3",
    label="boto3 in threads",
    open=_open,
    workloads=frozenset({"photos", "small", "large", "list"}),
    packages=("boto3",),
)
