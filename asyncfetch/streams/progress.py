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
    which `low` lies. `left_by` are the states of other shards whose rest this plan is over.

    Where nothing but reading can tell the sources, `prefix` is the digest of all that were read from the plan's
    beginning up to the furthest place that was handed out, and `before` of those that were read before `epoch`. It is
    then the epoch of the place before `low`: one that is over is read again to be compared.
    """

    plan: str = ""
    shard: Shard = field(default_factory=Shard)
    epoch: int = 0
    start: int = 0
    low: int = 0
    above: frozenset[int] = frozenset()
    prefix: bytes | None = None
    before: bytes = b""
    left_by: tuple[Checkpoint, ...] = ()

    @property
    def furthest(self) -> int:
        """The last place that was handed out; -1 where none was."""
        return max(self.above, default=self.low - 1)


class Progress:
    """Counts places as they are handed out.

    The latest are kept apart until others follow or somebody asks: they may be taken back.
    """

    __slots__ = ("_above", "_first_epoch", "_furthest", "_latest", "_prefix", "_starts", "low")

    def __init__(self, point: Checkpoint, *, first_epoch: int = 0) -> None:
        self._first_epoch = first_epoch
        self.low = point.low
        self._above = set(point.above)
        self._furthest = point.furthest
        self._prefix = point.prefix
        self._starts = deque([(point.epoch, point.start, point.before)])
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
            if place > self._furthest:
                self._furthest = place
                self._prefix = mark
            if place != self.low:
                if place > self.low:  # else an interrupt has it counted once more
                    self._above.add(place)
                continue
            self.low = place + 1
            while self.low in self._above:
                self._above.remove(self.low)
                self.low += 1

    def begins(self, epoch: int, start: int, before: bytes = b"") -> None:
        """Hears that an epoch begins at a place, and the digest of the sources that were read before it."""
        self._starts.append((epoch, start, before))
        while len(self._starts) > 1 and self._starts[1][1] < self.low:
            self._starts.popleft()

    def epoch_of(self, place: int) -> int:
        """The epoch of a place that was not handed out yet, counted as whoever shuffles counts them."""
        epoch, start, _ = self._starts[-1]
        if start <= place:
            return self._first_epoch + epoch
        return self._first_epoch + next(epoch for epoch, start, _ in reversed(self._starts) if start <= place)

    def checkpoint(self, plan: str, shard: Shard, left_by: tuple[Checkpoint, ...]) -> Checkpoint:
        """As of now."""
        self.hand_over([])
        place = self.low if self._prefix is None else max(self.low - 1, 0)
        epoch, start, before = next(item for item in reversed(self._starts) if item[1] <= place)
        return Checkpoint(plan, shard, epoch, start, self.low, frozenset(self._above), self._prefix, before, left_by)
