"""The decode room: images decoded in worker programs, their pixels handed over in shared memory."""

from asyncfetch.decode.budget import Budget, Grant
from asyncfetch.decode.forms import Pixels
from asyncfetch.decode.jobs import (
    Color,
    DecodeJob,
    DecodeOptions,
    Dtype,
    Fitting,
    ImageOptions,
    Layout,
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
