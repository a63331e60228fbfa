"""`asyncfetch prefetch`: many objects into the cache."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.bulk import JOB, STOPPED, FailFast, Interrupts, MaxFailures, limit, typed
from asyncfetch.cli.common import FAILED, Options, command, counted, describe, human, on_loop
from asyncfetch.cli.planned import show
from asyncfetch.cli.progress import Progress
from asyncfetch.cli.wanted import Paths, asking, empty
from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.jobs import TOO_MANY, Layout, Limit, Missing, Plan, Request, Wanted, find, is_its_own
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch import Stream
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Unclear
    from asyncfetch.objects import Entry, ObjectStat, Report

KEPT = 1000  # failures that are told one by one


@command
@asking
def prefetch(
    options: Options,
    request: Request,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched.", rich_help_panel=JOB)] = False,
    fail_fast: FailFast = False,
    max_failures: MaxFailures = None,
) -> int:
    """Fill the cache with a prefix, or with the objects that a file names, as it is read.

    Run again, it goes on where it ended: what is in the cache is not fetched twice.

    Exit codes: 0 all is there, 1 some objects failed or are missing, 2 wrong use,
    3 stopped before its end (failures, credentials, a full disk), 130 interrupted.
    """
    most = limit(max_failures, fail_fast=fail_fast)
    if dry_run:
        return on_loop(lambda: _look(options, request))
    interrupts = Interrupts(options)
    run = _Run(options, request, most)
    report = on_loop(lambda: run.run(interrupts))
    run.tell(report)
    interrupts.check()
    if run.stopped is not None:
        return STOPPED
    return FAILED if run.failed else 0


async def _look(options: Options, request: Request) -> int:
    """Plans, and shows the plan."""
    async with options.fetcher() as fetcher:
        with Plan(Layout()) as plan:
            await plan.build(find(fetcher, request), [], None)
            show(options, request, plan.counts, lanes=fetcher.settings.network.concurrency)
            return FAILED if plan.counts.missing or plan.counts.unclear else 0


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


class _Run:
    """One run: what failed in it, what had no object, and why it ended before its end, if it did."""

    def __init__(self, options: Options, request: Request, most: Limit) -> None:
        self.failed = 0
        self.stopped: str | None = None
        self._options, self._request, self._most = options, request, most
        self._rows = self._missing = self._unclear = 0
        self._failures: list[Failure] = []
        self._paths = Paths()

    async def run(self, interrupts: Interrupts) -> Report:
        """Fetches until all is there, or it is stopped; what is in flight then is finished."""
        task = asyncio.current_task()
        assert task is not None
        left = False  # it was waiting for the list alone, which may be a pipe that stays silent

        def interrupt(why: str) -> None:
            nonlocal left
            self._stop(why)
            if self._is_idle(progress):
                left = True
                task.cancel()

        async with self._options.fetcher() as fetcher:
            with (
                Progress("prefetch", quiet=self._options.quiet or self._options.json) as progress,
                interrupts.lead_to(interrupt),
            ):
                sources = self._sources(fetcher, progress)
                stream = fetcher.entries(sources, order="completion", on_error="yield")
                try:
                    async with stream:
                        await self._consume(stream, progress)
                except asyncio.CancelledError:
                    if not left:
                        raise
                    task.uncancel()
                report = stream.report()
        if not self._rows and self.stopped is None:
            raise empty(self._request)
        if self._most.exceeded(self.failed, report.objects + self.failed, ended=True):
            self._stop(TOO_MANY)
        return report

    async def _consume(self, stream: Stream[Entry | Failure], progress: Progress) -> None:
        async for item in stream:
            if not isinstance(item, Failure):
                progress.add(item.size)
            elif is_its_own(item.exception):
                self._fail(item)
                progress.add(None)
            else:  # no other object would fare better, so it is nobody's failure
                self._stop(str(item.exception))
                break
            if self._most.exceeded(self.failed, progress.objects + self.failed, ended=False):
                self._stop(TOO_MANY)
            if self.stopped is not None and self._is_idle(progress):
                break

    def tell(self, report: Report) -> None:
        """Says what came of it, to people or to programs."""
        options = self._options
        if options.json:
            options.out(
                summary(report)
                | {"failed": self.failed - self._missing - self._unclear}
                | {"missing": self._missing, "ambiguous": self._unclear}
                | {"failures": [describe(failure) for failure in self._failures], "stopped": self.stopped}
            )
        for failure in self._failures[:10]:
            options.warn(str(failure.exception))
        if self.failed > 10:
            options.warn(f"… and {self.failed - 10} more (--json lists the first thousand)")
        if not report.objects:
            self._paths.hint(options, self._request, self.failed)
        options.say(
            f"{counted(report.objects, 'object')}, {human(report.bytes)} in {report.seconds:.1f} s; "
            f"{report.downloaded:,} downloaded ({human(report.downloaded_bytes)}), "
            f"{report.hit_rate:.0%} were in the cache, {self.failed:,} failed."
        )
        if report.objects:
            options.say(str(report.verdict))
        if self.stopped is not None:
            print(f"asyncfetch: {self.stopped.rstrip('.')}.", file=sys.stderr)
            options.say(f"to go on: {typed()}")

    async def _sources(self, fetcher: Fetcher, progress: Progress) -> AsyncIterator[str | ObjectStat]:
        async for found in find(fetcher, self._request):
            if self.stopped is not None:
                return
            self._rows += 1
            progress.total = self._rows
            if isinstance(found, Wanted):
                yield found.listed or found.uri
            else:
                self._lose(found)
                progress.add(None)

    def _is_idle(self, progress: Progress) -> bool:
        """Whether all that the list has named so far has come to its end."""
        return progress.objects + progress.failed >= self._rows

    def _stop(self, why: str) -> None:
        """Asks for no more objects. The first reason is the one that is told."""
        self.stopped = self.stopped or why

    def _fail(self, failure: Failure) -> None:
        self.failed += 1
        self._paths.failed(failure.uri, type(failure.exception).__name__)
        if len(self._failures) < KEPT:
            self._failures.append(failure)

    def _lose(self, found: Missing | Unclear) -> None:
        """Counts a name that none or several objects answer to."""
        name = found.row.name
        error: ObjectNotFound | UsageError
        if isinstance(found, Missing):
            self._missing += 1
            error = ObjectNotFound(name, f"no object under {self._request.prefix} has this name")
        else:
            self._unclear += 1
            several = ", ".join(found.uris[:3]) + (", …" if len(found.uris) > 3 else "")
            error = UsageError(f"{name}: {len(found.uris)} objects have it: {several}", remedy="Say --ambiguous.")
        self._fail(Failure(name, found.row.line - 1, None, "source", 0, error))
