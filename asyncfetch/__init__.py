"""Fetches objects from S3 through a content-addressed disk cache and a decode pool into async iterators.

async with asyncfetch.Fetcher() as fetcher:
    async for image in fetcher.images(uris):
        ...
"""

import sys
from typing import TYPE_CHECKING

if sys.platform not in ("linux", "darwin"):
    raise ImportError(
        f"asyncfetch runs on Linux and macOS, not on {sys.platform}: its cache and workers rest on POSIX."
    )

from asyncfetch.errors import AsyncfetchError
from asyncfetch.fetcher import Fetcher
from asyncfetch.objects import Entry, Failure, Image, ObjectStat, Report, Stats, Verdict
from asyncfetch.settings import Access, CachePolicy, DecodePolicy, Job, NetworkPolicy, Settings
from asyncfetch.streams import Batch, Batches, FailureLimit, Listing, Stream, Substitute
from asyncfetch.uris import Location
from asyncfetch.version import __version__

if TYPE_CHECKING:
    from types import ModuleType

    from asyncfetch import blocking as blocking

__all__ = [
    "Access",
    "AsyncfetchError",
    "Batch",
    "Batches",
    "CachePolicy",
    "DecodePolicy",
    "Entry",
    "Failure",
    "FailureLimit",
    "Fetcher",
    "Image",
    "Job",
    "Listing",
    "Location",
    "NetworkPolicy",
    "ObjectStat",
    "Report",
    "Settings",
    "Stats",
    "Stream",
    "Substitute",
    "Verdict",
    "__version__",
]


def __getattr__(name: str) -> "ModuleType":
    """Loads `asyncfetch.blocking` when it is first named."""
    if name == "blocking":
        import importlib

        return importlib.import_module("asyncfetch.blocking")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
