"""LitData's raw streaming dataset in PyTorch's DataLoader: files in its cache, without digest."""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.keep import Kept
from bench.rows.row import Job, Row, Work, fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCH = 64


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    from litdata import StreamingRawDataset
    from litdata.raw.indexer import FileIndexer, FileMetadata
    from torch.utils.data import DataLoader

    prefix = f"s3://{job.bucket}"
    items = [job.objects.warm_up[0], *job.objects.items]

    class Known(FileIndexer):  # type: ignore[misc]
        """The server lists nothing, and all rows are told what to read."""

        def build_or_load_index(self, *args: Any, **options: Any) -> list[Any]:
            return [FileMetadata(f"{prefix}/{item.key}", item.size) for item in items]

    dataset = StreamingRawDataset(
        prefix,
        cache_dir=job.directory,
        indexer=Known(),
        storage_options={"endpoint_url": job.endpoint},
        cache_files=True,
        item_type="path",
        max_concurrent_downloads=max(1, job.at_once // job.workers),
    )
    order = [0] * job.workers  # one request in each worker to begin with
    loader = DataLoader(
        dataset,
        batch_size=min(_BATCH, max(1, len(items) // job.workers)),
        sampler=order,
        num_workers=job.workers,
        collate_fn=list,
        persistent_workers=True,
    )
    for _ in loader:
        pass
    order[:] = range(1, len(items))

    def work() -> Work:
        paths = [path for batch in loader for path in batch]
        found = zip(items[1:], paths, strict=True)
        return fetched([Kept(item.key, item.size, None, path) for item, path in found], [])

    yield work


ROW = Row(
    name="litdata",
    label="LitData raw dataset in DataLoader",
    open=_open,
    workloads=frozenset({"photos", "small", "large"}),
    packages=("litdata", "torch"),
    does="no digest",
    tls_only=True,  # its S3 client is built so that it refuses plain HTTP
)
