"""Plain data of the cache: how an object is named, what the index remembers of it, what the cache answers."""

from __future__ import annotations

import enum
from typing import Literal, NamedTuple


class RefKey(NamedTuple):
    """The name of an object at its origin. `endpoint` "" is AWS itself, `version` "" the latest."""

    endpoint: str
    container: str
    key: str
    version: str = ""


class Ref(NamedTuple):
    """What the index remembers of an object. Times are seconds since 1970.

    `digest` is `"blake3:<hex>"` or `"sha256:<hex>"`; `validated` is when its origin last said that this is the object.
    """

    size: int
    etag: str | None
    digest: str
    validated: float
    last_modified: float | None = None


class Known(NamedTuple):
    """What the index knows of an object and of its blob; None where it does not know the blob.

    `used` is when a job last asked for the blob, in seconds since 1970. `epoch` says when it was stored: 0 for one
    whose bytes are proven, -1 for one that was found lying there, else a row of epochs. `header` is what that of its
    image says, for who decodes it: a number, as long as the index is whole.
    """

    ref: Ref
    used: float | None
    epoch: int | None
    pinned: int | None
    header: object = None


class Found(NamedTuple):
    """A ref whose blob lay under `path` with the right size when it was looked up.

    Where there is a `doubt` its bytes must be checked before they are served: they may not have survived a loss of
    power (`"unproven"`), or the policy wants it.
    """

    ref: Ref
    path: str
    doubt: Literal["unproven", "policy"] | None = None
    header: object = None


class Elsewhere(enum.Enum):
    """The answer on an object that another process is bringing; where it is will be told later."""

    ELSEWHERE = "elsewhere"


class Published(NamedTuple):
    """Where a body lies now. `stored` is False when the same bytes were there already.

    A large body that takes the place of bytes that are doubted is stored: it lies in its file before its digest is
    known, and to rename that costs less than to read those.

    `private` is true for a file outside the cache: because that was asked for, or because the cache was full.
    """

    path: str
    digest: str
    size: int
    stored: bool
    private: bool = False


class CacheStats(NamedTuple):
    """What lies in a cache, or what was removed from one. An index knows nothing of what is unfinished."""

    objects: int  # names that the index knows
    object_bytes: int  # their sizes added up; more than blob_bytes where names share bytes
    blobs: int  # files
    blob_bytes: int  # their lengths added up
    unfinished: int = 0  # large objects of which a part came, and that nobody is bringing now
    unfinished_bytes: int = 0  # what came of them


class CacheStatistics(NamedTuple):
    """What the cache's thread has done since it was opened, and what waits for it now."""

    busy_seconds: float  # wall time not spent waiting for work
    batches: int
    look_ups: int
    hits: int
    published: int  # bodies handed in, less the failed
    stored: int  # of these, written; the others were there already
    stored_bytes: int
    private: int  # bodies kept outside the cache
    refused: int  # of these, those for which the cache had no room
    awaited: int  # objects that other processes brought
    evicted: int  # blobs, and what came of unfinished objects, removed to make room
    evicted_bytes: int
    damaged: int  # blobs that were not what their names say, and were set aside
    failed: int  # bodies that could not be written
    unremembered: int  # changes that the index could not take
    waiting: int  # commands handed in and not answered
    buffer_bytes: int  # memory of bodies in use
    idle_buffer_bytes: int  # memory of bodies kept for reuse
