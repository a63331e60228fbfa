"""The decode room: images decoded in worker programs, their pixels handed over in shared memory."""

from asyncfetch.decode.budget import Budget, Grant
from asyncfetch.decode.encoding import Encoding
from asyncfetch.decode.forms import ImageFile, Pixels
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
    "Encoding",
    "Fitting",
    "Grant",
    "ImageFile",
    "ImageOptions",
    "Layout",
    "MemoryQuarantine",
    "Pixels",
    "Quarantine",
    "Row",
    "Slab",
]
