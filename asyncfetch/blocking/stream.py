"""Streams for programs without an event loop: planned, taken one by one or in batches, gone on with."""

from __future__ import annotations

from contextlib import suppress
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from asyncfetch.blocking.iterating import UndeliveredError, items
from asyncfetch.streams import Epochs, Shuffle, check_step, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import asyncfetch.streams
    from asyncfetch.blocking.bridge import Bridge
    from asyncfetch.blocking.supply import Supply
    from asyncfetch.decode import Pixels
    from asyncfetch.objects import Body, Entry, Image, Mapped, Report, Source
    from asyncfetch.streams import Uneven

T = TypeVar("T")
R = TypeVar("R")
Q = TypeVar("Q")


class Steps(Generic[T]):
    """An iterator each of whose items is a step on the loop. Left early, it frees what it holds when it is closed,
    which `with` does, or dropped.

    An interrupt, as whatever else comes to the thread that waits, ends it; `state` then tells what was handed out. It
    belongs to one thread at a time, and to the process that made it.
    """

    def __init__(self, owner: object, bridge: Bridge, stream: Any, supply: Supply | None) -> None:
        self._owner = owner
        self._bridge = bridge
        self._stream = stream
        self._supply = supply
        self._items = items(owner, bridge, stream, supply)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """The next item. Raises what a step of the asynchronous stream raises."""
        try:
            item: T = next(self._items)
            return item
        except BaseException:
            if getgeneratorstate(self._items) == GEN_SUSPENDED:  # it came from outside, when the item was on its way
                with suppress(StopIteration):
                    self._items.throw(UndeliveredError())
            raise

    def state(self) -> dict[str, Any]:
        """Where it is, to go on from by `resume`. See `asyncfetch.Stream.state`."""

        async def ask() -> dict[str, Any]:
            found: dict[str, Any] = self._stream.state()
            return found

        return self._bridge.run(ask)

    def report(self) -> Report:
        """What has been taken so far: counts, bytes, failures, and which stage held it back."""

        async def ask() -> Report:
            found: Report = self._stream.report()
            return found

        return self._bridge.run(ask)

    def close(self) -> None:
        """Ends it. Nothing of it is left when this returns; closing twice does nothing."""
        self._items.close()
        self._bridge.end(self._stream.aclose)

    def __enter__(self) -> Self:
        """Begins to prefetch now, which the first item does otherwise."""
        self._bridge.run(self._stream.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Batches(Steps["asyncfetch.streams.Batch[T]"]):
    """An iterator over batches, made by a stream, which it takes over. `state` counts whole batches."""

    def __repr__(self) -> str:
        return repr(self._stream)


class Stream(Steps[T]):
    """An iterator over items, made by a fetcher: `asyncfetch.Stream` for programs without an event loop.

    `map`, `shuffle`, `shard`, `deal`, `take`, `epochs`, `resume` and `batch` do what they do there, and raise what they
    do there. Sources with an index (a list, anything that has a length and is read by number) are read on the loop's
    thread; others by the thread that takes the items, and the checks of steps look at what was given.
    """

    def __init__(
        self,
        owner: object,
        bridge: Bridge,
        stream: asyncfetch.streams.Stream[T],
        sources: Iterable[Source],
        supply: Supply | None,
    ) -> None:
        super().__init__(owner, bridge, stream, supply)
        self._stream: asyncfetch.streams.Stream[T] = stream
        self._sources = sources

    @overload
    def map(self: Stream[Entry], fn: Callable[[Path], R], *, seed: int = 0) -> Stream[Mapped[R]]: ...
    @overload
    def map(self: Stream[Body], fn: Callable[[bytes], R], *, seed: int = 0) -> Stream[Mapped[R]]: ...
    @overload
    def map(self: Stream[Image], fn: Callable[[Pixels], R], *, seed: int = 0) -> Stream[Mapped[R]]: ...
    @overload
    def map(self: Stream[Mapped[Q]], fn: Callable[[Q], R], *, seed: int = 0) -> Stream[Mapped[R]]: ...
    @overload
    def map(self, fn: Callable[[Any], Any], *, seed: int = 0) -> Stream[Any]: ...
    def map(self, fn: Callable[[Any], Any], *, seed: int = 0) -> Stream[Any]:
        """Has a function called on each object in the decode workers. See `asyncfetch.Stream.map`."""
        return Stream(self._owner, self._bridge, self._stream.map(fn, seed=seed), self._sources, self._supply)

    def shuffle(self, seed: int, epoch: int = 0, *, window: int | None = None) -> Stream[T]:
        """Takes the sources in a random order. See `asyncfetch.Stream.shuffle`."""
        check_step(Shuffle(seed, epoch, window), self._sources)
        return self._then(self._stream.shuffle(seed, epoch, window=window))

    def shard(self, index: int, count: int, *, uneven: Uneven = "keep") -> Stream[T]:
        """Takes every `count`th item from the one at `index` on. See `asyncfetch.Stream.shard`."""
        return self._then(self._stream.shard(index, count, uneven=uneven))

    def deal(self, index: int, count: int, n: int) -> Stream[T]:
        """Takes every `count`th run of `n` items, from the run at `index` on. See `asyncfetch.Stream.deal`."""
        return self._then(self._stream.deal(index, count, n))

    def take(self, n: int) -> Stream[T]:
        """Ends after `n` items; before `epochs`, of each epoch."""
        return self._then(self._stream.take(n))

    def epochs(self, n: int | None = None) -> Stream[T]:
        """Goes over all of it `n` times, or for ever. See `asyncfetch.Stream.epochs`."""
        check_step(Epochs(n), self._sources)
        return self._then(self._stream.epochs(n))

    def resume(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Stream[T]:
        """Goes on where a state was taken, or the states of all shards. See `asyncfetch.Stream.resume`."""
        return self._then(self._stream.resume(state))

    def batch(self, n: int, *, drop_last: bool = False) -> Batches[T]:
        """Gives items `n` at a time. See `asyncfetch.Stream.batch`."""
        return Batches(self._owner, self._bridge, self._stream.batch(n, drop_last=drop_last), self._supply)

    def __repr__(self) -> str:
        return "\n".join([f"Stream over a {describe(self._sources)}", *repr(self._stream).splitlines()[1:]])

    def _then(self, stream: asyncfetch.streams.Stream[T]) -> Stream[T]:
        return Stream(self._owner, self._bridge, stream, self._sources, self._supply)
