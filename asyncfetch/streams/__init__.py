"""Streams: sources in, items out, in the order of the plan or of completion."""

from asyncfetch.streams.batch import Batch, Batches, take_back
from asyncfetch.streams.bodies import BodyRun
from asyncfetch.streams.branches import Branches
from asyncfetch.streams.entries import EntryRun
from asyncfetch.streams.images import ImageRun
from asyncfetch.streams.listing import Listing, PagesAhead
from asyncfetch.streams.opening import open_stream
from asyncfetch.streams.options import ImageKeywords, Order, StreamKeywords
from asyncfetch.streams.order import check_step, describe, has_index
from asyncfetch.streams.outcomes import FailureLimit, OnError, Substitute
from asyncfetch.streams.plan import Epochs, Shard, Shuffle, Uneven
from asyncfetch.streams.run import Run
from asyncfetch.streams.sources import read_name, split
from asyncfetch.streams.stream import Stream

__all__ = [
    "Batch",
    "Batches",
    "BodyRun",
    "Branches",
    "EntryRun",
    "Epochs",
    "FailureLimit",
    "ImageKeywords",
    "ImageRun",
    "Listing",
    "OnError",
    "Order",
    "PagesAhead",
    "Run",
    "Shard",
    "Shuffle",
    "Stream",
    "StreamKeywords",
    "Substitute",
    "Uneven",
    "check_step",
    "describe",
    "has_index",
    "open_stream",
    "read_name",
    "split",
    "take_back",
]
