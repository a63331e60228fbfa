"""What a consumer that is busy in bursts gets: `python -m bench.bursts --images 5120 --batch 256`.

It takes four batches at once and then pauses, as a training loop does for a step of its optimizer, a checkpoint or a
validation: for so long that on average it asks for as many items as are made. Whoever made items all the while, however
many, would have it wait for none of them but those that are not made yet; what is printed for each kind of stream, as
JSON, is the rate it came to, as a part of the rate of a consumer that never pauses; with the CPU of this process for an
item and the most that the budget was charged, of both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import data, tree
from bench.ending import heed
from bench.rows import training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from asyncfetch import Fetcher

_QUICK = 4  # batches that the consumer takes at once
_SLEPT = 0.004  # seconds that a worker sleeps for an item
_PHOTOGRAPHS = 256  # files, which are read again and again


class _Pass(NamedTuple):
    """One pass over all items."""

    rate: float  # items in a second
    cpu: float  # of this process, microseconds an item
    memory: int  # the most that was charged to the budget


class _Consumer:
    """Pauses for `pause` seconds after each burst of batches but the last."""

    def __init__(self, items: int, batch: int, pause: float) -> None:
        self._items = items
        self._burst = _QUICK * batch
        self._pause = pause
        self._taken = 0

    def took(self, count: int) -> float:
        """Seconds to be busy for after so many items more."""
        before, self._taken = self._taken, self._taken + count
        over = self._taken >= self._items
        return 0.0 if over else self._pause * (self._taken // self._burst - before // self._burst)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=5120)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--budget", default="512MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="slept,batches,images,map,bytes,entries,dataloader")
    options = parser.parse_args(arguments)
    work = Path(tempfile.gettempdir(), "asyncfetch-bench-bursts")
    work.mkdir(exist_ok=True)
    photographs = data.make(work, "photos", min(_PHOTOGRAPHS, options.images))
    paths = [str(photographs.path(item)) for item in photographs.items]
    sources = [paths[index % len(paths)] for index in range(options.images)]
    found: dict[str, list[tuple[_Pass, _Pass]]] = {kind: [] for kind in options.kinds.split(",")}
    for _ in range(options.rounds):
        for kind, passes in found.items():
            run = _dataloader if kind == "dataloader" else _ours(kind)
            with run(sources, options) as one:
                free = one(_Consumer(options.images, options.batch, 0.0))
                pause = _QUICK * options.batch / free.rate
                passes.append((free, one(_Consumer(options.images, options.batch, pause))))
    json.dump({kind: _summary(passes) for kind, passes in found.items()}, sys.stdout, indent=1)
    print()
    return 0


def _summary(passes: list[tuple[_Pass, _Pass]]) -> dict[str, Any]:
    def of(values: Iterator[float]) -> float:
        return round(median(values), 3)

    return {
        "part": of(bursts.rate / free.rate for free, bursts in passes),
        "parts": [round(bursts.rate / free.rate, 3) for free, bursts in passes],
        "rate_free": of(free.rate for free, _ in passes),
        "cpu_free": of(free.cpu for free, _ in passes),
        "cpu_bursts": of(bursts.cpu for _, bursts in passes),
        "memory_free": max(free.memory for free, _ in passes),
        "memory_bursts": max(bursts.memory for _, bursts in passes),
    }


def _ours(kind: str) -> Callable[..., Any]:
    @contextmanager
    def run(sources: list[str], options: argparse.Namespace) -> Iterator[Callable[[_Consumer], _Pass]]:
        def one(consumer: _Consumer) -> _Pass:
            return asyncio.run(_pass(kind, sources, options, consumer))

        yield one

    return run


async def _pass(kind: str, sources: list[str], options: argparse.Namespace, consumer: _Consumer) -> _Pass:
    from asyncfetch import Fetcher

    with tempfile.TemporaryDirectory() as cache:
        async with Fetcher(cache_dir=cache, memory_budget=options.budget, workers=options.workers) as fetcher:
            async for _ in fetcher.images(sources[: 16 * options.workers]):  # the workers start
                pass
            before, begun, count = tree.cpu().own, time.perf_counter(), 0
            async for item in _stream(fetcher, kind, sources, options.batch):
                size = len(item) if kind in ("batches", "slept") else 1
                count += size
                del item
                if pause := consumer.took(size):
                    await asyncio.sleep(pause)
            seconds, cpu = time.perf_counter() - begun, tree.cpu().own - before
            return _Pass(count / seconds, cpu / count * 1e6, fetcher.stats().memory_peak)


def _sleep(path: Path) -> Any:
    """Takes as long, and gives as much, as an image; but no processor, so that a busy machine measures the same."""
    import numpy as np

    time.sleep(_SLEPT)
    return np.empty((*training.SIZE, 3), np.uint8)


def _stream(fetcher: Fetcher, kind: str, sources: list[str], batch: int) -> Any:
    match kind:
        case "batches":
            return fetcher.images(sources, size=training.SIZE, fit="exact").batch(batch)
        case "images":
            return fetcher.images(sources, size=training.SIZE, fit="exact")
        case "map":
            return fetcher.images(sources, size=training.SIZE, fit="exact").map(lambda pixels: pixels.tobytes())
        case "slept":
            return fetcher.entries(sources).map(_sleep).batch(batch)
        case "bytes":
            return fetcher.bytes(sources)
        case "entries":
            return fetcher.entries(sources)
    raise SystemExit(f"bursts: no stream is called {kind!r}")


@contextmanager
def _dataloader(sources: list[str], options: argparse.Namespace) -> Iterator[Callable[[_Consumer], _Pass]]:
    from torch.utils.data import DataLoader

    files: Any = _Files(sources)  # torch takes what has a length and items, which its types do not say
    loader: Any = DataLoader(files, batch_size=options.batch, num_workers=options.workers, persistent_workers=True)
    for _ in zip(range(options.workers), loader, strict=False):  # the workers start
        pass

    def one(consumer: _Consumer) -> _Pass:
        before, begun, count = tree.cpu().own, time.perf_counter(), 0
        for batch in loader:
            count += len(batch)
            if pause := consumer.took(len(batch)):
                time.sleep(pause)
        seconds, cpu = time.perf_counter() - begun, tree.cpu().own - before
        return _Pass(count / seconds, cpu / count * 1e6, 0)

    yield one


class _Files:
    """A map-style dataset of the same pixels."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        return training.decode(Path(self._paths[index]).read_bytes(), self._paths[index])


if __name__ == "__main__":
    heed()
    sys.exit(main())
