"""`asyncfetch download`: many objects into a directory, planned first, and gone on with after whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import astuple
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from asyncfetch.cli.bulk import JOB, STOPPED, FailFast, Interrupts, MaxFailures, asked, limit, typed
from asyncfetch.cli.common import FAILED, Options, command, counted, human, on_loop
from asyncfetch.cli.common import told as as_told
from asyncfetch.cli.planned import show
from asyncfetch.cli.progress import Progress
from asyncfetch.cli.wanted import Paths, asking, empty
from asyncfetch.errors import AsyncfetchError, UsageError
from asyncfetch.jobs import (
    Chronicle,
    Convert,
    Directory,
    Download,
    Layout,
    Limit,
    Plan,
    Record,
    Request,
    find,
    pictures,
)
from asyncfetch.ledger import Ledger
from asyncfetch.presigned import redacted

if TYPE_CHECKING:
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Counts, Event, Tally, Way

_NAME = 30  # characters of the current file's name that are shown
_PANEL = "Where to"


@command
@asking
def download(
    options: Options,
    request: Request,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The directory for the files.", metavar="DIR", rich_help_panel=_PANEL)
    ],
    flatten: Annotated[
        bool,
        typer.Option(
            "--flatten", help="All files in one folder; what collides gets digits of its URI.", rich_help_panel=_PANEL
        ),
    ] = False,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            help="The path of each file, such as '{stem}-{digest:.8}{ext}'.",
            metavar="TEXT",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    place: Annotated[
        str,
        typer.Option(
            "--place",
            help="How files come from the cache: auto (shared where it can be), link or copy.",
            metavar="HOW",
            rich_help_panel=_PANEL,
        ),
    ] = "auto",
    convert: Annotated[
        str | None,
        typer.Option("--convert", help="Make jpg, png or webp of images.", metavar="FORMAT", rich_help_panel=_PANEL),
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(
            "--max-side", help="With --convert: shrink what is longer.", metavar="PIXELS", rich_help_panel=_PANEL
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            help="With --convert: of jpg and webp, 1 to 100.",
            metavar="N",
            show_default="90",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it begins.", rich_help_panel=JOB)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and leave.", rich_help_panel=JOB)
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read all files of earlier runs again, and mend them.", rich_help_panel=JOB),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in earlier runs.", rich_help_panel=JOB)
    ] = False,
    fail_fast: FailFast = False,
    max_failures: MaxFailures = None,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove files whose objects are gone from the prefix.", rich_help_panel=JOB),
    ] = False,
) -> int:
    """Fetch a prefix, or the objects that a file names, into a directory.

    It says what it found, and asks before it begins. Run again, it goes on where it ended.

    Exit codes: 0 all is there, 1 some objects failed or are missing, 2 wrong use,
    3 stopped before its end (failures, credentials, a full disk), 130 interrupted.
    """
    if delete and (not request.lists or request.selection):
        raise UsageError("--delete mirrors a whole prefix", remedy="Name a prefix alone, without names or --include.")
    most = limit(max_failures, fail_fast=fail_fast)
    for name, value in (("--max-side", max_side), ("--quality", quality)):
        if convert is None and value is not None:
            raise UsageError(f"{name} is for --convert", remedy="Say --convert jpg, png or webp.")
    made = None
    if convert is not None:
        made = Convert(convert, max_side) if quality is None else Convert(convert, max_side, quality)
    layout = Layout(flatten, template, None if made is None else made.ext)
    directory = Directory(output, cast("Way", place))
    job = _Job(options, request, layout, directory, most, made, yes=yes, dry_run=dry_run, delete=delete)
    return on_loop(lambda: job.run(verify=verify, retry_failed=retry_failed))


class _Job:
    """One run of the command."""

    def __init__(
        self,
        options: Options,
        request: Request,
        layout: Layout,
        directory: Directory,
        limit: Limit,
        convert: Convert | None,
        *,
        yes: bool,
        dry_run: bool,
        delete: bool,
    ) -> None:
        self._options, self._request, self._layout = options, request, layout
        self._directory, self._limit, self._convert = directory, limit, convert
        self._yes, self._dry_run, self._delete = yes, dry_run, delete
        self._interrupts = Interrupts(options)
        self._paths = Paths()

    async def run(self, *, verify: bool, retry_failed: bool) -> int:
        options, root = self._options, self._directory.root
        kept = {"flatten": self._layout.flat, "template": self._layout.template}
        kept["convert"] = None if self._convert is None else " ".join(map(str, astuple(self._convert)))
        with contextlib.ExitStack() as opened:
            opened.enter_context(self._directory)
            record = opened.enter_context(Record(root / "ledger.jsonl", kept))
            plan = opened.enter_context(Plan(self._layout, mirrored=self._request.prefix if self._delete else None))
            async with options.fetcher() as fetcher:
                options.say(f"{root}: looking for what there is to do …")
                await plan.build(
                    find(fetcher, self._request),
                    record.read(),
                    self._directory,
                    missing=root / "missing.csv",
                    verify=verify,
                    retry_failed=retry_failed,
                )
                self._check(plan.counts)
                show(
                    options, self._request, plan.counts, lanes=fetcher.settings.network.concurrency, delete=self._delete
                )
                if record.damaged:
                    damaged = counted(record.damaged, "damaged line")
                    options.warn(f"the ledger has {damaged}; what they tell of is looked at anew")
                if lost := plan.counts.missing + plan.counts.unclear:
                    options.warn(f"{counted(lost, 'name')} without just one object: see {root / 'missing.csv'}")
                if self._dry_run or not self._asked(plan.counts):
                    return 0
                failures = opened.enter_context(Ledger(root / "failures.jsonl"))
                chronicle = opened.enter_context(Chronicle(root, redacted(typed())))
                tally = await self._fetch(fetcher, plan, record, failures, chronicle)
                try:
                    shown = [(root / path, path) for path in chronicle.pictures]
                    sheet = [picture async for picture in pictures(fetcher, shown)]
                    await asyncio.to_thread(chronicle.finish, plan.counts, tally, fetcher.stats(), sheet)
                except (AsyncfetchError, OSError) as error:  # of the disk that is full, too: the job is what counts
                    print(f"asyncfetch: there is no report: {as_told(error)}", file=sys.stderr)
        if chronicle.broken is not None:
            print(f"asyncfetch: the log ends early: {as_told(chronicle.broken)}", file=sys.stderr)
        return self._sum_up(plan.counts, tally)

    async def _fetch(
        self, fetcher: Fetcher, plan: Plan, record: Record, failures: Ledger, chronicle: Chronicle
    ) -> Tally:
        options, counts = self._options, plan.counts
        current = ""

        def detail() -> str:
            return f"{fetcher.stats().lanes_busy} at once  {current[-_NAME:]}"

        quiet = options.quiet or options.json
        with Progress("download", total=counts.todo, quiet=quiet, detail=detail) as progress:

            def told(event: Event) -> None:
                nonlocal current
                outcome = event.outcome
                current = outcome.path or outcome.uri
                chronicle.note(event)
                progress.add(None if outcome.error else outcome.size)
                if outcome.error:
                    self._paths.failed(outcome.uri, outcome.error)
                if options.json:
                    options.event({"event": "failed" if outcome.error else "file", **_said(event)})

            job = Download(
                fetcher,
                plan,
                self._directory,
                record,
                failures,
                self._layout,
                limit=self._limit,
                convert=self._convert,
                told=told,
            )
            with self._interrupts.lead_to(job.stop):
                tally = await job.run()
            if self._delete and tally.stopped is None:
                await asyncio.to_thread(job.remove_gone)
        return tally

    def _check(self, counts: Counts) -> None:
        if not counts.rows:
            raise empty(self._request)
        if self._request.prefix is not None and not self._request.lists and counts.missing == counts.rows:
            raise UsageError(
                f"No object under {self._request.prefix} answers to any of {counted(counts.rows, 'name')}",
                remedy="Check the prefix and --match.",
            )

    def _asked(self, counts: Counts) -> bool:
        """Whether to go on."""
        if self._yes or not (counts.todo or (self._delete and counts.gone)):
            return True
        return asked(self._options, "Nothing was fetched.")

    def _sum_up(self, counts: Counts, tally: Tally) -> int:
        options = self._options
        lost = counts.missing + counts.unclear + counts.failed_before
        left = counts.todo - tally.files - tally.failed
        if options.json:
            options.event(
                {"event": "end", "files": tally.files, "bytes": tally.bytes, "downloaded": tally.downloaded}
                | {"downloaded_bytes": tally.downloaded_bytes, "failed": tally.failed, "removed": tally.removed}
                | {"failures_by_kind": dict(tally.kinds), "seconds": round(tally.seconds, 3), "left": left}
                | {"stopped": tally.stopped}
            )
        removed = f", {tally.removed:,} removed" if tally.removed else ""
        options.say(
            f"{counted(tally.files, 'file')}, {human(tally.bytes)} in {tally.seconds:.1f} s; "
            f"{tally.downloaded:,} downloaded ({human(tally.downloaded_bytes)}), "
            f"{counts.done:,} were there, {tally.failed:,} failed{removed}."
        )
        if tally.failed:
            what = counted(tally.failed, "object")
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in tally.kinds.most_common(3))
            more = ", …" if len(tally.kinds) > 3 else ""
            options.warn(f"{what} failed ({kinds}{more}): see {self._directory.root / 'failures.jsonl'}")
            if not (tally.files or counts.done):
                self._paths.hint(options, self._request, tally.failed)
        if tally.stopped is not None:
            print(f"asyncfetch: {tally.stopped.rstrip('.')}. Left: {counted(left, 'object')}.", file=sys.stderr)
            options.say(f"to go on: {typed()}")
        self._interrupts.check()
        if tally.stopped is not None:
            return STOPPED
        return FAILED if tally.failed or lost else 0


def _said(event: Event) -> dict[str, Any]:
    """An outcome as JSON has it."""
    values = {name: value for name, value in event.outcome._asdict().items() if value is not None}
    values.pop("stamp")
    return values | {"from_cache": event.from_cache}
