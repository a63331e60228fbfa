"""Bulk jobs: many objects, by list or prefix, into the cache or a directory. `import asyncfetch` loads none of it."""

from asyncfetch.jobs.chronicle import Chronicle
from asyncfetch.jobs.directory import Directory, DirectoryBusy, Way
from asyncfetch.jobs.download import TOO_MANY, Download, Event, Limit, Tally, is_its_own
from asyncfetch.jobs.layout import Layout
from asyncfetch.jobs.matching import Matched, Names
from asyncfetch.jobs.pictures import Convert, pictures
from asyncfetch.jobs.plan import Counts, Plan, Thing
from asyncfetch.jobs.record import Outcome, Record
from asyncfetch.jobs.rows import FORMATS, Reading, Row, read_rows
from asyncfetch.jobs.selection import Selection, selection
from asyncfetch.jobs.sources import Missing, Request, Unclear, Wanted, find

__all__ = [
    "FORMATS",
    "TOO_MANY",
    "Chronicle",
    "Convert",
    "Counts",
    "Directory",
    "DirectoryBusy",
    "Download",
    "Event",
    "Layout",
    "Limit",
    "Matched",
    "Missing",
    "Names",
    "Outcome",
    "Plan",
    "Reading",
    "Record",
    "Request",
    "Row",
    "Selection",
    "Tally",
    "Thing",
    "Unclear",
    "Wanted",
    "Way",
    "find",
    "is_its_own",
    "pictures",
    "read_rows",
    "selection",
]
