"""The decode room: images decoded in worker programs, their pixels handed over in shared memory."""

from asyncfetch.decode.arena import slot_capacity
from asyncfetch.decode.budget import Budget, Grant
from asyncfetch.decode.counts import DecodeStatistics
from asyncfetch.decode.encoding import Encoding
from asyncfetch.decode.forms import Call, ImageFile, Pixels
from asyncfetch.decode.jobs import (
    Color,
    DecodeJob,
    DecodeOptions,
    Dtype,
    Fitting,
    ImageOptions,
    Layout,
    MapOptions,
    Settled,
    Takes,
    call_of,
)
from asyncfetch.decode.packing import Packed, UnpackError
from asyncfetch.decode.pool import DecodePool
from asyncfetch.decode.quarantine import MOST_STRIKES, Quarantine
from asyncfetch.decode.rows import Row, Slab
from asyncfetch.decode.waiting import WaitingJobs

__all__ = [
    "MOST_STRIKES",
    "Budget",
    "Call",
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
    "MapOptions",
    "Packed",
    "Pixels",
    "Quarantine",
    "Row",
    "Settled",
    "Slab",
    "Takes",
    "UnpackError",
    "WaitingJobs",
    "call_of",
    "slot_capacity",
]
