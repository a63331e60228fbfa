"""The consumer's side of a stream."""

from __future__ import annotations

import weakref
from functools import cached_property, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from asyncfetch.checks import count_of
from asyncfetch.decode import call_of
from asyncfetch.errors import FetcherClosed, UsageError
from asyncfetch.streams.batch import Batches
from asyncfetch.streams.order import check_sources, check_step, describe, digest_of, has_index, read
from asyncfetch.streams.plan import Deal, Epochs, Plan, Shard, Shuffle, Take
from asyncfetch.streams.progress import Checkpoint, Progress
from asyncfetch.streams.state import point_of, to_state
from asyncfetch.streams.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from asyncfetch.decode import Call, Pixels
    from asyncfetch.engine import Engine
    from asyncfetch.objects import Body, Entry, Image, Mapped, Report, Sources
    from asyncfetch.streams.plan import Step, Uneven
    from asyncfetch.streams.run import Run
    from asyncfetch.streams.slots import Slot

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator over items, made by a fetcher.

    `shuffle`, `shard`, `deal`, `take` and `epochs` say in which order its sources are taken; each gives a new stream,
    nothing is read before the first item is asked for, and then only the new one should be used. Printed, a stream
    shows its plan, one line a step. An item's `index` and payload are always those of its source. Sources with an index
    (a list, anything that has a length and is read by number) are read by number and never copied; others are read as
    they come.

    Prefetching begins with the first `async for` step, or with `async with`, and goes on while the consumer is busy,
    within the window and the byte budget and in the order of the plan, from one epoch into the next without a pause.
    Leaving the loop, `aclose`, dropping the stream and closing its fetcher all end it: reads under way are cancelled,
    buffers and shared memory return, files that were kept out of the cache go. One task at a time may take items.

    A step that is cancelled, or that an interrupt ends, has taken nothing: the item comes with the next one; but after
    one that came while the sources were read, that raises `SourcesInterrupted`. An error that a step raises ends the
    stream, as it ends a generator.
    """

    def __init__(
        self,
        engine: Engine,
        sources: Sources,
        open_run: Callable[..., Run[T]],  # of a reading and a progress
        open_mapped: Callable[[tuple[Call, ...]], Callable[..., Run[Mapped[Any]]]],  # the same behind functions
        *,
        mapped: tuple[tuple[str, Call], ...] = (),
        plan: Plan | None = None,
        point: Checkpoint | None = None,
    ) -> None:
        check_sources(sources)
        self._engine = engine
        self._sources = sources
        self._open_run = open_run
        self._open_mapped = open_mapped
        self._mapped = mapped  # functions by their names
        self._plan = plan or Plan()
        self._point = point
        self._progress = Progress(point or Checkpoint(), first_epoch=self._plan.first_epoch)
        self._run: Run[T] | None = None
        self._ended = False
        self._unsaid: Exception | None = None  # what ended it, until that is raised
        self._waiting = False
        self._given: float | None = None
        self._finalizer: weakref.finalize[..., Stream[T]] | None = None

    # What is made of items

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
        """Has a function called on each object in the decode workers; items are `Mapped`, with what it gave as `value`.

        Of bodies it is given the `bytes`, of images the pixels, of entries the `Path` of the file, which it may read
        while it runs; behind another function, what that one gave. It may be any callable that cloudpickle can carry,
        and is seeded for each item as a `transform` is; where its result needs more room than was guessed it is called
        again, in the same way. Arrays of numbers come through shared memory, and in batches as one array; all else is
        pickled, its large arrays apart, and unpickled when its item is taken. Results count against the byte budget
        like pixels, and no larger one than `DecodePolicy.worker_memory` is taken.

        An item whose function raises, calls `sys.exit` or gives what cannot be pickled fails as `TransformFailed`, one
        whose function takes longer than `DecodePolicy.timeout` as `DecodeTimeout`. None is a value like others. Raises
        `UsageError` for what cannot be called or not carried.
        """
        self._check_not_begun()
        name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        mapped = (*self._mapped, (name, call_of(fn, seed)))
        open_run = self._open_mapped(tuple(call for _, call in mapped))
        return Stream(self._engine, self._sources, open_run, self._open_mapped, mapped=mapped, plan=self._plan)

    # The plan

    def shuffle(self, seed: int, epoch: int = 0, *, window: int | None = None) -> Stream[T]:
        """Takes the sources in a random order, the same for the same seed and epoch everywhere.

        Sources with an index are shuffled whole, without a table of the order. Others need `window`: so many of them
        are held, and a random one of those comes next; an item then comes at most `window` places too early, and most
        come somewhat late. Raises `UsageError` without a window for sources that have no index, with one for those
        that do, and for a second shuffle.
        """
        return self._then(Shuffle(seed, epoch, window))

    def shard(self, index: int, count: int, *, uneven: Uneven = "keep") -> Stream[T]:
        """Takes every `count`th item from the one at `index` on: the share of one rank, or of one of its workers.

        Where the number of items is no multiple of `count`, `"keep"` lets the first shards have one more, `"pad"`
        repeats items from the front for the others, `"drop"` leaves the last ones out. All shards must be of one plan:
        shuffled with the same seed. Raises `UsageError` for a shard that does not exist and for a second one; a
        worker of a rank takes `shard(rank * workers + worker, ranks * workers)`.
        """
        return self._then(Shard(index, count, uneven))

    def deal(self, index: int, count: int, n: int) -> Stream[T]:
        """Takes every `count`th run of `n` items, from the run at `index` on: batches, dealt out to a rank's workers.

        After `shard`, which gives ranks equal lengths; with `batch(n)` behind it the workers in turn give the batches
        that one alone would have given, in their order, unless failures are left out. Its state belongs to this hand
        of these. Raises `UsageError` for a hand that does not exist and for a second one.
        """
        return self._then(Deal(index, count, n))

    def take(self, n: int) -> Stream[T]:
        """Ends after `n` items; before `epochs`, of each epoch."""
        return self._then(Take(n))

    def epochs(self, n: int | None = None) -> Stream[T]:
        """Goes over all of it `n` times, or for ever; a shuffled plan has another order each time.

        The first items of an epoch are fetched while the last of the one before are consumed. Raises `UsageError` for
        sources that can be read only once, such as a generator.
        """
        return self._then(Epochs(n))

    def state(self) -> dict[str, Any]:
        """Where the stream is, as a small value that JSON can say: what `resume` goes on from.

        Everything that was handed out counts, the item in hand included: take it when the work on that item is done
        (or before it, to have it done again). Items that were left out, replaced or yielded as failures count; one
        that was raised does not, and comes again. It holds a digest of the plan, with the seed, and of the sources'
        names, the epoch, the first place that was not handed out, and a bitmap of those behind it that were (with
        `order="completion"` there are some). The first call reads all names of sources with an index, some 0.2 s for
        a million; of other sources the digest is that of all that was read for what was handed out, and they are read
        again up to there, from the beginning of its epoch.
        """
        if self._run is not None:
            self._run.count_steps()
        point = self._progress.checkpoint(
            self._digest, self._plan.shard, () if self._point is None else self._point.left_by
        )
        return to_state(point, self._plan)

    def resume(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Stream[T]:
        """Goes on where a state was taken: what was handed out does not come again, everything else does, once.

        It comes last in the plan, which must be the one of the state; order, decoding and errors may be others. With
        the states of all shards, another number of shards divides what they left among itself; what shards of
        `uneven="drop"` left out of an unfinished epoch is divided too. Raises `PlanMismatch` for a state of another
        plan or of other sources (where they have no index, while they are read), and `UsageError` for what is no
        state, for shards that are missing or there twice, and for padded shards in another number.
        """
        self._check_not_begun()
        return self._derive(self._plan, point_of(state, self._plan, self._digest, indexed=has_index(self._sources)))

    @cached_property
    def _digest(self) -> str:
        return self._plan.digest(digest_of(self._sources))

    def __repr__(self) -> str:
        steps = [*map(str, self._plan.steps), *(f"map({name})" for name, _ in self._mapped)]
        return "\n".join([f"Stream over a {describe(self._sources)}", *steps])

    # Iteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next item. Raises what the sources or, as `on_error` says, the item raised, and `FetcherClosed`."""
        run = self._enter()
        try:
            slot = run.step() or await self._draw(run, run.step)
            if slot is None:
                raise StopAsyncIteration
        except Exception as error:
            await self._end_with(error)
            raise
        item = run.item(slot)
        self._given = perf_counter()
        run.step_over(slot)
        return item

    def batch(self, n: int, *, drop_last: bool = False) -> Batches[T]:
        """Gives items `n` at a time; see `Batch`. The last may have fewer, or is left out.

        It comes last in the plan. A batch is made of items as they come: it may hold the end of one epoch and the
        beginning of the next, and a failure that is left out makes no gap.
        """
        self._check_not_begun(resumed=True)
        size = count_of(n, 1)
        if size is None:
            raise UsageError(f"A batch has 1 item or more, not {n!r}")
        return Batches(self._derive(self._plan, self._point, size), size, drop_last=drop_last)

    # For what takes items on behalf of the consumer

    def _enter(self) -> Run[T]:
        """Begins a step, and the stream with the first."""
        if self._waiting:
            raise UsageError("A stream has one consumer at a time", remedy="Make a stream for each task.")
        run = self._run or self._begin()
        if self._given is not None:
            run.consumer_seconds += perf_counter() - self._given
            self._given = None
        return run

    async def _draw(self, run: Run[T], take: Callable[[], Q]) -> Q | None:
        """What `take` gives once that is something; None when there are no more items.

        Cancelled, nothing has changed.
        """
        while not (taken := take()):
            if run.closed:
                if self._unsaid is not None:
                    raise self._unsaid
                if not self._ended:
                    raise FetcherClosed("The fetcher of this stream is closed")
                return None
            if run.exhausted:
                run.finish()
                return None
            self._waiting = True
            try:
                await run.wait()
            finally:
                self._waiting = False
        return taken

    async def _end_with(self, error: Exception) -> None:
        """Ends the stream for what a step is about to raise; if an interrupt comes instead, the next one raises it."""
        self._unsaid = error
        await self.aclose()
        self._unsaid = None

    def _leave(self, run: Run[T], slots: Sequence[Slot[T]]) -> None:
        """Ends a step that hands slots over: whoever calls this returns them, and calls nothing before."""
        self._given = perf_counter()
        run.hand_over(slots)

    async def aclose(self) -> None:
        """Ends the stream. Nothing of it is left when this returns, also when it is cancelled."""
        self._ended = True
        if self._run is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            self._run.close()
            await self._run.feed.closed()

    async def __aenter__(self) -> Self:
        if not self._ended:
            self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def report(self) -> Report:
        """What has been taken so far: counts, bytes, failures, and which stage held it back."""
        return Tally(self._engine).report(consumer=0.0, source=0.0) if self._run is None else self._run.report()

    def _then(self, step: Step) -> Stream[T]:
        self._check_not_begun()
        check_step(step, self._sources)
        return self._derive(self._plan.then(step), None)

    def _derive(self, plan: Plan, point: Checkpoint | None, batch: int = 0) -> Stream[T]:
        open_run = partial(self._open_run, batch=batch) if batch else self._open_run
        return Stream(
            self._engine, self._sources, open_run, self._open_mapped, mapped=self._mapped, plan=plan, point=point
        )

    def _check_not_begun(self, *, resumed: bool = False) -> None:
        if self._run is not None or self._ended:
            raise UsageError("The plan of a stream that has begun cannot change", remedy="Plan before the first item.")
        if self._point is not None and not resumed:
            raise UsageError("The plan of a stream that goes on from a state cannot change", remedy="Resume at last.")

    def _begin(self) -> Run[T]:
        if self._run is None:
            if self._engine.closed:
                raise FetcherClosed("The fetcher of this stream is closed")
            if self._ended:
                raise StopAsyncIteration
            reading = read(self._plan, self._sources, self._point or Checkpoint(), self._progress)
            run = self._open_run(reading, self._progress)
            finalizer = self._finalizer = weakref.finalize(self, _drop, run)
            finalizer.atexit = False
            self._run = run
            run.feed.begin()
        return self._run


def _drop(run: Run[T]) -> None:
    """Ends the run of a stream that was dropped, from whatever thread the collector ran on."""
    try:
        run.engine.loop.call_soon_threadsafe(run.close)
    except RuntimeError:  # the loop is closed, and everything on it has ended
        run.closed = True
