"""Looking after a cache: what commands do to it beside the jobs that use it. Not loaded by `import asyncfetch`."""

from asyncfetch.cache.upkeep.catalog import BlobRow, Catalog, Group, Listed, Pin
from asyncfetch.cache.upkeep.checking import Blob, Stale, Trouble, check
from asyncfetch.cache.upkeep.pins import Marked, pin, pin_of, unpin
from asyncfetch.cache.upkeep.selection import Place, Selection, select, uri_of
from asyncfetch.cache.upkeep.session import Upkeep, upkeep

__all__ = [
    "Blob",
    "BlobRow",
    "Catalog",
    "Group",
    "Listed",
    "Marked",
    "Pin",
    "Place",
    "Selection",
    "Stale",
    "Trouble",
    "Upkeep",
    "check",
    "pin",
    "pin_of",
    "select",
    "unpin",
    "upkeep",
    "uri_of",
]
