"""The engine room: single flight, byte credits, lanes to the origins, retries, and the clocks of it all."""

from asyncfetch.engine.calls import ListCall, Pages, RangeCall, StatCall
from asyncfetch.engine.engine import Engine
from asyncfetch.engine.flights import Crash, Landed, Ticket
from asyncfetch.engine.meter import Snapshot, judge
from asyncfetch.engine.singles import decode, land, read_blob

__all__ = [
    "Crash",
    "Engine",
    "Landed",
    "ListCall",
    "Pages",
    "RangeCall",
    "Snapshot",
    "StatCall",
    "Ticket",
    "decode",
    "judge",
    "land",
    "read_blob",
]
