"""s3torchconnector's client (AWS's C runtime) in threads, with digest, write and rename."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.keep import Keep
from bench.names import REGION
from bench.rows.row import Job, Row, Work, fetched, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WHOLE, _PIECE = 1 << 20, 4 << 20  # bytes up to which a body is read as a whole, and of a larger one at once


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    from s3torchconnector import S3ClientConfig, S3MapDataset

    items = job.objects.items
    uris = [f"s3://{job.bucket}/{key}" for key in [job.warm_up_keys[0], *job.keys]]
    objects = S3MapDataset.from_objects(
        uris, region=REGION, endpoint=job.endpoint, s3client_config=S3ClientConfig(force_path_style=True)
    )
    objects[0].read()
    with threads(job.at_once) as run:

        def work() -> Work:
            keep = Keep(job.directory)

            def one(index: int) -> None:
                reader = objects[index + 1]
                if items[index].size <= _WHOLE:
                    keep.put(items[index].key, reader.read())
                    return
                with keep.begin(items[index].key) as file:
                    while piece := reader.read(_PIECE):
                        file.write(piece)

            errors = run(range(len(items)), one)
            return fetched(keep.kept, errors)

        yield work


ROW = Row(
    name="s3torchconnector",
    label="s3torchconnector in threads",
    open=_open,
    workloads=frozenset({"photos", "small", "large"}),
    packages=("s3torchconnector",),
)
