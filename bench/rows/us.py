"""asyncfetch itself, as its users call it."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from blake3 import blake3

from bench.keep import Kept
from bench.names import REGION
from bench.rows import training
from bench.rows.beginning import US, beginning
from bench.rows.row import Job, Row, Work, decoded, ends, fetched, in_tasks, listed, on_loop, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from asyncfetch import Fetcher

    Doing = Callable[[Fetcher, Job], Awaitable[Work]]


@asynccontextmanager
async def _open(
    job: Job, *, doing: Mapping[str, Doing], origin: Literal["native", "boto"] = "native"
) -> AsyncIterator[Callable[[], Awaitable[Work]]]:
    work = doing[job.workload]
    warm = job.workload in ("warm-entries", "warm-bytes", "images-warm", "batches-warm")
    if warm:
        async with _fetcher(job, origin) as fetcher:
            report = await fetcher.prefetch(_uris(job, job.keys))
            if report.failed:
                raise RuntimeError(f"the cache could not be filled: {report.failures[0].exception!r}")
    options: dict[str, Any] = {"revalidate": "never"} if warm else {}
    if job.workload == "images-mixed":
        options["memory_budget"] = "64MiB"
    async with _fetcher(job, origin, **options) as fetcher:
        if job.workload != "list":
            await fetcher.fetch(_uris(job, job.warm_up_keys[:1])[0])
        if job.workload.startswith(("images", "batches")):
            # Enough of them that each worker has started and decoded.
            async for _ in fetcher.images(_uris(job, job.warm_up_keys) * 4 * job.workers):
                pass
        yield lambda: work(fetcher, job)


def _fetcher(job: Job, origin: Literal["native", "boto"], **options: Any) -> Fetcher:
    from asyncfetch import Access, Fetcher

    return Fetcher(
        access=Access(origin=origin),
        cache_dir=f"{job.directory}/cache",
        concurrency=job.at_once,
        endpoint_url=job.endpoint,
        region=REGION,
        workers=job.workers,
        **options,
    )


def _uris(job: Job, keys: list[str]) -> list[str]:
    return [f"s3://{job.bucket}/{key}" for key in keys]


async def _entries(fetcher: Fetcher, job: Job) -> Work:
    from asyncfetch import Failure

    kept, errors = [], []
    keys = job.keys
    async for entry in fetcher.entries(_uris(job, keys), order="completion", on_error="yield"):
        if isinstance(entry, Failure):
            errors.append(repr(entry.exception))
        else:
            digest = entry.digest and entry.digest.partition(":")[2]
            kept.append(Kept(keys[entry.index], entry.size, digest, entry.filename))
    return fetched(kept, errors)


async def _bytes(fetcher: Fetcher, job: Job) -> Work:
    tokens, size = dict[str, bytes](), 0

    async def one(key: str) -> None:
        nonlocal size
        body = await fetcher.read_bytes(f"s3://{job.bucket}/{key}")
        tokens[key] = ends(body)
        size += len(body)

    errors = await in_tasks(job.keys, job.at_once, one)
    return read(tokens, size, errors)


async def _bodies(fetcher: Fetcher, job: Job) -> Work:
    from asyncfetch import Failure

    tokens, size, errors = dict[str, bytes](), 0, []
    keys = job.keys
    async for body in fetcher.bytes(_uris(job, keys), order="completion", on_error="yield"):
        if isinstance(body, Failure):
            errors.append(repr(body.exception))
            continue
        tokens[keys[body.index]] = ends(body.data)
        size += len(body.data)
    return read(tokens, size, errors)


async def _files(fetcher: Fetcher, job: Job) -> Work:
    from asyncfetch import Failure

    tokens, size, errors = dict[str, bytes](), 0, []
    keys = job.keys
    async for entry in fetcher.entries(_uris(job, keys), on_error="yield"):
        if isinstance(entry, Failure):
            errors.append(repr(entry.exception))
            continue
        with open(entry.filename, "rb", buffering=0) as file:  # noqa: PTH123 (a Path costs as much as the look-up)
            body = file.read()
        tokens[keys[entry.index]] = ends(body)
        size += len(body)
    return read(tokens, size, errors)


async def _images(fetcher: Fetcher, job: Job) -> Work:
    from asyncfetch import Failure

    lines, size, errors = dict[str, bytes](), 0, []
    keys = job.keys
    async for image in fetcher.images(_uris(job, keys), on_error="yield"):
        if isinstance(image, Failure):
            errors.append(repr(image.exception))
        else:
            lines[keys[image.index]] = image.pixels[image.pixels.shape[0] // 2].tobytes()
            size += image.pixels.nbytes
    return decoded(lines, size, errors)


async def _mixed(fetcher: Fetcher, job: Job) -> Work:
    tokens, size = dict[str, str](), 0
    keys = job.keys
    async for image in fetcher.images(_uris(job, keys)):
        line = image.pixels[image.pixels.shape[0] // 2].tobytes()
        tokens[keys[image.index]] = blake3(line).hexdigest()  # the lines themselves would be most of the memory
        size += image.pixels.nbytes
        del image
    return Work(len(tokens), size, [], tokens.items)


async def _batches(fetcher: Fetcher, job: Job) -> Work:
    lines, size = dict[str, bytes](), 0
    keys = job.keys
    # A failure raises: it would leave a hole in its batch.
    async for batch in fetcher.images(_uris(job, keys), size=training.SIZE, fit="exact").batch(training.BATCH):
        lines |= training.lines([keys[index] for index in batch.indices], batch.pixels)
        size += batch.pixels.nbytes
    return decoded(lines, size, [])


async def _list(fetcher: Fetcher, job: Job) -> Work:
    prefix = f"s3://{job.bucket}/"
    return listed([(stat.uri[len(prefix) :], stat.size) async for stat in fetcher.list(prefix)])


_WORK = {
    "photos": _entries,
    "small": _entries,
    "large": _entries,
    "warm-entries": _entries,
    "warm-bytes": _bytes,
    "images-warm": _images,
    "images-cold": _images,
    "images-mixed": _mixed,
    "batches-warm": _batches,
    "batches-cold": _batches,
    "list": _list,
}


@contextmanager
def _opened(job: Job) -> Iterator[Callable[[], Work]]:
    opening = beginning(US) if job.workload == "first-batch" else on_loop(partial(_open, doing=_WORK))
    with opening(job) as work:
        yield work


ROW = Row(name="us", label="asyncfetch", open=_opened, workloads=frozenset({*_WORK, "first-batch"}))
_FILES = {"warm-bytes": _files}
FILES = Row(
    name="us-files",
    label="asyncfetch, entries read by their user",
    open=on_loop(partial(_open, doing=_FILES)),
    workloads=frozenset(_FILES),
)
_BODIES = {"warm-bytes": _bodies}
BODIES = Row(
    name="us-bodies",
    label="asyncfetch, a stream of bodies",
    open=on_loop(partial(_open, doing=_BODIES)),
    workloads=frozenset(_BODIES),
)
# The engine and the cache over aioboto3: what is left between this and the first row is the native origin's doing.
_READING = {name: _WORK[name] for name in ("photos", "small", "large", "list")}
REFERENCE = Row(
    name="us-boto",
    label='asyncfetch with origin="boto"',
    open=on_loop(partial(_open, doing=_READING, origin="boto")),
    workloads=frozenset(_READING),
)
