"""What a pool says of itself."""

from __future__ import annotations

from typing import NamedTuple


class DecodeStatistics(NamedTuple):
    """What a pool has done and what it holds."""

    workers: int  # processes, with those that are starting
    busy: int  # of them, those that have jobs
    waiting: int  # jobs not yet sent to a worker
    decoded: int  # jobs that ended in pixels
    failed: int  # jobs that ended in an exception
    asked: int  # times that an image needed more memory than it was granted, and was sent once more
    died: int  # workers that ended unasked; each is replaced when there is work for it
    busy_seconds: float  # spent on images, reading included, measured in the workers and summed over them
    slots: int  # pieces of shared memory: free, at work and lent to users
    slot_bytes: int  # their capacity
    free_slot_bytes: int  # of that, the capacity kept for reuse
    scratch_bytes: (
        int  # what workers may hold beside the slots: files, decoders' copies, memory kept for the next image
    )
