"""Looking after a cache: what commands do to it beside the jobs that use it. Not loaded by `import asyncfetch`."""

from asyncfetch.cache.partials import Unfinished
from asyncfetch.cache.upkeep.catalog import BlobRow, Catalog, Group, Listed, Pin
from asyncfetch.cache.upkeep.checking import Blob, Stale, Trouble, check
from asyncfetch.cache.upkeep.copying import copy
from asyncfetch.cache.upkeep.exporting import Carried, Objects, Refused, export
from asyncfetch.cache.upkeep.importing import import_
from asyncfetch.cache.upkeep.pins import Marked, pin, pin_of, unpin
from asyncfetch.cache.upkeep.quarantine import lift
from asyncfetch.cache.upkeep.removal import Gone, Stuck, clear_old, prune, remove
from asyncfetch.cache.upkeep.selection import Place, Selection, select, uri_of
from asyncfetch.cache.upkeep.session import Upkeep, View, upkeep, view

__all__ = [
    "Blob",
    "BlobRow",
    "Carried",
    "Catalog",
    "Gone",
    "Group",
    "Listed",
    "Marked",
    "Objects",
    "Pin",
    "Place",
    "Refused",
    "Selection",
    "Stale",
    "Stuck",
    "Trouble",
    "Unfinished",
    "Upkeep",
    "View",
    "check",
    "clear_old",
    "copy",
    "export",
    "import_",
    "lift",
    "pin",
    "pin_of",
    "prune",
    "remove",
    "select",
    "unpin",
    "upkeep",
    "uri_of",
    "view",
]
