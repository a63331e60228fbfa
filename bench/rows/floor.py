"""The floors: the bare protocol, and the same with digest, write and rename inline."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.floor import Floor
from bench.keep import Keep
from bench.names import ACCESS_KEY, SECRET_KEY
from bench.rows.row import Job, Row, Work, fetched, on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def _open(job: Job, *, keeps: bool) -> AsyncIterator[Callable[[], Awaitable[Work]]]:
    floor = Floor(job.endpoint, job.bucket, job.authority, (ACCESS_KEY, SECRET_KEY), job.at_once)
    keys = job.keys
    await floor.get(job.warm_up_keys[:1])

    async def work() -> Work:
        return fetched(*await floor.get(keys, Keep(job.directory) if keeps else None))

    yield work


_WORKLOADS = frozenset({"photos", "small", "large"})
DISCARDING = Row(
    name="floor",
    label="floor: bare protocol",
    open=on_loop(partial(_open, keeps=False)),
    workloads=_WORKLOADS,
    does="discards",
    floor=True,
)
KEEPING = Row(
    name="floor-kept",
    label="floor: bare protocol, kept",
    open=on_loop(partial(_open, keeps=True)),
    workloads=_WORKLOADS,
    floor=True,
)
