"""`asyncfetch thumbnails`: small pictures of all images under a prefix, beside them or elsewhere, and metadata."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.bulk import Interrupts, asked, typed
from asyncfetch.cli.common import FAILED, Options, command, describe, human, on_loop
from asyncfetch.cli.download import STOPPED
from asyncfetch.cli.progress import Progress
from asyncfetch.errors import UsageError
from asyncfetch.jobs import selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Selection
    from asyncfetch.toolbox.targets import Target
    from asyncfetch.toolbox.thumbnails import Made, Told
    from asyncfetch.toolbox.wishes import WorkCounts

_WHERE, _HOW, _JOB, _DATA = "Where to", "How", "The job", "Metadata"


@command
def thumbnails(
    options: Options,
    prefix: Annotated[str, typer.Argument(help="Everything under it.")],
    suffix: Annotated[
        str, typer.Option("--suffix", help="What replaces the extension.", rich_help_panel=_WHERE)
    ] = "_thumb.webp",
    to: Annotated[str | None, typer.Option("--to", help="Another prefix in S3.", rich_help_panel=_WHERE)] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A directory of this machine.", rich_help_panel=_WHERE)
    ] = None,
    max_side: Annotated[int, typer.Option("--max-side", help="Pixels of the longer side.", rich_help_panel=_HOW)] = 256,
    quality: Annotated[int, typer.Option("--quality", help="Of jpg and webp, to 100.", rich_help_panel=_HOW)] = 80,
    include: Annotated[list[str] | None, typer.Option("--include", help="Globs, such as '*.jpg'; only these.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Globs; not these.")] = None,
    newer_than: Annotated[str | None, typer.Option("--newer-than", help="A date or a duration, such as 7d.")] = None,
    metadata: Annotated[
        str | None, typer.Option("--metadata", help="A file for a line of JSON an image.", rich_help_panel=_DATA)
    ] = None,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Make no thumbnails.", rich_help_panel=_DATA)
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what is there, such as in another size.", rich_help_panel=_JOB)
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel=_JOB)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.", rich_help_panel=_JOB)] = False,
) -> int:
    """Make thumbnails of a prefix's images, and write them beside the originals.

    It says what it found and asks before it begins. Run again, it goes on where it ended. Exit codes: 0 all is there;
    1 some images failed; 2 wrong use; 3 stopped before its end (credentials, no permission to write, a full disk);
    130 interrupted.
    """
    from asyncfetch.decode import Encoding
    from asyncfetch.decode.measuring import Making

    if max_side < 1:
        raise UsageError(f"--max-side must be pixels, at least 1, not {max_side}")
    if metadata_only and metadata is None:
        raise UsageError("--metadata-only makes nothing but metadata", remedy="Say --metadata FILE.")
    if to is not None and output is not None:
        raise UsageError("--to and --output are two places", remedy="Say one of them.")
    if "/" in suffix or not Path(f"x{suffix}").suffix:
        raise UsageError(f"--suffix {suffix!r} ends no name", remedy="Write such as _thumb.webp.")
    encoding = None if metadata_only else Encoding(Path(f"x{suffix}").suffix.lower(), quality)
    chosen = selection(include=include or (), exclude=exclude or (), newer_than=newer_than)
    job = _Job(options, prefix, suffix, to, output, chosen, Making(encoding, max_side, metadata is not None), metadata)
    return on_loop(lambda: job.run(again=again, yes=yes, dry_run=dry_run))


class _Job:
    """One run of the command."""

    def __init__(
        self,
        options: Options,
        prefix: str,
        suffix: str,
        to: str | None,
        output: str | None,
        chosen: Selection,
        making: object,
        metadata: str | None,
    ) -> None:
        from asyncfetch.decode.measuring import Making

        assert isinstance(making, Making)
        self._options, self._prefix, self._suffix, self._to, self._output = options, prefix, suffix, to, output
        self._selection, self._making, self._metadata = chosen, making, metadata
        self._interrupts = Interrupts(options)

    async def run(self, *, again: bool, yes: bool, dry_run: bool) -> int:
        from asyncfetch.toolbox.metadata import MetadataFile
        from asyncfetch.toolbox.targets import Beside
        from asyncfetch.toolbox.wishes import Wishes

        async with self._options.fetcher() as fetcher, self._target(fetcher, again=again) as target:
            with contextlib.ExitStack() as opened:
                metadata = None if self._metadata is None else opened.enter_context(MetadataFile(self._metadata))
                wishes = opened.enter_context(Wishes(target))
                self._options.say(f"{self._prefix}: looking for what there is to do …")
                await wishes.build(
                    fetcher,
                    self._prefix,
                    self._selection,
                    elsewhere=target.to if isinstance(target, Beside) else None,
                    measured=None if metadata is None else metadata.measured(),
                    again=again,
                )
                counts = wishes.counts
                if not counts.originals:
                    raise UsageError(f"{self._prefix} has no objects to read", remedy="Check it, and the globs.")
                self._show(counts)
                if dry_run or not self._asked(counts, yes=yes):
                    return 0
                from asyncfetch.toolbox.thumbnails import Thumbnails

                with Progress(
                    "thumbnails", total=counts.todo, quiet=self._options.quiet or self._options.json
                ) as progress:
                    failed: list[str] = []

                    def told(told: Told) -> None:
                        progress.add(None if told.failure else told.bytes)
                        if told.failure is not None and len(failed) < 10:
                            failed.append(str(told.failure.exception))
                        if self._options.json:
                            self._out(told)

                    job = Thumbnails(fetcher, wishes, target, self._making, metadata=metadata, told=told)
                    with self._interrupts.lead_to(job.stop):
                        tally = await job.run()
                if metadata is not None:
                    await asyncio.to_thread(metadata.settle)
        return self._sum_up(counts, tally, failed)

    @contextlib.asynccontextmanager
    async def _target(self, fetcher: Fetcher, *, again: bool) -> AsyncIterator[Target | None]:
        from asyncfetch.jobs import Directory, Layout, Record
        from asyncfetch.origins.control import Control
        from asyncfetch.toolbox.targets import Beside, Inside

        making = self._making
        if making.encoding is None:
            yield None
            return
        made_as = f"max-side={making.max_side} quality={making.encoding.quality}"
        if self._output is not None:
            with Directory(self._output) as directory:
                kept = {"thumbnails": f"{self._suffix} {made_as}"}
                with Record(directory.root / "ledger.jsonl", kept) as record:
                    yield Inside(directory, record, Layout(ext=self._suffix), self._prefix)
            return
        async with Control(fetcher.settings) as control:
            yield Beside(control, self._prefix, self._suffix, to=self._to, made_as=made_as, again=again)

    def _show(self, counts: WorkCounts) -> None:
        options = self._options
        if options.json:
            options.out({"event": "plan", **asdict(counts)})
            return
        options.say(f"originals     {counts.originals:>12,}")
        options.say(f"thumbnails    {counts.thumbnails:>12,}  there")
        options.say(f"already done  {counts.done:>12,}")
        options.say(f"to read       {counts.todo:>12,}  {human(counts.bytes)}")

    def _asked(self, counts: WorkCounts, *, yes: bool) -> bool:
        """Whether to go on."""
        if yes or not counts.todo:
            return True
        return asked(self._options, "Nothing was made.")

    def _out(self, told: Told) -> None:
        line = {"event": told.word, "uri": told.uri}
        if told.failure is not None:
            self._options.out(line | describe(told.failure))
        else:
            self._options.out(line | {"thumbnail": told.target, "bytes": told.bytes})

    def _sum_up(self, counts: WorkCounts, tally: Made, failed: list[str]) -> int:
        options, left = self._options, counts.todo - tally.outcomes
        if options.json:
            options.out({"event": "end", **asdict(tally), "kinds": dict(tally.kinds), "left": left})
        for message in failed:
            options.say(f"asyncfetch: {message}")
        if tally.failed > len(failed):
            options.say(f"asyncfetch: … and {tally.failed - len(failed)} more (--json tells all)")
        options.say(
            f"{tally.made:,} thumbnails, {human(tally.made_bytes)} in {tally.seconds:.1f} s; "
            f"{counts.done + tally.there:,} were there, {tally.measured:,} only measured, {tally.failed:,} failed."
        )
        if tally.stopped is not None:
            print(f"asyncfetch: {tally.stopped.rstrip('.')}. {left:,} images are left.", file=sys.stderr)
            options.say(f"to go on: {typed()}")
        self._interrupts.check()
        if tally.stopped is not None:
            return STOPPED
        return FAILED if tally.failed else 0
