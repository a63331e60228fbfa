"""s3fs behind fsspec's filecache: files without digest, and reading them from the warm cache."""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.keep import Kept
from bench.rows.row import Job, Row, Work, ends, fetched, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Objects that one call of `cat` fetches: it holds them in memory until it returns.
_BATCH, _LARGE_BATCH = 512, 4


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    import fsspec

    cache = f"{job.directory}/filecache"
    files = fsspec.filesystem(
        "filecache",
        target_protocol="s3",
        target_options={
            "client_kwargs": {"endpoint_url": job.endpoint},
            "config_kwargs": {"max_pool_connections": job.at_once, "s3": {"addressing_style": "path"}},
            "skip_instance_cache": True,
        },
        cache_storage=cache,
        skip_instance_cache=True,
    )
    files.cat([f"{job.bucket}/{job.warm_up_keys[0]}"])
    paths = {f"{job.bucket}/{key}": key for key in job.keys}
    if job.workload == "warm-bytes":
        for batch in _batches(paths, _BATCH):
            files.cat(batch)
        yield lambda: _read(files, paths)
        return
    sizes = {item.key: item.size for item in job.objects.items}

    def work() -> Work:
        for batch in _batches(paths, _LARGE_BATCH if job.workload == "large" else _BATCH):
            files.cat(batch)
        # The names of the files, as the cache's own rule makes them; looked up once, which costs next to nothing.
        kept = [Kept(key, sizes[key], None, str(Path(cache, files._mapper(path)))) for path, key in paths.items()]
        return fetched(kept, [])

    yield work


def _read(files: Any, paths: dict[str, str]) -> Work:
    tokens, size = dict[str, bytes](), 0
    for path, key in paths.items():
        with files.open(path, "rb") as file:
            body = file.read()
        tokens[key] = ends(body)
        size += len(body)
    return read(tokens, size, [])


def _batches(paths: dict[str, str], size: int) -> Iterator[list[str]]:
    left = iter(paths)
    while batch := list(islice(left, size)):
        yield batch


ROW = Row(
    name="s3fs",
    label="s3fs + fsspec filecache",
    open=_open,
    workloads=frozenset({"photos", "small", "large", "warm-bytes"}),
    packages=("fsspec", "s3fs"),
    does="no digest",
)
