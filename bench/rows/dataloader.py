"""PyTorch's DataLoader: OpenCV in its workers, on local files, or on what boto3 reads there."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.rows import training
from bench.rows.beginning import DATALOADER, beginning
from bench.rows.row import Job, Row, Work, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCH = 32


class Photographs:
    """A map-style dataset: (index, pixels)."""

    def __init__(self, job: Job) -> None:
        objects = job.objects
        items = [*objects.warm_up, *objects.items]
        self._remote = job.workload.endswith("-cold")
        self._small = job.workload.startswith("batches")
        self._names = [item.key if self._remote else str(objects.path(item)) for item in items]
        self._bucket, self._endpoint = job.bucket, job.endpoint
        self._client: Any = None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        import cv2
        import numpy as np

        body = self._read(self._names[index])
        if self._small:
            return index, training.decode(body, self._names[index])
        cv2.setNumThreads(1)
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{self._names[index]} is not an image")
        return index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _read(self, name: str) -> bytes:
        if not self._remote:
            return Path(name).read_bytes()
        if self._client is None:
            import boto3
            from botocore.config import Config

            config = Config(s3={"addressing_style": "path"})
            self._client = boto3.client("s3", endpoint_url=self._endpoint, config=config)
        body: bytes = self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        return body


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    if job.workload == "first-batch":
        with beginning(DATALOADER)(job) as begun:
            yield begun
        return
    from torch.utils.data import DataLoader

    small = job.workload.startswith("batches")
    photographs: Any = Photographs(job)  # torch takes what has a length and items, which its types do not say
    keys = job.keys
    first = len(photographs) - len(keys)
    order = list(range(first)) * 4 * job.workers  # to begin with, enough for each worker
    loader: DataLoader[Any] = DataLoader(
        photographs,
        batch_size=training.BATCH if small else _BATCH,
        sampler=order,
        num_workers=job.workers,
        persistent_workers=True,
    )
    for _ in loader:
        pass
    order[:] = range(first, len(photographs))

    def work() -> Work:
        lines, size = dict[str, bytes](), 0
        for indices, batch in loader:
            if small:
                lines |= training.lines([keys[index - first] for index in indices.tolist()], batch.numpy())
                size += batch.nbytes
                continue
            for index, pixels in zip(indices.tolist(), batch, strict=True):
                lines[keys[index - first]] = pixels[pixels.shape[0] // 2].numpy().tobytes()
                size += pixels.nbytes
        return decoded(lines, size, [])

    yield work


ROW = Row(
    name="dataloader",
    label="PyTorch DataLoader",
    open=_open,
    workloads=frozenset({"images-warm", "images-cold", "batches-warm", "batches-cold", "first-batch"}),
    packages=("torch",),
)
