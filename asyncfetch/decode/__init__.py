"""The decode room: images decoded in worker programs, their pixels handed over in shared memory."""

from asyncfetch.decode.jobs import (
    Budget,
    Color,
    DecodeJob,
    DecodeOptions,
    Dtype,
    Fitting,
    Grant,
    ImageOptions,
    Layout,
    Pixels,
)
from asyncfetch.decode.pool import DecodePool, DecodeStatistics
from asyncfetch.decode.quarantine import MemoryQuarantine, Quarantine
from asyncfetch.decode.rows import Row, Slab

__all__ = [
    "Budget",
    "Color",
    "DecodeJob",
    "DecodeOptions",
    "DecodePool",
    "DecodeStatistics",
    "Dtype",
    "Fitting",
    "Grant",
    "ImageOptions",
    "Layout",
    "MemoryQuarantine",
    "Pixels",
    "Quarantine",
    "Row",
    "Slab",
]
