"""Fetches objects from S3 through a content-addressed disk cache and a decode pool into async iterators.

async with asyncfetch.Fetcher() as fetcher:
    async for image in fetcher.images(uris):
        ...
"""

import importlib
import sys
from typing import TYPE_CHECKING

if sys.platform not in ("linux", "darwin"):
    raise ImportError(
        f"asyncfetch runs on Linux and macOS, not on {sys.platform}: its cache and workers rest on POSIX."
    )

from asyncfetch.errors import AsyncfetchError
from asyncfetch.objects import Body, Entry, Failure, Image, Mapped, ObjectStat, Report, Stats, Verdict
from asyncfetch.settings import Access, CachePolicy, DecodePolicy, Job, NetworkPolicy, Settings
from asyncfetch.uris import Location
from asyncfetch.version import __version__

if TYPE_CHECKING:
    from asyncfetch import blocking as blocking
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.streams import Batch, Batches, FailureLimit, Listing, Stream, Substitute

__all__ = [
    "Access",
    "AsyncfetchError",
    "Batch",
    "Batches",
    "Body",
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
    "Mapped",
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

# Loaded when they are first named (PEP 562): they need asyncio, sqlite3 and all rooms, four times what the rest takes.
_LATER = {
    "Batch": "asyncfetch.streams",
    "Batches": "asyncfetch.streams",
    "FailureLimit": "asyncfetch.streams",
    "Fetcher": "asyncfetch.fetcher",
    "Listing": "asyncfetch.streams",
    "Stream": "asyncfetch.streams",
    "Substitute": "asyncfetch.streams",
}


if not TYPE_CHECKING:  # with it a type checker would believe every name

    def __getattr__(name: str) -> object:
        if name == "blocking":
            return importlib.import_module("asyncfetch.blocking")
        if name in _LATER:
            value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "blocking"})
