"""Plain data that crosses rooms: what origins tell, what streams yield, what a job reports."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from asyncfetch.presigned import redacting
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from datetime import datetime

    import numpy.typing as npt


R = TypeVar("R")


@redacting
class ObjectStat(NamedTuple):
    """What an origin says of one object without its bytes.

    `etag` is without quotes (a weak one keeps its `W/`), None where the origin has none. `version` is None on a bucket
    without versions. `last_modified` is aware, in UTC. `as_of`, in seconds since 1970, is set by a fetcher's listing:
    the origin said this then or later, which spares a cached object its own check. `checksum`, such as
    `"crc64nvme:<hex>"`, is set by the reading of a whole object where `NetworkPolicy` asks for it; one of checksums of
    parts ends with the bytes of a part, `"sha256:<hex>/8388608"`. `storage_class` is set by listings of S3, in its
    words (`"STANDARD"`). These last three are no part of what one is compared and printed by.
    """

    uri: str
    size: int
    etag: str | None = None
    version: str | None = None
    last_modified: datetime | None = None
    as_of: float | None = None
    checksum: str | None = None
    storage_class: str | None = None

    def __eq__(self, other: object) -> bool:
        return self[:_TOLD] == other[:_TOLD] if isinstance(other, ObjectStat) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:_TOLD])

    def __repr__(self) -> str:
        told = zip(self._fields, self[:_TOLD], strict=False)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told)})"


_TOLD = ObjectStat._fields.index("as_of")


@redacting
@dataclass(frozen=True, slots=True)
class NotModified:
    """An origin's answer to a conditional read: what the caller has is still the object (RFC 9110, section 15.4.5)."""

    uri: str


# What a user may name an object by, and hand in. The payload rides along untouched and comes out with the item.
Name = str | os.PathLike[str] | Location | ObjectStat
Source = Name | tuple[Name, Any]
Sources = Iterable[Source] | AsyncIterable[Source]


@redacting
class Entry(NamedTuple):
    """One object on local disk.

    `path` may be read until the stream that yielded the entry moves on, or, from `fetch`, until the fetcher closes;
    it must not be written. `digest` is `"blake3:<hex>"` (or `"sha256:<hex>"`); a `file://` object is served in place
    and has none until it is asked for: `await fetcher.digest(entry)`. `from_cache` says that no body was transferred
    for this entry. `index` is its position in the sources, 0 for a single call.
    """

    uri: str
    filename: str
    size: int
    digest: str | None
    etag: str | None
    from_cache: bool
    index: int = 0  # type: ignore[assignment]  # where a tuple's method was, which nobody misses
    payload: Any = None

    @property
    def path(self) -> Path:
        """Where the bytes are. (`filename` is the same as text; making a Path of it costs more than a look-up.)"""
        return Path(self.filename)


@redacting
class Image(NamedTuple):
    """One decoded image.

    `pixels` is a NumPy array over shared memory, (H, W, 3) uint8 RGB unless asked otherwise; it is writable, and its
    memory returns to the pool when the last view of it is gone. Copy what is kept for long. An image is equal to itself
    alone: arrays have no equality that is a yes or a no.
    """

    uri: str
    pixels: npt.NDArray[Any]
    entry: Entry
    index: int = 0  # type: ignore[assignment]  # as that of an entry
    payload: Any = None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


@redacting
@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """All bytes of one object, in memory.

    `data` may be written to, and counts against the memory budget until the last view of it is gone. Copies of it (a
    slice, `bytes(body.data)`) are the user's own.
    """

    uri: str
    data: bytearray
    entry: Entry
    index: int = 0
    payload: Any = None

    def __repr__(self) -> str:
        return f"<Body of {len(self.data):,} bytes, {self.uri}>"


@redacting
@dataclass(frozen=True, slots=True, eq=False)
class Mapped(Generic[R]):
    """What a function of the user's made of one object.

    An array of numbers lies in shared memory, and so do large arrays inside of `value`: what `Image` says of its pixels
    holds for them. All else is the user's own.
    """

    uri: str
    value: R
    entry: Entry
    index: int = 0
    payload: Any = None


@redacting
@dataclass(frozen=True, slots=True)
class Failure:
    """The place in a stream of an object that could not be had.

    `stage` is one of `"source"`, `"fetch"`, `"cache"`, `"decode"`. `exception` is what `on_error="raise"` would raise.
    """

    uri: str
    index: int
    payload: Any
    stage: str
    attempts: int
    exception: Exception


class Verdict(NamedTuple):
    """Which stage held a run back, as a word for programs and a sentence for people."""

    stage: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


class Percentiles(NamedTuple):
    """Of durations, in seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished job did.

    `objects` and `bytes` count what is now on disk, `downloaded` and `downloaded_bytes` what of it was transferred;
    `failed` counts the rest, of which `failures` holds the first thousand and `failures_by_kind` the number by
    exception name. `seconds` are of the wall clock.
    """

    objects: int
    bytes: int
    downloaded: int
    downloaded_bytes: int
    failed: int
    failures: tuple[Failure, ...]
    failures_by_kind: Mapping[str, int]
    seconds: float
    verdict: Verdict

    @property
    def hit_rate(self) -> float:
        """Share of the objects that needed no transfer, 0.0 where there were none."""
        return (self.objects - self.downloaded) / self.objects if self.objects else 0.0


class Stats(NamedTuple):
    """Counts since a fetcher was opened, and levels of now."""

    objects: int  # served, each time it was asked for
    bytes: int  # of those objects
    hits: int  # objects served without asking their origin
    revalidated: int  # served from the cache after the origin, or a listing, confirmed them
    stale: int  # served from the cache unchecked because their origin failed, as `stale_if_error` wants it
    damaged: int  # blobs of the cache that were not what their names say: set aside, and fetched anew
    downloaded: int  # bodies transferred into the cache or a private file
    downloaded_bytes: int
    shared: int  # requests that joined one already under way
    requests: int  # sent to origins: each part, repeat, second one and page of a listing, and what finds a bucket
    retries: int
    hedges: int  # second requests for objects whose answers were late
    hedges_won: int  # of those, the ones that were answered first; the others were stopped, or are still out
    hedged_bytes: int  # of objects that were asked for twice: at most so many came in vain
    failures: Mapping[str, int]  # by name of the exception
    first_byte: Percentiles  # from a request to the head of its answer, of reads that transferred a body
    whole_body: Percentiles  # from a request to the body whole and hashed
    lanes: int  # objects that may be read at once, of all buckets and hosts together
    # How many of each bucket or host, as found out so far, {"s3://bucket": 64}; and of prefixes that are throttled.
    limits: Mapping[str, int]
    rates: Mapping[
        str, float
    ]  # how often a second those are asked at most that asked for less: {"s3://bucket/a/": 95.0}
    lanes_busy: int
    waiting: int  # in line for a lane
    memory: int  # bytes of the budget in use
    memory_peak: int
    memory_budget: int
    workers: int  # decode workers running
    decoded: int
    decode_seconds: float  # work of all workers
    cache_seconds: float  # work of the cache's thread
    verdict: Verdict  # which stage held it back
