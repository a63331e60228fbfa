"""Items in batches: what training takes a step with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asyncfetch.errors import UsageError
from asyncfetch.objects import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from asyncfetch.objects import Report
    from asyncfetch.streams.run import Slot
    from asyncfetch.streams.stream import Stream

T = TypeVar("T")


class Batch(Generic[T]):
    """Some items of a stream, in its order.

    `items` are what the stream would have given one by one; `indices`, `uris` and `payloads` are those of their
    sources. `pixels`, of images, is one array (N, H, W, C) (or with the image's own axes) where all are of equal shape
    and dtype, else a list, with None for what has no pixels: a failure that was yielded. It is None in a batch without
    images. Paths of entries are valid until the next batch is asked for.
    """

    __slots__ = ("indices", "items", "payloads", "pixels", "uris")

    def __init__(self, items: Sequence[T], slots: Sequence[Slot[Any]], pixels: npt.NDArray[Any] | list[Any] | None):
        self.items = tuple(items)
        self.indices = [slot.index for slot in slots]
        self.uris = [slot.uri for slot in slots]
        self.payloads = [slot.payload for slot in slots]
        self.pixels: Any = pixels

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        pixels = self.pixels
        shape = "" if pixels is None else ", ragged" if isinstance(pixels, list) else f", pixels {pixels.shape}"
        return f"<Batch of {len(self)}{shape}>"


class Batches(Generic[T]):
    """An async iterator over batches, made by a stream, which it takes over; what `Stream` says holds here too.

    `state` counts whole batches: the items of one that was not handed out yet come again.
    """

    def __init__(self, stream: Stream[T], n: int, *, drop_last: bool) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UsageError(f"A batch has 1 item or more, not {n!r}")
        self._stream = stream
        self._size = n
        self._drop_last = drop_last
        self._items: list[T] = []  # gathered for the next batch; a cancelled step leaves them here
        self._slots: list[Slot[T]] = []
        self._given: list[Slot[T]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch[T]:
        """The next batch. Raises what a step of the stream raises; a batch that was being gathered is lost by that."""
        stream = self._stream
        run = stream.enter()
        run.let_go(self._given)
        self._given = []
        try:
            while len(self._items) < self._size and (item := await stream.draw(run)) is not None:
                self._items.append(item)
                self._slots.append(run.held[-1])
            if not self._items or (self._drop_last and len(self._items) < self._size):
                raise StopAsyncIteration
            items, self._items = self._items, []
            slots, self._slots = self._slots, []
            batch = Batch(items, slots, _pixels(items))
        except Exception:
            await stream.aclose()
            raise
        stream.leave(run, slots)
        self._given = slots
        return batch

    def state(self) -> dict[str, Any]:
        """Where the stream is; `Stream.resume` goes on from it, in batches or not."""
        return self._stream.state()

    def report(self) -> Report:
        """What has been taken so far, gathered items included."""
        return self._stream.report()

    async def aclose(self) -> None:
        """Ends the stream. Nothing of it is left when this returns, also when it is cancelled."""
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


def _pixels(items: Sequence[Any]) -> npt.NDArray[Any] | list[Any] | None:
    """The pixels of all items as one array where they can be, else as a list; None where there are none."""
    arrays: list[Any] = [item.pixels if isinstance(item, Image) else None for item in items]
    found = {None if pixels is None else (pixels.shape, pixels.dtype) for pixels in arrays}
    if len(found) > 1:
        return arrays
    if None in found:
        return None
    import numpy as np

    return np.stack(arrays)
