"""`asyncfetch thumbnails`: small pictures of all images under a prefix, beside them or elsewhere, and metadata."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.bulk import STOPPED, Interrupts, asked, typed
from asyncfetch.cli.common import FAILED, Options, command, counted, describe, human, on_loop
from asyncfetch.cli.progress import Progress
from asyncfetch.cli.wanted import asking
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Limit, Request

if TYPE_CHECKING:
    from typing import Unpack

    from asyncfetch.toolbox.originals import WorkCounts
    from asyncfetch.toolbox.thumbnails import Made, ThumbnailOptions, Told

_WHERE, _HOW, _JOB, _DATA = "Where to", "How", "The job", "Metadata"
_SHOWN = 10  # failures that are told one by one


@command
@asking
def thumbnails(
    options: Options,
    request: Request,
    suffix: Annotated[
        str, typer.Option("--suffix", help="What replaces the extension.", rich_help_panel=_WHERE)
    ] = "_thumb.webp",
    to: Annotated[str | None, typer.Option("--to", help="Another prefix in S3.", rich_help_panel=_WHERE)] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A directory of this machine.", rich_help_panel=_WHERE)
    ] = None,
    max_side: Annotated[int, typer.Option("--max-side", help="Pixels of the longer side.", rich_help_panel=_HOW)] = 256,
    quality: Annotated[int, typer.Option("--quality", help="Of jpg and webp, to 100.", rich_help_panel=_HOW)] = 80,
    metadata: Annotated[
        str | None, typer.Option("--metadata", help="A file for a line of JSON an image.", rich_help_panel=_DATA)
    ] = None,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Make no thumbnails.", rich_help_panel=_DATA)
    ] = False,
    gallery: Annotated[
        str | None, typer.Option("--gallery", help="A page of HTML that shows all.", rich_help_panel=_DATA)
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what is there, such as in another size.", rich_help_panel=_JOB)
    ] = False,
    max_failures: Annotated[
        str | None, typer.Option("--max-failures", help="Stop after more: 10, or 2%.", rich_help_panel=_JOB)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel=_JOB)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.", rich_help_panel=_JOB)] = False,
) -> int:
    """Make thumbnails of a prefix's images, or of those of a list, and write them beside the originals.

    It says what it found and asks before it begins. Run again, it goes on where it ended. Exit codes: 0 all is there;
    1 some images failed, or were not found; 2 wrong use; 3 stopped before its end (credentials, no permission to
    write, a full disk, too many failures); 130 interrupted.
    """
    job = _Job(options, request, yes=yes, dry_run=dry_run)
    return on_loop(
        lambda: job.run(
            suffix=suffix,
            to=to,
            output=output,
            max_side=max_side,
            quality=quality,
            metadata=metadata,
            metadata_only=metadata_only,
            gallery=gallery,
            again=again,
            max_failures=None if max_failures is None else Limit.parse(max_failures),
        )
    )


class _Job:
    """One run of the command."""

    def __init__(self, options: Options, request: Request, *, yes: bool, dry_run: bool) -> None:
        self._options, self._request, self._yes, self._dry_run = options, request, yes, dry_run
        self._interrupts = Interrupts(options)
        self._progress: Progress | None = None
        self._failed: list[str] = []

    async def run(self, **how: Unpack[ThumbnailOptions]) -> int:
        from asyncfetch.toolbox.thumbnails import prepared

        options = self._options
        async with options.fetcher() as fetcher:
            options.say("looking for what there is to do …")
            async with prepared(fetcher, self._request, **how | {"told": self._told}) as job:
                counts = job.counts
                self._check(counts)
                self._show(counts)
                if self._dry_run or not self._asked(counts):
                    return 0
                quiet = options.quiet or options.json
                with self._interrupts.lead_to(job.stop):
                    with Progress("thumbnails", total=counts.todo, quiet=quiet) as self._progress:
                        tally = await job.run()
                    if how.get("gallery") is not None:
                        options.say(f"writing {how['gallery']} …")
                    await job.finish()
        return self._sum_up(counts, tally)

    def _show(self, counts: WorkCounts) -> None:
        options = self._options
        if options.json:
            options.event({"event": "plan", **asdict(counts)})
            return
        options.say(f"originals     {counts.originals:>12,}")
        options.say(f"thumbnails    {counts.thumbnails:>12,}  there")
        options.say(f"already done  {counts.done:>12,}")
        for word, count, names in (
            ("missing  ", counts.missing, counts.missing_names),
            ("ambiguous", counts.unclear, counts.unclear_names),
        ):
            if count:
                options.say(f"{word}     {count:>12,}  {', '.join(names)}{', …' if count > len(names) else ''}")
        if counts.others:
            options.say(f"not images    {counts.others:>12,}  by their names")
        options.say(f"to read       {counts.todo:>12,}  {human(counts.bytes)}")

    def _asked(self, counts: WorkCounts) -> bool:
        """Whether to go on."""
        if self._yes or not counts.todo:
            return True
        return asked(self._options, "Nothing was made.")

    def _check(self, counts: WorkCounts) -> None:
        if not counts.originals:
            what = self._request.rows or self._request.prefix or "The list"
            raise UsageError(f"{what} has no objects to read", remedy="Check it, and the globs.")

    def _told(self, told: Told) -> None:
        failure = told.failure
        if self._progress is not None:
            self._progress.add(None if failure else told.bytes)
        if failure is not None and len(self._failed) < _SHOWN:
            self._failed.append(str(failure.exception))
        if self._options.json:
            line = {"event": told.word, "uri": told.uri}
            rest = {"thumbnail": told.target, "bytes": told.bytes} if failure is None else describe(failure)
            self._options.event(line | rest)

    def _sum_up(self, counts: WorkCounts, tally: Made) -> int:
        options, left, failed = self._options, counts.todo - tally.outcomes, self._failed
        if options.json:
            options.event({"event": "end", **asdict(tally), "kinds": dict(tally.kinds), "left": left})
        for message in failed:
            options.warn(message)
        if tally.failed > len(failed):
            options.warn(f"… and {tally.failed - len(failed)} more (--json tells all)")
        options.say(
            f"{tally.made:,} thumbnails, {human(tally.made_bytes)} in {tally.seconds:.1f} s; "
            f"{counts.done + tally.there:,} were there, {tally.measured:,} only measured, {tally.failed:,} failed"
            + (f", {others:,} are not images." if (others := counts.others + tally.others) else ".")
        )
        if tally.stopped is not None:
            print(f"asyncfetch: {tally.stopped.rstrip('.')}. Left: {counted(left, 'image')}.", file=sys.stderr)
            options.say(f"to go on: {typed()}")
        self._interrupts.check()
        if tally.stopped is not None:
            return STOPPED
        return FAILED if tally.failed or counts.missing or counts.unclear else 0
