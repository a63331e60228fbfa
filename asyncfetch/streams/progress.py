"""How far a stream is: which places of its plan were handed out. As a value it is a checkpoint."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asyncfetch.streams.plan import Shard

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a stream has handed out: every place before `low`, and those in `above`.

    Places count from the plan's beginning through all epochs; `start` is the place of the first item of `epoch`, in
    which `low` lies. `prefix` is the digest of the sources that were read for the places of this epoch before `low`,
    where nothing but reading can tell them. `left_by` are the states of other shards whose rest this plan is over.
    """

    plan: str = ""
    shard: Shard = field(default_factory=Shard)
    epoch: int = 0
    start: int = 0
    low: int = 0
    above: frozenset[int] = frozenset()
    prefix: bytes | None = None
    left_by: tuple[Checkpoint, ...] = ()


class Progress:
    """Counts places as they are handed out.

    The latest are kept apart until others follow or somebody asks: they may be taken back.
    """

    __slots__ = ("_above", "_first_epoch", "_latest", "_prefix", "_starts", "low")

    def __init__(self, point: Checkpoint, *, first_epoch: int = 0) -> None:
        self._first_epoch = first_epoch
        self.low = point.low
        self._above: dict[int, bytes | None] = dict.fromkeys(point.above)  # with the digest of what was read for each
        self._prefix = point.prefix
        self._starts = deque([(point.epoch, point.start)])
        self._latest: list[tuple[int, bytes | None]] = []

    def hand_over(self, places: list[tuple[int, bytes | None]]) -> None:
        """Counts places as handed out in one step, each with its mark; see `passed`."""
        self.passed(self._latest)
        self._latest = places

    def step_over(self, places: list[tuple[int, bytes | None]]) -> None:
        """Counts places as handed out one by one: the last was the latest step. Interrupted, it may be called again."""
        self.passed(self._latest)
        self.passed(places[:-1])
        self._latest = places[-1:]

    def take_back(self) -> None:
        """Forgets the latest step, whose items never reached their consumer. Nothing may have asked since then."""
        self._latest = []

    def passed(self, places: Iterable[tuple[int, bytes | None]]) -> None:
        """Counts places as handed out, each with the digest of the sources read until then, if there is one."""
        for place, mark in places:
            if place != self.low:
                if place > self.low:  # else an interrupt has it counted once more
                    self._above[place] = mark
                continue
            self.low = place + 1
            self._prefix = mark
            while self.low in self._above:
                self._prefix = self._above[self.low]
                del self._above[self.low]
                self.low += 1

    def begins(self, epoch: int, start: int) -> None:
        """Hears that an epoch begins at a place."""
        self._starts.append((epoch, start))
        while len(self._starts) > 1 and self._starts[1][1] <= self.low:
            self._starts.popleft()

    def epoch_of(self, place: int) -> int:
        """The epoch of a place that was not handed out yet, counted as whoever shuffles counts them."""
        epoch, start = self._starts[-1]
        if start <= place:
            return self._first_epoch + epoch
        return self._first_epoch + next(epoch for epoch, start in reversed(self._starts) if start <= place)

    def reread(self, place: int, mark: bytes) -> None:
        """Hears the digest at a place that was handed out before the stream was resumed."""
        if place in self._above:
            self._above[place] = mark
        elif place == self.low - 1:
            self._prefix = mark

    def checkpoint(self, plan: str, shard: Shard, left_by: tuple[Checkpoint, ...]) -> Checkpoint:
        """As of now."""
        self.hand_over([])
        epoch, start = next(item for item in reversed(self._starts) if item[1] <= self.low)
        prefix = self._prefix if self.low > start else None
        return Checkpoint(plan, shard, epoch, start, self.low, frozenset(self._above), prefix, left_by)
