"""Plans at work: the order in which sources are read, by index where they have one, else as they come.

A place is an item's number in its plan, through all epochs; an index is its source's number among the sources.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeGuard

from asyncfetch.errors import PlanMismatch, UsageError
from asyncfetch.streams.permutation import Permutation
from asyncfetch.streams.plan import Deal, Epochs, Shard, Shuffle, Take
from asyncfetch.streams.rest import Rest
from asyncfetch.streams.sources import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.objects import Sources
    from asyncfetch.streams.plan import Plan, Step
    from asyncfetch.streams.progress import Checkpoint, Progress

# Place, index, source, and the digest of all sources that were read until then (None where the sources have an index).
Placed: TypeAlias = "tuple[int, int, Any, bytes | None]"


class AsyncReading(NamedTuple):
    """Sources that only a task can read, and what their order is made with."""

    sources: AsyncIterable[Any]
    sift: Sift


_TOO_SHORT = "The sources end before the place that the state has reached"

# An iterator gives None where it has read a source and has nothing to give yet.
Reading: TypeAlias = "Iterator[Placed | None] | AsyncReading"


def read(plan: Plan, sources: Sources, point: Checkpoint, progress: Progress) -> Reading:
    """Reads sources in the order of a plan, from a checkpoint on."""
    if has_index(sources):
        return (_left_over if point.left_by else _by_index)(plan, sources, point, progress)
    sift = Sift(plan, point, progress)
    if isinstance(sources, AsyncIterable):
        return AsyncReading(sources, sift)
    return _as_they_come(sources, sift)


def has_index(sources: Sources) -> TypeGuard[Sequence[Any]]:
    """Whether sources can be read by number. (A mapping, or a column of a table that has labels, has `keys`.)"""
    return hasattr(sources, "__getitem__") and hasattr(sources, "__len__") and not hasattr(sources, "keys")


def check_sources(sources: Sources) -> None:
    """Raises `UsageError` for what cannot be sources."""
    if isinstance(sources, str | bytes):
        raise UsageError("Sources are an iterable of URIs, not one text", remedy="Write [uri].")
    if isinstance(sources, tuple) and hasattr(sources, "_fields"):  # an object's stat, an entry: iterable all the same
        raise UsageError(f"Sources are an iterable of names, not one {type(sources).__name__}", remedy="Write [it].")
    if not isinstance(sources, Iterable | AsyncIterable):
        raise UsageError(f"Sources are an iterable or an async iterable of URIs, not {type(sources).__name__}")


def check_step(step: Step, sources: Sources) -> None:
    """Raises `UsageError` for a step that these sources cannot take."""
    if isinstance(step, Shuffle) and has_index(sources) != (step.window is None):
        if step.window is None:
            remedy = "Say window=, or pass a list."
            raise UsageError(f"A {type(sources).__name__} has no index and cannot be shuffled whole", remedy=remedy)
        raise UsageError(f"A {type(sources).__name__} is shuffled whole", remedy="Leave window= out.")
    if isinstance(step, Epochs) and step.count != 1 and isinstance(sources, Iterator | AsyncIterator):
        remedy = "Pass a list, or an object whose __iter__ begins anew."
        raise UsageError(f"A {type(sources).__name__} can be read once, not in epochs", remedy=remedy)


def describe(sources: Sources) -> str:
    """Sources in a word."""
    kind = type(sources).__name__
    return f"{kind} of {len(sources):,}" if has_index(sources) else kind


def digest_of(sources: Sources) -> str:
    """A name for the sources, as far as it can be known without reading them up.

    Of those with an index every one is read, some 0.2 s for a million. Payloads are no part of it.
    """
    if not has_index(sources):
        return "as they come"
    digest = hashlib.blake2b(str(len(sources)).encode(), digest_size=16)
    for start in range(0, len(sources), 4096):
        names = [identity(sources[index]) for index in range(start, min(start + 4096, len(sources)))]
        digest.update("\n".join(["", *names]).encode(errors="surrogatepass"))
    return digest.hexdigest()


class Arrangement(NamedTuple):
    """One epoch over sources with an index: its length, and the index at each place of it (None: the same number)."""

    length: int
    at: Callable[[int], int] | None


def arrange(steps: Sequence[Shuffle | Shard | Deal | Take], length: int, epoch: int) -> Arrangement:
    """Works out an epoch from the steps within it."""
    at: Callable[[int], int] | None = None
    for step in steps:
        if isinstance(step, Shuffle):
            at = _after(at, Permutation(length, step.seed, step.epoch + epoch))
        elif isinstance(step, Shard):
            at = _after(at, _spread(step, length))
            length = step.length(length)
        elif isinstance(step, Deal):
            at = _after(at, step.place)
            length = step.length(length)
        else:
            length = min(length, step.count)
    return Arrangement(length, at)


def _after(at: Callable[[int], int] | None, then: Callable[[int], int]) -> Callable[[int], int]:
    return then if at is None else lambda place: at(then(place))


def _spread(shard: Shard, length: int) -> Callable[[int], int]:
    index, count = shard.index, shard.count
    return lambda place: (place * count + index) % length  # padding begins again at the front


def epochs_from(plan: Plan, epoch: int) -> Iterable[int]:
    """The numbers of a plan's epochs from one on."""
    return itertools.count(epoch) if plan.epochs is None else range(epoch, plan.epochs)


def _by_index(plan: Plan, sources: Sequence[Any], point: Checkpoint, progress: Progress) -> Iterator[Placed]:
    start, low, above = point.start, point.low, point.above
    limit = plan.limit
    for epoch in epochs_from(plan, point.epoch):
        length, at = arrange(plan.each, len(sources), epoch)
        stop = start + length if limit is None else min(start + length, limit)
        if stop <= start:
            return
        progress.begins(epoch, start)
        for place in range(max(start, low), stop):
            if place not in above:
                index = place - start if at is None else at(place - start)
                yield place, index, sources[index], None
        start += length


def _left_over(plan: Plan, sources: Sequence[Any], point: Checkpoint, progress: Progress) -> Iterator[Placed]:
    """The share of one shard in what other shards left."""
    before = [step for step in plan.each if not isinstance(step, Shard)]
    shard, start = plan.shard, point.start
    rest = Rest(arrange(before, len(sources), 0).length, point.left_by)
    for epoch in epochs_from(plan, point.epoch):
        at = arrange(before, len(sources), epoch).at
        length = shard.length(rest.count(epoch))
        if not length and epoch > rest.last_epoch:
            return
        progress.begins(epoch, start)
        shares = itertools.islice(rest.places(epoch), shard.index, None, shard.count)
        for place, number in zip(range(start, start + length), shares, strict=False):
            if place >= point.low and place not in point.above:
                index = number if at is None else at(number)
                yield place, index, sources[index], None
        start += length


def _as_they_come(sources: Iterable[Any], sift: Sift) -> Iterator[Placed | None]:
    while sift.begin():
        iterator = iter(sources)
        while not sift.full:
            try:
                source = next(iterator)
            except StopIteration:
                break
            yield from sift.push(source) or (None,)
        yield from sift.end()


class Sift:
    """Makes the order of sources that have no index, one epoch after the other: each is pushed, some come out.

    From a checkpoint on, what was handed out is read and passed over, and what it had overtaken is held back until all
    of that is known to be what was read before; else `PlanMismatch` is raised.
    """

    def __init__(self, plan: Plan, point: Checkpoint, progress: Progress) -> None:
        self._plan = plan
        self._point = point
        self._progress = progress
        self._epochs = iter(epochs_from(plan, point.epoch))
        self._limit = plan.limit
        self._place = point.start
        self._index = 0
        self._read = point.before  # the digest of all that was read, in the epochs before too
        self._furthest = point.furthest
        self._held: list[Placed] = []
        self._fruitful = True
        self._stages: list[_Stage] = []

    def begin(self) -> bool:
        """Begins the next epoch, if there is one."""
        epoch = next(self._epochs, None)
        if epoch is None or not self._fruitful or self._over:
            if self._place <= self._furthest:
                raise PlanMismatch(_TOO_SHORT)
            return False
        self._fruitful = False  # endless epochs over nothing must end
        self._index = 0
        self._stages = [_stage(step, epoch) for step in self._plan.each]
        self._progress.begins(epoch, self._place, self._read)
        return True

    def push(self, source: Any) -> Sequence[Placed]:
        """Takes the next source, and gives what comes next in the plan, as far as that is known now."""
        name = identity(source).encode(errors="surrogatepass")
        self._read = hashlib.blake2b(self._read + name, digest_size=8).digest()
        item = (self._index, source)
        self._index += 1
        for stage in self._stages:
            found = stage.push(item)
            if found is None:
                return ()
            item = found
        return self._put(item)

    @property
    def full(self) -> bool:
        """Whether nothing of this epoch can come any more but what `end` gives."""
        return self._over or any(stage.full for stage in self._stages)

    def end(self) -> Iterator[Placed]:
        """Gives what the epoch still holds when all its sources have been read."""
        for at, stage in enumerate(self._stages):
            for ended in stage.end():
                item: _Item | None = ended
                for later in self._stages[at + 1 :]:
                    if item is not None:
                        item = later.push(item)
                if item is not None:
                    yield from self._put(item)
        if self._place < self._point.low:
            raise PlanMismatch(_TOO_SHORT)

    @property
    def _over(self) -> bool:
        return self._limit is not None and self._place >= self._limit

    def _put(self, item: _Item) -> Sequence[Placed]:
        if self._over:
            return ()
        place, point = self._place, self._point
        self._place += 1
        self._fruitful = True
        if place > self._furthest:
            return ((place, *item, self._read),)
        if place == self._furthest:
            if point.prefix != self._read:
                raise PlanMismatch("The sources are not those that were read when the state was taken")
            held, self._held = self._held, []
            return held
        if place >= point.low and place not in point.above:
            self._held.append((place, *item, self._read))
        return ()


_Item: TypeAlias = tuple[int, Any]  # index, source


class _Stage(Protocol):
    """A step, taking items one by one."""

    @property
    def full(self) -> bool: ...

    def push(self, item: _Item) -> _Item | None: ...

    def end(self) -> Iterable[_Item]: ...


def _stage(step: Shuffle | Shard | Deal | Take, epoch: int) -> _Stage:
    if isinstance(step, Shuffle):
        return _Window(step, epoch)
    if isinstance(step, Deal):
        return _Hand(step)
    return _Share(step) if isinstance(step, Shard) else _Limit(step)


class _Window:
    """Keeps so many items, and gives a random one of them for each that comes."""

    full = False

    def __init__(self, shuffle: Shuffle, epoch: int) -> None:
        assert shuffle.window is not None
        self._size = shuffle.window
        # Python promises that `random` of a seed stays the same from version to version; other methods may change.
        self._random = random.Random(f"{shuffle.seed} {shuffle.epoch + epoch}").random  # noqa: S311 - no secret
        self._items: list[_Item] = []

    def push(self, item: _Item) -> _Item | None:
        if len(self._items) < self._size:
            self._items.append(item)
            return None
        at = int(self._random() * self._size)
        self._items[at], item = item, self._items[at]
        return item

    def end(self) -> Iterable[_Item]:
        items, self._items = self._items, []
        while items:
            at = int(self._random() * len(items))
            items[at], items[-1] = items[-1], items[at]
            yield items.pop()


class _Share:
    """Gives every count-th item; what a whole round is needed for waits until the round is whole."""

    full = False

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._count = 0
        self._first: list[_Item] = []  # the first round: padding begins again at the front
        self._mine: _Item | None = None

    def push(self, item: _Item) -> _Item | None:
        shard = self._shard
        turn = self._count % shard.count
        self._count += 1
        if shard.uneven == "pad" and len(self._first) < shard.count:
            self._first.append(item)
        if turn == shard.index:
            self._mine = item
        if turn == (shard.count - 1 if shard.uneven == "drop" else shard.index):
            return self._mine
        return None

    def end(self) -> Iterable[_Item]:
        over = self._count % self._shard.count
        if self._shard.uneven == "pad" and 0 < over <= self._shard.index:
            return [self._first[(self._shard.index - over) % len(self._first)]]
        return []


class _Hand:
    """Gives the runs of items that are dealt to it."""

    full = False

    def __init__(self, deal: Deal) -> None:
        self._deal = deal
        self._count = 0

    def push(self, item: _Item) -> _Item | None:
        self._count += 1
        return item if self._deal.has(self._count - 1) else None

    def end(self) -> Iterable[_Item]:
        return []


class _Limit:
    """Ends after so many."""

    def __init__(self, take: Take) -> None:
        self._left = take.count

    @property
    def full(self) -> bool:
        return self._left <= 0

    def push(self, item: _Item) -> _Item | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return item

    def end(self) -> Iterable[_Item]:
        return []
