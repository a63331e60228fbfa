"""`asyncfetch prefetch`: many objects into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import aiofiles
import typer

from asyncfetch.cli.common import FAILED, Options, command, describe, human, on_loop
from asyncfetch.cli.progress import Progress
from asyncfetch.errors import UsageError
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import ObjectStat, Report

LINES = 1 << 16  # bytes of lines read in one hop to a thread


@command
def prefetch(
    options: Options,
    uri: Annotated[str | None, typer.Argument(help="A prefix: everything under it.")] = None,
    list_: Annotated[
        str | None, typer.Option("--from", help="A file of URIs, one a line, or - for standard input.")
    ] = None,
) -> int:
    """Fill the cache with a prefix, or with the objects that a file names."""
    if (uri is None) == (list_ is None):
        raise UsageError("Say what to fetch: a prefix, or --from FILE")

    async def run() -> Report:
        async with options.fetcher() as fetcher:
            with Progress("prefetch", quiet=options.quiet or options.json) as progress:
                sources = _listed(fetcher, uri, progress) if uri is not None else _lines(str(list_), progress)
                async with fetcher.entries(sources, order="completion", on_error="yield") as stream:
                    async for item in stream:
                        progress.add(None if isinstance(item, Failure) else item.size)
                return stream.report()

    report = on_loop(run)
    if options.json:
        options.out(summary(report) | {"failures": [describe(failure) for failure in report.failures]})
    else:
        for failure in report.failures[:10]:
            options.say(f"asyncfetch: {failure.exception}")
        if report.failed > 10:
            options.say(f"asyncfetch: … and {report.failed - 10} more (--json lists the first thousand)")
        options.say(
            f"{report.objects:,} objects, {human(report.bytes)} in {report.seconds:.1f} s; "
            f"{report.downloaded:,} downloaded ({human(report.downloaded_bytes)}), "
            f"{report.hit_rate:.0%} were in the cache, {report.failed:,} failed."
        )
        if report.objects:
            options.say(str(report.verdict))
    return FAILED if report.failed else 0


def summary(report: Report) -> dict[str, object]:
    """A report's figures, as JSON has them."""
    return {
        "objects": report.objects,
        "bytes": report.bytes,
        "downloaded": report.downloaded,
        "downloaded_bytes": report.downloaded_bytes,
        "hit_rate": round(report.hit_rate, 4),
        "failed": report.failed,
        "failures_by_kind": dict(report.failures_by_kind),
        "seconds": round(report.seconds, 3),
        "verdict": report.verdict._asdict(),
    }


async def _listed(fetcher: Fetcher, prefix: str, progress: Progress) -> AsyncIterator[ObjectStat]:
    async for stat in fetcher.list(prefix):
        if stat.uri.endswith("/") and not stat.size:
            continue  # the marker that a console leaves for an empty folder
        progress.total = (progress.total or 0) + 1
        yield stat


async def _lines(path: str, progress: Progress) -> AsyncIterator[str]:
    file = aiofiles.stdin if path == "-" else await aiofiles.open(path, encoding="utf-8")
    try:
        while lines := await file.readlines(LINES):
            for line in lines:
                if line := line.rstrip("\r\n"):
                    progress.total = (progress.total or 0) + 1
                    yield line
    finally:
        if path != "-":
            await file.close()
