"""The engine room: single flight, byte credits, lanes to the origins, retries, and the clocks of it all."""

from asyncfetch.engine.bodies import BodyJob
from asyncfetch.engine.calls import PAGE, ListCall, PageCall, Pages
from asyncfetch.engine.engine import Engine
from asyncfetch.engine.meter import Snapshot, judge
from asyncfetch.engine.singles import decode, land, read_blob, read_part, read_range, stat
from asyncfetch.engine.tickets import Crash, Landed, Ticket

__all__ = [
    "PAGE",
    "BodyJob",
    "Crash",
    "Engine",
    "Landed",
    "ListCall",
    "PageCall",
    "Pages",
    "Snapshot",
    "Ticket",
    "decode",
    "judge",
    "land",
    "read_blob",
    "read_part",
    "read_range",
    "stat",
]
