"""Bulk jobs: many objects, by list or prefix, into the cache or a directory. `import asyncfetch` loads none of it."""

from asyncfetch.jobs.matching import Matched, Names
from asyncfetch.jobs.rows import FORMATS, Reading, Row, read_rows
from asyncfetch.jobs.selection import Selection, selection
from asyncfetch.jobs.sources import Missing, Request, Unclear, Wanted, find

__all__ = [
    "FORMATS",
    "Matched",
    "Missing",
    "Names",
    "Reading",
    "Request",
    "Row",
    "Selection",
    "Unclear",
    "Wanted",
    "find",
    "read_rows",
    "selection",
]
