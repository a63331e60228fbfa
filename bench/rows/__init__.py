"""The rows of the bench: asyncfetch, its peers and the floors, a module each. `python -m bench.rows NAME` runs one."""

from __future__ import annotations

from bench.rows import (
    aioboto,
    boto,
    dataloader,
    decoding,
    disk_cache,
    filecache,
    floor,
    litdata_raw,
    obstore_loop,
    s5cmd,
    spdl_pipeline,
    torchconnector,
    us,
)
from bench.rows.row import Job, Row

__all__ = ["ROWS", "Job", "Row"]

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        us.ROW,
        us.FILES,
        us.BODIES,
        us.REFERENCE,
        aioboto.ROW,
        boto.ROW,
        s5cmd.ROW,
        filecache.ROW,
        obstore_loop.ROW,
        torchconnector.ROW,
        litdata_raw.ROW,
        disk_cache.ROW,
        dataloader.ROW,
        spdl_pipeline.ROW,
        decoding.ROW,
        floor.DISCARDING,
        floor.KEEPING,
    )
}
