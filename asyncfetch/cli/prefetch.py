"""`asyncfetch prefetch`: many objects into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, describe, human, on_loop
from asyncfetch.cli.planned import show
from asyncfetch.cli.progress import Progress
from asyncfetch.cli.wanted import asking
from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.jobs import Layout, Missing, Plan, Request, Wanted, find
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Unclear
    from asyncfetch.objects import ObjectStat, Report

KEPT = 1000  # names without an object that are told one by one


@command
@asking
def prefetch(
    options: Options,
    request: Request,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched.")] = False,
) -> int:
    """Fill the cache with a prefix, or with the objects that a file names, as it is read."""
    if dry_run:
        return on_loop(lambda: _look(options, request))
    lost = _Lost()

    async def run() -> Report:
        async with options.fetcher() as fetcher:
            with Progress("prefetch", quiet=options.quiet or options.json) as progress:
                sources = _sources(fetcher, request, progress, lost)
                async with fetcher.entries(sources, order="completion", on_error="yield") as stream:
                    async for item in stream:
                        progress.add(None if isinstance(item, Failure) else item.size)
                return stream.report()

    report = on_loop(run)
    failed = report.failed + lost.count
    failures = [*lost.failures, *report.failures][:KEPT]
    if options.json:
        options.out(
            summary(report)
            | {"missing": lost.missing, "ambiguous": lost.unclear}
            | {"failures": [describe(failure) for failure in failures]}
        )
    else:
        for failure in failures[:10]:
            options.say(f"asyncfetch: {failure.exception}")
        if failed > 10:
            options.say(f"asyncfetch: … and {failed - 10} more (--json lists the first thousand)")
        options.say(
            f"{report.objects:,} objects, {human(report.bytes)} in {report.seconds:.1f} s; "
            f"{report.downloaded:,} downloaded ({human(report.downloaded_bytes)}), "
            f"{report.hit_rate:.0%} were in the cache, {failed:,} failed."
        )
        if report.objects:
            options.say(str(report.verdict))
    return FAILED if failed else 0


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


class _Lost:
    """The names that were not fetched, because none or several objects answer to them."""

    def __init__(self) -> None:
        self.missing = self.unclear = 0
        self.failures: list[Failure] = []

    @property
    def count(self) -> int:
        """Of both kinds."""
        return self.missing + self.unclear

    def add(self, found: Missing | Unclear, prefix: str) -> None:
        """Counts one, and keeps the first of them."""
        name, number = found.row.name, self.count
        error: ObjectNotFound | UsageError
        if isinstance(found, Missing):
            self.missing += 1
            error = ObjectNotFound(name, f"no object under {prefix} has this name")
        else:
            self.unclear += 1
            several = ", ".join(found.uris[:3]) + (", …" if len(found.uris) > 3 else "")
            error = UsageError(f"{name}: {len(found.uris)} objects have it: {several}", remedy="Say --ambiguous.")
        if number < KEPT:
            self.failures.append(Failure(name, found.row.line - 1, None, "source", 0, error))


async def _sources(
    fetcher: Fetcher, request: Request, progress: Progress, lost: _Lost
) -> AsyncIterator[str | ObjectStat]:
    async for found in find(fetcher, request):
        progress.total = (progress.total or 0) + 1
        if isinstance(found, Wanted):
            yield found.listed or found.uri
        else:
            lost.add(found, request.prefix or "")
            progress.add(None)
