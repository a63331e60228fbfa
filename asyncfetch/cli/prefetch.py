"""`asyncfetch prefetch`: many objects into the cache."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from asyncfetch.cli.common import FAILED, Options, command, describe, human, on_loop
from asyncfetch.cli.progress import Progress
from asyncfetch.errors import UsageError
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import ObjectStat, Report

T = TypeVar("T")

PIECE = 1 << 16  # bytes of lines read in one hop to a thread: what a pipe of Linux holds


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
    # Left open: when the run is interrupted a thread may still read it, and the process ends soon.
    descriptor = 0 if path == "-" else await _on_loose_thread(partial(os.open, path, os.O_RDONLY | os.O_CLOEXEC))
    rest = b""
    while piece := await _on_loose_thread(partial(os.read, descriptor, PIECE)):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if name := _name(line):
                progress.total = (progress.total or 0) + 1
                yield name
    if name := _name(rest):
        progress.total = (progress.total or 0) + 1
        yield name


def _name(line: bytes) -> str:
    # What is not UTF-8 can be the name of a file, and no other; whichever it is, it is this line's affair alone.
    return line.rstrip(b"\r").decode(errors="surrogateescape")


async def _on_loose_thread(function: Callable[[], T]) -> T:
    """Calls it on a thread that nobody waits for: a pipe may stay silent for ever, and Ctrl-C must end that too."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | OSError) -> None:
        if result.done():
            return
        if isinstance(outcome, OSError):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)

    def work() -> None:
        outcome: T | OSError
        try:
            outcome = function()
        except OSError as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the command was interrupted
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=work, name="asyncfetch-list", daemon=True).start()
    return await result
