"""The disk cache: bodies go in through sinks, lie under their digest, and are found again by who they are."""

from asyncfetch.cache.answers import resolve
from asyncfetch.cache.below import seal
from asyncfetch.cache.buffers import BufferPool, BufferStatistics
from asyncfetch.cache.digests import digest_file
from asyncfetch.cache.intake import Intake
from asyncfetch.cache.partmap import Begun, missing
from asyncfetch.cache.parts import PartedBody, PartsLost
from asyncfetch.cache.partsink import PART_MEMORY, Arrivals, PartSink
from asyncfetch.cache.policy import Freshness, checked_since, decide
from asyncfetch.cache.records import CacheStatistics, CacheStats, Elsewhere, Found, Published, Ref, RefKey
from asyncfetch.cache.sinks import BODY_MEMORY, SMALL, Body, BodySink, MemorySink
from asyncfetch.cache.store import Cache
from asyncfetch.cache.strikes import Strikes
from asyncfetch.cache.turns import Turns

__all__ = [
    "BODY_MEMORY",
    "PART_MEMORY",
    "SMALL",
    "Arrivals",
    "Begun",
    "Body",
    "BodySink",
    "BufferPool",
    "BufferStatistics",
    "Cache",
    "CacheStatistics",
    "CacheStats",
    "Elsewhere",
    "Found",
    "Freshness",
    "Intake",
    "MemorySink",
    "PartSink",
    "PartedBody",
    "PartsLost",
    "Published",
    "Ref",
    "RefKey",
    "Strikes",
    "Turns",
    "checked_since",
    "decide",
    "digest_file",
    "missing",
    "resolve",
    "seal",
]
