"""How long the tests soak that try one thing again and again at random: short by default, long with `--soak`."""

from __future__ import annotations

from typing import NamedTuple

import hypothesis


class Soak(NamedTuple):
    """Counts of rounds."""

    cancellations: int  # of a stream of images, at a random moment
    part_cancellations: int  # of an object that comes in parts
    kills: int  # of processes that share a cache
    jostles: int  # rounds of eight processes in a cache that is too small
    epoch_items: int  # of an epoch that is read in spite of
    epoch_kills: int  # kills
    faulty_objects: int  # of a run in which one answer in twenty is wrong
    outage: float  # seconds of it in the middle of a run
    network_cancellations: int  # of runs against a server that misbehaves, at a random moment
    kill_stride: int  # of the cache's file operations, one in so many is tried as the place of a kill
    lanes: int  # programs that kill users of a cache, each its own: they wait for the disk more than they compute


SHORT = Soak(
    cancellations=40,
    part_cancellations=60,
    kills=40,
    jostles=3,
    epoch_items=1000,
    epoch_kills=3,
    faulty_objects=2000,
    outage=2.0,
    network_cancellations=60,
    kill_stride=25,
    lanes=2,
)
LONG = Soak(
    cancellations=500,
    part_cancellations=500,
    kills=3000,
    jostles=300,
    epoch_items=20_000,
    epoch_kills=10,
    faulty_objects=20_000,
    outage=20.0,
    network_cancellations=500,
    kill_stride=1,
    lanes=4,
)
EXAMPLES = 50  # of what hypothesis draws; others in each run, as nothing fixes the seed
MANY_EXAMPLES = 1000
SECONDS = 3600  # that one test may take when it soaks long


def examples(count: int) -> int:
    """Examples of a rule that needs `count` where others need `EXAMPLES`."""
    return count * hypothesis.settings().max_examples // EXAMPLES
