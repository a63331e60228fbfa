"""Items in batches: what training takes a step with."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from asyncfetch.objects import Report
    from asyncfetch.streams.run import Run
    from asyncfetch.streams.slots import Joined, Slot
    from asyncfetch.streams.stream import Stream

T = TypeVar("T")

# Items gathered beyond a batch while each waits for its own to be whole: as many as two workers may have under way. An
# image that failed may leave one that never is.
_MOST_APART = 128


class Batch(Generic[T]):
    """Some items of a stream, in its order.

    `items` are what the stream would have given one by one; `indices`, `uris` and `payloads` are those of their
    sources. `pixels`, of images, is one array (N, H, W, C) (or with the image's own axes) where all are of equal shape
    and dtype, else a list, with None for what has no pixels: a failure that was yielded. It is None in a batch without
    images. `values` is the same of what a mapped function gave: an array where all gave arrays of numbers that are
    alike. Paths of entries are valid until the next batch is asked for.
    """

    __slots__ = ("_items", "indices", "payloads", "pixels", "uris", "values")

    def __init__(
        self,
        items: Sequence[T] | Callable[[], Sequence[T]],
        slots: Sequence[Slot[Any]],
        pixels: npt.NDArray[Any] | list[Any] | None,
        values: npt.NDArray[Any] | list[Any] | None = None,
    ) -> None:
        self._items = items
        self.indices = [slot.index for slot in slots]
        self.uris = [slot.uri for slot in slots]
        self.payloads = [slot.payload for slot in slots]
        self.pixels: Any = pixels
        self.values: Any = values

    @property
    def items(self) -> tuple[T, ...]:
        """What the stream would have given one by one, made when it is asked for."""
        items = self._items
        if not isinstance(items, tuple):
            items = self._items = tuple(items() if callable(items) else items)
        return items

    def __len__(self) -> int:
        return len(self.uris)

    def __repr__(self) -> str:
        for name in "pixels", "values":
            if (found := getattr(self, name)) is not None:
                shape = "ragged" if isinstance(found, list) else f"{name} {found.shape}"
                return f"<Batch of {len(self)}, {shape}>"
        return f"<Batch of {len(self)}>"


class Batches(Generic[T]):
    """An async iterator over batches, made by a stream, which it takes over; what `Stream` says holds here too.

    `state` counts whole batches: the items of one that was not handed out yet come again.
    """

    def __init__(self, stream: Stream[T], n: int, *, drop_last: bool) -> None:
        self._stream = stream
        self._size = n
        self._drop_last = drop_last
        # Gathered for the next batches, by what makes the best of them; a cancelled step leaves them here.
        self._gathered: dict[object, list[Slot[T]]] = {}
        self._joined: Joined[T] | None = None  # what is made of the next batch's, which are gathered until it is given
        self._given: list[Slot[T]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch[T]:
        """The next batch. Raises what a step of the stream raises; a batch that was being gathered is lost by that."""
        stream = self._stream
        run = stream._enter()
        run.let_go(self._given)
        self._given = []
        try:
            joined = self._joined
            if joined is None:
                ripe = self._ripe()
                while ripe is None:
                    room = max(1, self._size - sum(map(len, self._gathered.values())))
                    slots = run.take(room) or await stream._draw(run, partial(run.take, room))
                    ripe = self._gather(slots, run) if slots else self._pick()
                if not ripe or (self._drop_last and len(ripe) < self._size):
                    raise StopAsyncIteration
                joined = self._joined = run.join(ripe)
        except Exception as error:
            self._gathered.clear()
            await stream._end_with(error)
            raise
        run.emptied(joined.slots)
        batch = Batch(joined.items, joined.slots, joined.pixels, joined.values)
        rest = self._without(joined.slots)
        stream._leave(run, joined.slots)
        self._gathered, self._joined, self._given = rest, None, joined.slots
        return batch

    def _gather(self, slots: list[Slot[T]], run: Run[T]) -> list[Slot[T]] | None:
        """Puts items with those that they make the best batch with; gives those of a batch if it is whole now."""
        gathered = {together: taken.copy() for together, taken in self._gathered.items()}
        for together, some in run.together(slots):
            if together is None and gathered:
                together = max(gathered, key=lambda key: len(gathered[key]))
            gathered.setdefault(together, []).extend(some)
        none: deque[Slot[T]] = deque()
        # Not while they are put there, for an interrupt may come then: they are coming, or they are gathered.
        self._gathered, run.coming = gathered, none
        return self._ripe()

    def _ripe(self) -> list[Slot[T]] | None:
        """The items of a batch that is whole."""
        for taken in self._gathered.values():
            if len(taken) >= self._size:
                return taken[: self._size]
        if sum(map(len, self._gathered.values())) >= self._size + _MOST_APART:
            return self._pick()
        return None

    def _pick(self) -> list[Slot[T]]:
        """The items of a batch of what there is, the first first."""
        return list(islice(chain.from_iterable(self._gathered.values()), self._size))

    def _without(self, given: list[Slot[T]]) -> dict[object, list[Slot[T]]]:
        """What is gathered beside those of a batch."""
        gone = set(given)
        left = ((together, [slot for slot in taken if slot not in gone]) for together, taken in self._gathered.items())
        return {together: taken for together, taken in left if taken}

    def state(self) -> dict[str, Any]:
        """Where the stream is; `Stream.resume` goes on from it, in batches or not."""
        return self._stream.state()

    def report(self) -> Report:
        """What has been taken so far, gathered items included."""
        return self._stream.report()

    async def aclose(self) -> None:
        """Ends the stream. Nothing of it is left when this returns, also when it is cancelled."""
        self._gathered.clear()
        self._joined = None
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{self._stream!r}\nbatch({self._size}{', drop_last=True' if self._drop_last else ''})"


def take_back(stream: Stream[Any] | Batches[Any]) -> None:
    """Has a stream that was closed forget its last step: what that handed out never reached the consumer."""
    (stream._stream if isinstance(stream, Batches) else stream)._progress.take_back()
