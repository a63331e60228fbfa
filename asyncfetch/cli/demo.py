"""`asyncfetch demo`: an S3 on this machine, real photographs in it, and the real engine reading them three times."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, describe, on_loop
from asyncfetch.cli.prefetch import summary
from asyncfetch.cli.progress import Progress
from asyncfetch.objects import Failure, Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Entry, Report
    from asyncfetch.streams import Stream
    from asyncfetch.testing import EmbeddedS3

BUCKET, REGION = "asyncfetch-demo", "us-east-1"
BAD = {"EmptyObject": 1, "UnsupportedFormat": 1}
UPLOADS = 16  # at once; the embedded server answers about 300 requests a second however many come

RUNS: tuple[tuple[str, Callable[[Fetcher], Stream[Entry | Failure] | Stream[Image | Failure]]], ...] = (
    ("cold", lambda fetcher: fetcher.entries(fetcher.list(f"s3://{BUCKET}/"), on_error="yield")),
    ("warm", lambda fetcher: fetcher.entries(fetcher.list(f"s3://{BUCKET}/"), on_error="yield")),
    ("warm, decoded", lambda fetcher: fetcher.images(fetcher.list(f"s3://{BUCKET}/"), on_error="yield")),
)


@command
def demo(
    options: Options,
    objects: Annotated[int, typer.Option(help="How many photographs to make.", min=1, max=100_000)] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cache directory behind.")] = False,
) -> int:
    """Watch real images come out of an S3 on this machine: cold, warm, and warm with decoding."""
    from asyncfetch.testing import EmbeddedS3, demo_objects

    directory = options.cache_dir or tempfile.mkdtemp(prefix="asyncfetch-demo-")
    made = options.cache_dir is None
    try:
        with EmbeddedS3() as server:
            options.say(f"An S3 of your own listens on {server.endpoint_url}.")
            _isolate(server)
            reports = on_loop(lambda: _show(options, server, directory, demo_objects(objects)))
    finally:
        if made and not keep:
            shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.out(
            {
                name: summary(report) | {"failures": [describe(failure) for failure in report.failures]}
                for name, report in reports
            }
        )
    elif not options.quiet:
        _print(reports)
        if keep or not made:
            print(f"The cache is left in {directory}: asyncfetch cache stats --cache-dir {directory}")
    # Two bad objects were put there on purpose; anything else that failed is a failure of the demo.
    return 0 if dict(reports[-1][1].failures_by_kind) == BAD and not reports[0][1].failed else FAILED


async def _show(
    options: Options, server: EmbeddedS3, directory: str, objects: Iterable[tuple[str, bytes]]
) -> list[tuple[str, Report]]:
    hidden = options.quiet or options.json
    with Progress("make photographs", quiet=hidden) as progress:
        await _fill(server, objects, progress=progress)
        total = progress.objects
    ours = replace(
        options, endpoint_url=server.endpoint_url, region=REGION, cache_dir=directory, profile=None, anonymous=False
    )
    reports: list[tuple[str, Report]] = []
    for name, open_stream in RUNS:
        async with ours.fetcher() as fetcher, open_stream(fetcher) as stream:
            with Progress(name, total=total, quiet=hidden) as progress:
                async for item in stream:
                    progress.add(None if isinstance(item, Failure) else _size(item))
            reports.append((name, stream.report()))
    return reports


def _size(item: Entry | Image) -> int:
    return item.entry.size if isinstance(item, Image) else item.size


def _isolate(server: EmbeddedS3) -> None:
    """Gives this process, which ends with the demo, the embedded server's keys and no others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID=server.credentials.access_key_id,
        AWS_SECRET_ACCESS_KEY=server.credentials.secret_access_key,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )


async def _fill(server: EmbeddedS3, objects: Iterable[tuple[str, bytes]], *, progress: Progress) -> None:
    """Uploads as the photographs are made; making them, on a thread, takes as long as storing them."""
    import aioboto3

    made, making = iter(objects), asyncio.Lock()
    async with aioboto3.Session().client("s3", region_name=REGION, endpoint_url=server.endpoint_url) as client:
        await client.create_bucket(Bucket=BUCKET)

        async def upload() -> None:
            while True:
                async with making:
                    item = await asyncio.to_thread(next, made, None)
                if item is None:
                    return
                key, body = item
                await client.put_object(Bucket=BUCKET, Key=key, Body=body)
                progress.add(len(body))

        async with asyncio.TaskGroup() as group:
            for _ in range(UPLOADS):
                group.create_task(upload())


def _print(reports: list[tuple[str, Report]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    # Narrow enough for a terminal of 80 columns, the longest kind of failure included.
    table = Table(title="One bucket, three passes", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("pass", "objects", "MB", "objects/s", "MB/s", "hit rate", "failures"):
        table.add_column(column, justify="left" if column in ("pass", "failures") else "right")
    for name, report in reports:
        table.add_row(
            name,
            f"{report.objects:,}",
            f"{report.bytes / 1e6:.1f}",
            f"{report.objects / report.seconds:,.0f}",
            f"{report.bytes / report.seconds / 1e6:,.1f}",
            f"{report.hit_rate:.0%}",
            "\n".join(f"{count} {kind}" for kind, count in sorted(report.failures_by_kind.items())) or "none",
        )
    console = Console()
    console.print(table)
    for failure in reports[-1][1].failures:
        console.print(f"A failure that stopped nothing, item {failure.index}: {failure.exception}", markup=False)
    for name, report in reports:
        console.print(f"{name}: {report.verdict}", markup=False)
