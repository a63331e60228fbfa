"""diskcache: the same bodies as values, read from its files."""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.rows.row import Job, Row, Work, ends, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    import diskcache

    objects = job.objects
    keys = job.keys
    with diskcache.Cache(f"{job.directory}/diskcache") as cache:  # values of 32 KiB and more are files
        for item in objects.items:
            cache[item.key] = objects.path(item).read_bytes()

        def work() -> Work:
            tokens, size = dict[str, bytes](), 0
            for key in keys:
                body = cache[key]
                tokens[key] = ends(body)
                size += len(body)
            return read(tokens, size, [])

        yield work


ROW = Row(
    name="diskcache",
    label="diskcache",
    open=_open,
    workloads=frozenset({"warm-bytes"}),
    packages=("diskcache",),
)
