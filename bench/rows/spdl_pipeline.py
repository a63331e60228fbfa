"""SPDL's pipeline: OpenCV in a pool of processes, a batch a call, on local files."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.rows import training
from bench.rows.row import Job, Row, Work, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt


def batch(names: list[tuple[str, str]]) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """Decodes files, of which it is given keys and paths. Gives the keys, and the pixels (N, H, W, 3)."""
    import numpy as np

    return [key for key, _ in names], np.stack([training.decode(Path(path).read_bytes(), path) for _, path in names])


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    from spdl.pipeline import PipelineBuilder

    objects = job.objects
    files = [(item.key, str(objects.path(item))) for item in objects.items]
    warm_up = [(item.key, str(objects.path(item))) for item in objects.warm_up]
    with ProcessPoolExecutor(job.workers, mp_context=get_context("spawn")) as pool:
        # More calls than workers, so that each has started and decoded.
        list(pool.map(batch, [warm_up] * 4 * job.workers))

        def work() -> Work:
            builder: Any = PipelineBuilder()  # its types do not know what tuples are made of
            grouped = builder.add_source(files).aggregate(training.BATCH)
            piped = grouped.pipe(batch, concurrency=job.workers, executor=pool, output_order="input", max_failures=0)
            pipeline = piped.add_sink(3).build(num_threads=1)
            lines, size = dict[str, bytes](), 0
            with pipeline.auto_stop():
                for keys, pixels in pipeline:
                    lines |= training.lines(keys, pixels)
                    size += pixels.nbytes
            return decoded(lines, size, [])

        yield work


ROW = Row(
    name="spdl",
    label="SPDL, processes",
    open=_open,
    workloads=frozenset({"batches-warm"}),
    packages=("spdl",),
)
