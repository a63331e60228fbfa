"""Bare decoding: OpenCV in as many processes on the same files; nothing is fetched and no pixels are handed back."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

from bench.rows.row import Job, Row, Work, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

_BATCH = 16  # files a worker is given at once: asking it costs 0.1 ms, decoding them 10 to 20
_KEPT = str(64 << 20)


def decode(paths: list[str]) -> list[tuple[bytes, int]]:
    """Decodes files to RGB, as each row does that decodes. Gives of each the middle line and the size."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)  # one process for each core
    lines = []
    room: npt.NDArray[np.uint8] | None = None
    for path in paths:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{path} is not an image")
        if room is None or room.shape != image.shape:
            room = np.empty(image.shape, np.uint8)
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=room)  # fresh memory for each would cost a quarter of decoding
        lines.append((room[room.shape[0] // 2].tobytes(), room.nbytes))
    return lines


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    objects, keys = job.objects, job.keys
    paths = [str(objects.path(item)) for item in objects.items]
    warm_up = [str(objects.path(item)) for item in objects.warm_up]
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    # What asyncfetch's workers ask of glibc: to keep the memory of one image for the next.
    os.environ.update(MALLOC_MMAP_THRESHOLD_=_KEPT, MALLOC_TRIM_THRESHOLD_=_KEPT)
    with ProcessPoolExecutor(job.workers, mp_context=get_context("spawn")) as pool:
        # More calls than workers, so that each has started and decoded.
        list(pool.map(decode, [warm_up] * 4 * job.workers))

        def work() -> Work:
            found = [result for batch in pool.map(decode, batches) for result in batch]
            lines = {key: line for key, (line, _) in zip(keys, found, strict=True)}
            return decoded(lines, sum(size for _, size in found), [])

        yield work


ROW = Row(
    name="decoding",
    label="floor: bare decoding",
    open=_open,
    workloads=frozenset({"images-warm", "images-cold"}),
    floor=True,
)
