"""obstore (Rust) in a bare loop, with digest, write and rename. And its listing."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.keep import Keep
from bench.names import ACCESS_KEY, REGION, SECRET_KEY
from bench.rows.row import Job, Row, Work, fetched, in_tasks, listed, on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from obstore.store import ClientConfig

_WHOLE = 1 << 20  # bytes up to which a body is taken as a whole
_PIECE = 1 << 20  # bytes of a larger one that come at once; 4 or 8 MiB were slower here and held more memory


@asynccontextmanager
async def _open(job: Job) -> AsyncIterator[Callable[[], Awaitable[Work]]]:
    from obstore.store import S3Store

    client: ClientConfig = {"allow_http": True}
    if job.authority is not None:
        client["root_certificate"] = Path(job.authority).read_bytes()
    store = S3Store(
        job.bucket,
        endpoint=job.endpoint,
        region=REGION,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        virtual_hosted_style_request=False,
        client_options=client,
    )
    if job.workload == "list":
        yield lambda: _list(store)
        return
    await (await store.get_async(job.warm_up_keys[0])).bytes_async()
    yield lambda: _fetch(store, job)


async def _fetch(store: Any, job: Job) -> Work:
    keep = Keep(job.directory)

    async def one(key: str) -> None:
        answer = await store.get_async(key)
        if answer.meta["size"] <= _WHOLE:
            keep.put(key, memoryview(await answer.bytes_async()))
            return
        with keep.begin(key) as file:
            async for piece in answer.stream(min_chunk_size=_PIECE):
                file.write(memoryview(piece))

    errors = await in_tasks(job.keys, job.at_once, one)
    return fetched(keep.kept, errors)


async def _list(store: Any) -> Work:
    found: list[tuple[str, int]] = []
    async for page in store.list(chunk_size=1000):
        found += [(entry["path"], entry["size"]) for entry in page]
    return listed(found)


ROW = Row(
    name="obstore",
    label="obstore in a loop",
    open=on_loop(_open),
    workloads=frozenset({"photos", "small", "large", "list"}),
    packages=("obstore",),
)
