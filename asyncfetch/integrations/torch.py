"""PyTorch: batches of tensors for a training loop, by a DataLoader or, which is faster, without one.

for batch in ImageLoader(ImageDataset(sources, batch_size=64, size=(224, 224), fit="fill")):
    loss = model(batch.pixels, batch.labels)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from asyncfetch.blocking import Fetcher, Stream
from asyncfetch.checks import count_of
from asyncfetch.decode import DecodeOptions, ImageOptions
from asyncfetch.errors import ExtraMissing, UsageError
from asyncfetch.integrations.share import Share, check_rank, divided, rank_of_environment
from asyncfetch.objects import Image
from asyncfetch.streams import Batch, Shard, has_index

try:
    import torch
    import torch.distributed
    from torch.utils.data import IterableDataset, get_worker_info

    from asyncfetch.integrations.tensors import Sample, TensorBatch, pinned, tensors
except ImportError as error:
    raise ExtraMissing(
        "asyncfetch.integrations.torch needs PyTorch", remedy="pip install 'asyncfetch[torch]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self, Unpack

    from asyncfetch.blocking import Batches
    from asyncfetch.objects import Source
    from asyncfetch.streams import ImageKeywords, OnError, Uneven

__all__ = ["ImageDataset", "ImageLoader", "Sample", "TensorBatch", "tensors"]


class ImageDataset(IterableDataset[Any]):
    """The images of some sources, decoded, for one rank, or one DataLoader worker of it.

    - `sources`: as `asyncfetch.Fetcher.images` takes them; payloads become labels. They can be read again.
      A list is pickled for each worker that is spawned, and costs nothing with those that are forked.
    - `batch_size`: gives a `TensorBatch` of so many (the last may have fewer, or is left out with `drop_last`), for
      `DataLoader(dataset, batch_size=None)`. None gives single `Sample`s.
    - `shuffle`: in an order that is the same on all ranks for one `seed` and epoch; `window` for sources without an
      index. `seed` is that of a `transform` too, with the epoch and the item's index.
    - `rank`, `world_size`: else those of `torch.distributed` when it is initialized, else of `RANK` and `WORLD_SIZE`.
      `uneven` says how lengths are made equal: `"pad"` (the default of several ranks) repeats items from the front,
      `"drop"` leaves the last ones out, `"keep"` does neither.
    - `collate`: called with each `Batch` of NumPy arrays, or each `Image`, instead of `tensors`.
    - `fetcher`: a `asyncfetch.blocking.Fetcher`, else the one that all such calls share. Its concurrency, memory budget
      and decode workers are those of the host: the workers of a DataLoader and the ranks of a host divide them. How
      many ranks that are `LOCAL_WORLD_SIZE` says, as torchrun sets it; without it they are all ranks where
      `MASTER_ADDR` is a loopback address, else one, and each then takes the whole host. Workers share its cache and
      are one job, which begins here; ranks are when `ASYNCFETCH_JOB` names it, or the dataset was pickled for them.
    - `on_error` and the rest: as for `asyncfetch.Fetcher.images`. With `"skip"` ranks may come to unequal lengths.

    A DataLoader gives the same batches in the same order with any number of workers, as long as nothing is left out.
    Where `on_error` leaves a failure out, the worker whose batch it was fills that with the next of its own items: each
    comes once all the same, but batches are made of others, and each worker's last may be short, or left out with
    `drop_last`.

    It can be iterated in the process that made it, in forked and in spawned ones; each opens a fetcher of its own with
    the first item.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        batch_size: int | None = None,
        drop_last: bool = False,
        shuffle: bool = False,
        window: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven | None = None,
        collate: Callable[[Any], Any] | None = None,
        fetcher: Fetcher | None = None,
        on_error: OnError = "raise",
        **options: Unpack[ImageKeywords],
    ) -> None:
        super().__init__()
        if isinstance(sources, str | bytes):
            raise UsageError("Sources are an iterable of URIs, not one text", remedy="Write [uri].")
        if isinstance(sources, Iterator):
            raise UsageError(
                f"A {type(sources).__name__} can be read once, and not by several workers",
                remedy="Pass a list, or an object whose __iter__ begins anew.",
            )
        size = None if batch_size is None else count_of(batch_size, 1)
        if size is None and batch_size is not None:
            raise UsageError(f"batch_size must be a whole number, 1 or more, not {batch_size!r}")
        if (rank is None) != (world_size is None):
            raise UsageError(
                "Of rank and world_size one is given and the other is not", remedy="Give both, or neither."
            )
        decoding: Any = {name: value for name, value in options.items() if name in ImageOptions.__annotations__}
        DecodeOptions(**decoding)  # refuses what means nothing now, and not in a worker
        self._sources = sources
        self._batch_size = size
        self._drop_last = drop_last
        self._shuffle = shuffle
        self._window = window
        self._given_rank = None if rank is None or world_size is None else check_rank(rank, world_size)
        self._uneven = uneven
        self._collate = collate
        self._on_error = on_error
        self._options = options
        self._fetcher = fetcher or _shared()
        self._fetcher.settings  # noqa: B018 - the job begins now, before any fork
        self._here: tuple[int, int, Fetcher] | None = None  # process, parts, and its own
        # In shared memory, so that workers which persist hear of it.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call] # of torch

    @property
    def epoch(self) -> int:
        """The number of the epoch that the next iteration is, anywhere."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next iteration is, also to workers that persist: another order, other random numbers."""
        number = count_of(epoch, 0)
        if number is None:
            raise UsageError(f"epoch must be a whole number, 0 or more, not {epoch!r}")
        self._epoch.fill_(number)

    def __len__(self) -> int:
        """Batches of this rank (of images, where there is no batch size). Raises `TypeError` where it is not known.

        Failures that are left out make it fewer.
        """
        if not has_index(self._sources):
            raise TypeError(f"a {type(self._sources).__name__} has no length")
        rank, ranks = self._rank()
        images = Shard(rank, ranks, self._uneven_of(ranks)).length(len(self._sources))
        if self._batch_size is None:
            return images
        return images // self._batch_size if self._drop_last else -(-images // self._batch_size)

    def __iter__(self) -> Pass:
        return Pass(self, self.epoch)

    def close(self) -> None:
        """Closes what was opened for it in this process beside the fetcher that it was given."""
        here, self._here = self._here, None
        if here is not None and here[0] == os.getpid():
            here[2].close()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__, _here=None)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            state["_given_rank"] = self._rank()  # where it is going nothing else may say so
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch.share_memory_()

    # For a pass

    def open(self, epoch: int, states: Any) -> Stream[Any] | Batches[Any]:
        """The stream of one epoch, of this process's share; from `states` on, where there are any."""
        share = self._share()
        options: Any = self._options
        if not self._shuffle:
            options = {**options, "seed": options.get("seed", 0) + epoch}
        stream: Stream[Any] = self._fetcher_for(share.parts).images(
            self._sources,
            on_error=self._on_error,
            **options,
        )
        if self._shuffle:
            stream = stream.shuffle(options.get("seed", 0), epoch, window=self._window)
        if share.ranks > 1:
            stream = stream.shard(share.rank, share.ranks, uneven=self._uneven_of(share.ranks))
        if share.workers > 1:
            stream = stream.deal(share.worker, share.workers, self._batch_size or 1)
        if states is not None:
            stream = stream.resume(states)
        return stream if self._batch_size is None else stream.batch(self._batch_size, drop_last=self._drop_last)

    def collated(self, item: Any) -> Any:
        """What an item of that stream is handed out as."""
        if self._collate is not None and isinstance(item, Batch | Image):
            return self._collate(item)
        if isinstance(item, Batch):
            return tensors(item)
        if isinstance(item, Image):
            return Sample(torch.from_numpy(item.pixels), item.payload, item.index, item.uri)
        return item

    def _fetcher_for(self, parts: int) -> Fetcher:
        if parts == 1:
            return self._fetcher
        if self._here is None or self._here[:2] != (os.getpid(), parts):
            self._here = (os.getpid(), parts, Fetcher(divided(self._fetcher.settings, parts)))
        return self._here[2]

    def _share(self) -> Share:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return Share(*self._rank(), worker, workers)

    def _rank(self) -> tuple[int, int]:
        if self._given_rank is not None:
            return self._given_rank
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return rank_of_environment()

    def _uneven_of(self, ranks: int) -> Uneven:
        return self._uneven or ("pad" if ranks > 1 else "keep")


class Pass:
    """One epoch over a dataset, in one process: an iterator, whose state torchdata's StatefulDataLoader keeps."""

    def __init__(self, dataset: ImageDataset, epoch: int) -> None:
        self._dataset = dataset
        self.epoch = epoch
        self._stream: Stream[Any] | Batches[Any] | None = None
        self._begun = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        self._begun = True
        return self._dataset.collated(next(self._opened()))

    def state_dict(self) -> dict[str, Any]:
        """Where it is: what was handed out counts, whole batches only. It is small, and JSON can say it."""
        return {"epoch": self.epoch, "stream": self._opened().state()}

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Goes on from a state, exactly; from those of all ranks with another number of them, where none is padded.

        Raises `UsageError` when it has begun, and `PlanMismatch` for a state of other sources, seed or share.
        """
        states = [state] if isinstance(state, Mapping) else list(state)
        if self._begun:
            raise UsageError("A pass that has begun cannot go on from a state", remedy="Load it first.")
        try:
            epochs = {one["epoch"] for one in states}
            streams = [one["stream"] for one in states if one["stream"] is not None]
        except (KeyError, TypeError):
            raise UsageError(
                "This is not the state of an ImageDataset", remedy="Pass what state_dict() gave."
            ) from None
        if len(epochs) != 1 or len(streams) not in (0, len(states)):
            raise UsageError("These are states of different epochs", remedy="Pass those of one moment.")
        self.close()
        (self.epoch,) = epochs
        self._stream = self._dataset.open(self.epoch, streams or None)

    def close(self) -> None:
        """Ends it. Its state is still there."""
        if self._stream is not None:
            self._stream.close()

    def _opened(self) -> Stream[Any] | Batches[Any]:
        if self._stream is None:
            self._stream = self._dataset.open(self.epoch, None)
        return self._stream


class ImageLoader:
    """A dataset without a DataLoader: what it gives lies where the decode workers wrote it, and was copied nowhere.

    Each iteration is the next epoch, from the dataset's own on, or from the one that `set_epoch` says. What is
    prefetched meanwhile is the fetcher's to bound: the consumer has whole batches, and memory goes back when the last
    view of a batch is gone. `pin_memory` copies tensors to page-locked memory on the thread that takes them.

    Leaving the loop early frees what it held. Errors are raised as they are, with the URI in them.
    """

    def __init__(self, dataset: ImageDataset, *, pin_memory: bool = False) -> None:
        if pin_memory and not torch.cuda.is_available():
            warnings.warn("pin_memory is asked for where there is no CUDA device, and does nothing", stacklevel=2)
            pin_memory = False
        self.dataset = dataset
        self._pin = pin_memory
        self._next_epoch = False  # whether the next iteration is the epoch behind the dataset's own
        self._pass: Pass | None = None  # under way, or to go on from
        self._loaded = False

    def __len__(self) -> int:
        """Batches of an epoch. See `ImageDataset.__len__`."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        run, loaded, self._loaded = self._pass, self._loaded, False
        if run is None or not loaded:
            if run is not None:
                run.close()
            if self._next_epoch:
                self.dataset.set_epoch(self.dataset.epoch + 1)
            run = self._pass = iter(self.dataset)
        self._next_epoch = True
        return self._items(run)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next iteration is, from its beginning."""
        self.dataset.set_epoch(epoch)
        self._next_epoch = self._loaded = False

    def state_dict(self) -> dict[str, Any]:
        """Where it is, the batch in hand included, as JSON can say it. Behind an epoch, where the next begins."""
        if self._pass is not None:
            return self._pass.state_dict()
        return {"epoch": self.dataset.epoch + self._next_epoch, "stream": None}

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Has the next iteration go on from a state, or from those of all ranks. Raises as `Pass.load_state_dict`."""
        run = iter(self.dataset)
        run.load_state_dict(state)
        if self._pass is not None:
            self._pass.close()
        self.set_epoch(run.epoch)
        self._pass, self._loaded = run, True

    def close(self) -> None:
        """Ends an iteration under way, and closes what was opened for the dataset."""
        if self._pass is not None:
            self._pass.close()
        self.dataset.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _items(self, run: Pass) -> Iterator[Any]:
        with closing(run):
            for item in run:
                yield pinned(item) if self._pin else item
                del item  # its memory is the user's to let go
        if self._pass is run:
            self._pass = None


def _shared() -> Fetcher:
    from asyncfetch.blocking.shared import shared

    return shared
