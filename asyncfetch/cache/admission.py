"""How much the cache may hold, decided without I/O: what is admitted, and how much must go for it.

Inside a job admission rules: what does not fit is served and not kept, because among objects that all come up again in
every epoch an eviction gains nothing (with room for half of them, reshuffled, it hits 15 % instead of 50 %). Between
jobs the least recently used gives way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of the limit, freed beyond what is needed, so that a full cache is not at its limit again with the next batch.
SLACK = 1 / 64


class Limits(NamedTuple):
    """How many bytes of blobs there may be, and how many must stay free on the disk. None is no limit."""

    max_bytes: int | None
    min_free: int | None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self.max_bytes is not None or self.min_free is not None


class Level(NamedTuple):
    """How many bytes of blobs there are, and how many are free on the disk."""

    held: int
    free: float = math.inf


def room(limits: Limits, level: Level) -> float:
    """The bytes that may still be added; below 0 by as much as there are too many."""
    most = math.inf if limits.max_bytes is None else limits.max_bytes - level.held
    return most if limits.min_free is None else min(most, level.free - limits.min_free)


def to_free(limits: Limits, level: Level, sizes: Sequence[int] = ()) -> int:
    """The bytes that should go so that bodies of these sizes can come: 0 where they fit, else with some slack.

    A body larger than the whole limit is never admitted, and nothing is removed for it.
    """
    wanted = sum(sizes)
    if limits.max_bytes is not None:
        wanted = min(limits.max_bytes, sum(size for size in sizes if size <= limits.max_bytes))
    missing = wanted - room(limits, level)
    if missing <= 0:
        return 0
    slack = 0 if limits.max_bytes is None else int(limits.max_bytes * SLACK)
    return math.ceil(missing) + slack
