"""`asyncfetch store`: data in a content-addressed store, and the care for it."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncfetch.cli.bulk import asked
from asyncfetch.cli.common import FAILED, Options, command, human
from asyncfetch.cli.progress import Progress
from asyncfetch.cli.stored import Extra, Place, Prefix, line, opened, read_json, run, to_output, when
from asyncfetch.errors import UsageError
from asyncfetch.settings import parse_duration

if TYPE_CHECKING:
    from asyncfetch.datastore import DataReference, StoredData

app = typer.Typer(
    name="store",
    help="Data in a content-addressed store, and the care for it.",
    no_args_is_help=True,
    add_completion=False,
)

SHOWN = 100  # findings of `verify` for people; programs get all

Digest = Annotated[str, typer.Argument(help="The SHA-256 of the data.", metavar="DIGEST")]


def progress(title: str, options: Options) -> Progress:
    """The progress of a command whose end is not known before."""
    return Progress(title, quiet=options.quiet or options.json)


@command
def put(
    options: Options,
    store: Place,
    paths: Annotated[list[str], typer.Argument(help="Files and directories.", metavar="PATH…")],
    name: Annotated[str | None, typer.Option("--name", help="Instead of the path's own; for one path.")] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", help="An object of JSON.")] = None,
    prefix: Prefix = "data",
    extra: Extra = None,
) -> None:
    """Store files and directories, and print their digests, sizes, kinds and names.

    What is there already is not sent.
    """
    if name is not None and len(paths) > 1:
        raise UsageError("--name is for one path", remedy="Store them one by one.")
    said = read_json(metadata, "--metadata")

    async def main() -> None:
        async with opened(options, store, prefix, extra, make=True) as there:
            with progress("put", options) as shown:
                for path in paths:
                    _show(options, await there.store_data(Path(path), name, said, seen=shown.add))

    run(options, main, resumes=True)


@command
def get(
    options: Options,
    store: Place,
    digest: Digest,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A file or directory to make, or - for standard output.")
    ] = None,
    prefix: Prefix = "data",
) -> None:
    """Get data by its digest: the stored bytes as a file, or a directory.

    Without -o it is laid out in the working directory, under the name that it was stored with. What is there is not
    replaced.
    """

    async def main() -> None:
        async with opened(options, store, prefix) as there:
            reference = (await there.stat(digest)).reference
            if output == "-":
                await to_output(there, reference)
                return
            if reference.kind == "directory":
                path = await there.retrieve_data(reference, into=output or reference.name or reference.digest[:12])
            else:  # the bytes, whatever they would be decoded to
                path = await there.retrieve_data(replace(reference, kind="file"), into=output or ".")
        if options.json:
            options.out({"path": str(path), **reference.to_json()})
        elif not options.quiet:
            print(path)

    run(options, main)


@command
def ls(
    options: Options,
    store: Place,
    names: Annotated[bool, typer.Option("--names", help="Also names and metadata: a request for each.")] = False,
    prefix: Prefix = "data",
) -> None:
    """List all data: digest, size, kind, name, and when it was last used, one a line."""

    async def main() -> None:
        async with opened(options, store, prefix) as there:
            async for stored in there.list(described=names):
                _tell(options, stored)

    run(options, main)


@command
def stat(options: Options, store: Place, digest: Digest, prefix: Prefix = "data") -> None:
    """Say what the store knows of data. Exit code 1 when it has none of this digest."""

    async def main() -> None:
        async with opened(options, store, prefix) as there:
            stored = await there.stat(digest)
        if options.json:
            _tell(options, stored)
            return
        told = {"digest": stored.digest, "size": f"{stored.size:,} bytes", "kind": stored.reference.kind}
        told |= {"name": stored.reference.name or "-", "used": when(stored.used), "uri": stored.uri}
        for name, value in told.items():
            print(f"{name:9} {value}")
        for name, value in (stored.reference.metadata or {}).items():
            print(f"  {name} {value}")

    run(options, main)


@command
def verify(
    options: Options,
    store: Place,
    quick: Annotated[bool, typer.Option("--quick", help="Read no data, compare sizes.")] = False,
    prefix: Prefix = "data",
) -> int:
    """Read all data and hold it against its digests, and see that all that is referred to is there.

    Nothing is changed. Exit code 0: nothing was found; 1: something was.
    """

    async def main() -> int:
        async with opened(options, store, prefix) as there:
            with progress("verify", options) as shown:
                verified = await there.verify(quick=quick, seen=shown.add)
        if options.json:
            for finding in verified.findings:
                options.out(finding._asdict())
            counts = {"objects": verified.objects, "bytes": verified.bytes, "referenced": verified.referenced}
            options.out(counts | {"findings": len(verified.findings)})
        else:
            for finding in verified.findings[:SHOWN]:
                print(f"{finding.fault}: {finding.uri}: {finding.detail}")
            if len(verified.findings) > SHOWN:
                print(f"… and {len(verified.findings) - SHOWN:,} more (--json lists all)")
            verdict = f"{len(verified.findings):,} findings" if verified.findings else "nothing is wrong"
            read = "" if quick else f", {human(verified.bytes)} read"
            options.say(f"{verified.objects:,} objects{read}, {verified.referenced:,} references: {verdict}")
        return FAILED if verified.findings else 0

    return run(options, main)


@command
def gc(
    options: Options,
    store: Place,
    grace: Annotated[str, typer.Option("--grace", help="Keep what was used within so long, such as 7d.")] = "7d",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it, not only say so.")] = False,
    prefix: Prefix = "data",
) -> None:
    """Say what no run and no model refers to, and with --delete remove it. Safe beside writers.

    A writer must name in a run or model what it stores within the grace period less an hour.
    """
    kept = timedelta(seconds=parse_duration(grace, name="--grace"))

    async def main() -> None:
        async with opened(options, store, prefix) as there:
            with progress("gc", options) as shown:

                def seen(digest: str, size: int) -> None:
                    shown.add(size)
                    if options.json:
                        options.out({"digest": f"sha256:{digest}", "size": size, "removed": delete})
                    elif not options.quiet and not delete:
                        print(f"{digest}  {size:>12}")

                collected = await there.gc(grace=kept, dry_run=not delete, seen=seen)
        if options.json:
            options.out(asdict(collected) | {"dry_run": not delete})
        did = "removed" if delete else "would remove"
        options.say(
            f"{did} {collected.removed:,} pieces of data, {human(collected.bytes)}; {collected.kept:,} are referred "
            f"to, {collected.young:,} are young, {collected.spared:,} came into use meanwhile"
        )
        if collected.removed and not delete:
            options.say("--delete removes them")

    run(options, main, resumes=delete)


@command
def migrate(
    options: Options,
    source: Place,
    target: Annotated[str, typer.Argument(help="s3://bucket/prefix, or a directory.", metavar="TARGET")],
    runs: Annotated[list[str] | None, typer.Option("--run", help="Only this run, with its data and models.")] = None,
    delete_source: Annotated[
        bool, typer.Option("--delete-source", help="Remove it from the source once it was read back.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    prefix: Prefix = "data",
    extra: Extra = None,
) -> int:
    """Copy a store, or some of its runs, to another place. Run again, it goes on where it ended.

    With --delete-source all that was copied is read back and hashed before anything is removed, and it asks first.
    """

    async def main() -> int:
        async with (
            opened(options, source, prefix) as here,
            opened(options, target, prefix, extra, make=True) as there,
        ):
            options.say(f"{here.uri} → {there.uri}")
            if delete_source and not yes and not asked(options, "Nothing was copied."):
                return 0
            with progress("migrate", options) as shown:
                moved = await here.migrate(there, run_ids=runs or None, delete_source=delete_source, seen=shown.add)
        if options.json:
            options.out(asdict(moved))
        options.say(
            f"{moved.data:,} pieces of data, {human(moved.bytes)}, were sent, {moved.present:,} were there; "
            f"{moved.runs:,} runs, {moved.models:,} models; {moved.deleted:,} removed from the source"
        )
        return 0

    return run(options, main, resumes=True)


@command
def lifecycle(
    options: Options,
    store: Place,
    tier_after: Annotated[int, typer.Option("--tier-after", help="Days until data is tiered.", min=0)] = 30,
    keep_versions: Annotated[int, typer.Option("--keep-versions", help="Days of deleted versions.", min=1)] = 30,
    prefix: Prefix = "data",
) -> None:
    """Print rules for the bucket as JSON, for `aws s3api put-bucket-lifecycle-configuration`. Nothing is applied.

    They replace all rules that the bucket has: merge them by hand where it has others.
    """
    import json

    from asyncfetch.datastore import DataStore

    rules = DataStore.at(store, prefix=prefix).lifecycle(tier_after_days=tier_after, keep_versions_days=keep_versions)
    print(json.dumps(rules, indent=None if options.json else 2))


def _show(options: Options, reference: DataReference) -> None:
    if options.json:
        options.out(reference.to_json())
    else:
        print(line(reference))


def _tell(options: Options, stored: StoredData) -> None:
    if options.json:
        told: dict[str, Any] = stored.reference.to_json()
        options.out(told | {"uri": stored.uri, "used": when(stored.used)})
    else:
        print(f"{line(stored.reference)}  {when(stored.used)}")


app.command("put")(put)
app.command("get")(get)
app.command("ls")(ls)
app.command("stat")(stat)
app.command("verify")(verify)
app.command("gc")(gc)
app.command("migrate")(migrate)
app.command("lifecycle")(lifecycle)
