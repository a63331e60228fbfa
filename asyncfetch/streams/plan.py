"""The plan of a stream: in which order its sources are taken, as plain data that can be printed and compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from asyncfetch.checks import settle_count
from asyncfetch.errors import UsageError

Uneven: TypeAlias = Literal["keep", "pad", "drop"]


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Puts what comes in a random order; each later epoch in another."""

    seed: int
    epoch: int = 0
    window: int | None = None

    def __post_init__(self) -> None:
        _check(self, "seed", None)
        _check(self, "epoch", 0)
        if self.window is not None:
            _check(self, "window", 1)

    def __str__(self) -> str:
        window = "" if self.window is None else f", window={self.window}"
        return f"shuffle({self.seed}, epoch={self.epoch}{window})"


@dataclass(frozen=True, slots=True)
class Shard:
    """Keeps every `count`th of what comes, from the one at `index` on."""

    index: int = 0
    count: int = 1
    uneven: Uneven = "keep"

    def __post_init__(self) -> None:
        _check(self, "count", 1)
        _check(self, "index", 0)
        if self.index >= self.count:
            raise UsageError(
                f"There is no shard {self.index} of {self.count}", remedy=f"They are 0 to {self.count - 1}."
            )
        if self.uneven not in get_args(Uneven):
            raise UsageError(f"uneven must be 'keep', 'pad' or 'drop', not {self.uneven!r}")

    def length(self, whole: int) -> int:
        """How many of `whole` items this shard has."""
        if self.uneven == "drop":
            return whole // self.count
        return -(-(whole if self.uneven == "pad" else max(0, whole - self.index)) // self.count)

    def __str__(self) -> str:
        return f'shard({self.index}, {self.count}, uneven="{self.uneven}")'


@dataclass(frozen=True, slots=True)
class Deal:
    """Keeps every `count`th run of `n` items, from the run at `index` on; the last run may have fewer."""

    index: int
    count: int
    n: int

    def __post_init__(self) -> None:
        _check(self, "count", 1)
        _check(self, "index", 0)
        _check(self, "n", 1)
        if self.index >= self.count:
            raise UsageError(
                f"There is no hand {self.index} of {self.count}", remedy=f"They are 0 to {self.count - 1}."
            )

    def length(self, whole: int) -> int:
        """How many of `whole` items this hand has."""
        runs, rest = divmod(whole, self.n)
        return len(range(self.index, runs, self.count)) * self.n + (rest if runs % self.count == self.index else 0)

    def place(self, place: int) -> int:
        """Where among all items the one at a place of this hand is."""
        run, at = divmod(place, self.n)
        return (run * self.count + self.index) * self.n + at

    def has(self, number: int) -> bool:
        """Whether the item of this number, among all, is this hand's."""
        return number // self.n % self.count == self.index

    def __str__(self) -> str:
        return f"deal({self.index}, {self.count}, {self.n})"


@dataclass(frozen=True, slots=True)
class Take:
    """Ends after so many: of each epoch, or of all when it comes after `epochs`."""

    count: int

    def __post_init__(self) -> None:
        _check(self, "count", 0, "n")

    def __str__(self) -> str:
        return f"take({self.count})"


@dataclass(frozen=True, slots=True)
class Epochs:
    """Goes over all of it again, so many times in all, or for ever."""

    count: int | None

    def __post_init__(self) -> None:
        if self.count is not None:
            _check(self, "count", 0, "n")

    def __str__(self) -> str:
        return f"epochs({'' if self.count is None else self.count})"


Step: TypeAlias = Shuffle | Shard | Deal | Take | Epochs


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps from sources to order. Printed, it is one line a step."""

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Plan:
        """The plan with one step more. Raises `UsageError` for one that means nothing there."""
        if not isinstance(step, Take):
            name = type(step).__name__.lower()
            if any(isinstance(done, Epochs) for done in self.steps):
                raise UsageError(f"{name} comes before epochs, which repeats what came before it")
            if any(type(done) is type(step) for done in self.steps):
                remedy = "A worker of a rank takes shard(rank * workers + worker, ranks * workers)."
                raise UsageError(f"There are two of {name}", remedy=remedy if name == "shard" else "")
        return Plan((*self.steps, step))

    @property
    def each(self) -> tuple[Shuffle | Shard | Deal | Take, ...]:
        """The steps within one epoch."""
        steps: list[Shuffle | Shard | Deal | Take] = []
        for step in self.steps:
            if isinstance(step, Epochs):
                break
            steps.append(step)
        return tuple(steps)

    @property
    def epochs(self) -> int | None:
        """How often the sources are gone over; None is for ever."""
        return next((step.count for step in self.steps if isinstance(step, Epochs)), 1)

    @property
    def limit(self) -> int | None:
        """How many items there may be in all epochs together; None where nothing says so."""
        return min((step.count for step in self.steps[len(self.each) :] if isinstance(step, Take)), default=None)

    @property
    def shard(self) -> Shard:
        """The shard that is taken; all of it is shard 0 of 1."""
        return next((step for step in self.steps if isinstance(step, Shard)), Shard())

    @property
    def shuffle(self) -> Shuffle | None:
        """How it is shuffled."""
        return next((step for step in self.steps if isinstance(step, Shuffle)), None)

    @property
    def first_epoch(self) -> int:
        """The number of its first epoch, as whoever shuffles counts them."""
        return 0 if self.shuffle is None else self.shuffle.epoch

    @property
    def sharded_last(self) -> bool:
        """Whether nothing but epochs comes after the shard: then all shards together are the plan without it."""
        steps = self.steps
        at = next((at for at, step in enumerate(steps) if isinstance(step, Shard)), len(self.each))
        return all(isinstance(step, Shard | Epochs) for step in steps[at:])

    def digest(self, sources: str) -> str:
        """A name for the order of all shards together, over sources that have a digest of their own.

        Which shard is taken is no part of it, except where other steps come after and so are each shard's own.
        """
        steps = [step for step in self.steps if not (self.sharded_last and isinstance(step, Shard))]
        return hashlib.blake2b("\n".join([sources, *map(str, steps)]).encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


def _check(step: Step, name: str, least: int | None, shown: str = "") -> None:
    if not settle_count(step, name, least):
        bound = "" if least is None else f", {least} or more"
        raise UsageError(f"{shown or name} must be a whole number{bound}, not {getattr(step, name)!r}")
