"""`asyncfetch cache export` and `cache import`: a tar that seeds another machine's cache."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, counted, human
from asyncfetch.cli.progress import Progress
from asyncfetch.errors import UsageError
from asyncfetch.whole import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader
    from typing import BinaryIO

    from asyncfetch.cache.upkeep import Carried, Objects, Refused, Selection

SHOWN = 100  # refusals for people; programs get all


@command
def export(
    options: Options,
    file: Annotated[str, typer.Argument(help="Where to: a tar, or - for standard output.")],
    prefix: Annotated[str | None, typer.Argument(help="Such as s3://bucket/photos/; else everything.")] = None,
    directory: Annotated[
        bool, typer.Option("--directory", help="FILE is a cache directory to make, closed to be read only.")
    ] = False,
) -> int:
    """Write what the cache holds into a tar, for `cache import` on another machine.

    The file appears whole or not at all. --endpoint-url narrows to one endpoint. Exit code 1 when something that is
    cached could not be read. With --directory a cache directory is made instead, or added to, that can be used from a
    medium that cannot be written.
    """
    from asyncfetch.cache.upkeep import export, select

    selection = select(prefix, endpoint_url=options.endpoint_url)
    if directory:
        return _export_directory(options, file, selection)
    if file == "-" and sys.stdout.isatty():
        raise UsageError("A tar is nothing for a terminal", remedy="Name a file, or send it into a pipe.")
    with options.upkeep() as keeping, _written(file) as sink:
        total = None if prefix or options.endpoint_url is not None else keeping.index.totals().blobs
        return _run(options, "export", export(keeping, sink, selection), total=total, quiet=file == "-")


@command
def import_(
    options: Options, file: Annotated[str, typer.Argument(help="A tar of `cache export`, or - for standard input.")]
) -> int:
    """Take what `cache export` wrote on another machine into the cache.

    Each blob is checked against its digest; what is damaged or no part of an export is named and not taken, and then
    the exit code is 1. Run again, it passes over what is there. Import only what you trust: which bytes an object has
    is the archive's word, until it is checked against its origin.
    """
    from asyncfetch.cache.upkeep import import_

    with options.upkeep(make=True) as keeping, _read(file) as source:
        return _run(options, "import", import_(keeping, source), total=None)


def _export_directory(options: Options, name: str, selection: Selection) -> int:
    from asyncfetch.cache.below import seal
    from asyncfetch.cache.upkeep import copy, upkeep
    from asyncfetch.settings import CachePolicy

    target = CachePolicy(cache_dir=name)
    if name == "-" or target.directory == options.cache_policy().directory:
        raise UsageError(f"--directory needs another directory than {name}")
    with options.upkeep() as keeping, upkeep(target) as other:
        code = _run(options, "export", copy(keeping, other, selection), total=None)
    seal(target.directory)
    return code


def _run(
    options: Options,
    title: str,
    steps: Iterable[Carried | Objects | Refused],
    *,
    total: int | None,
    quiet: bool = False,
) -> int:
    """Shows an export or import, and ends with its exit code. `quiet`: standard output has another use."""
    from asyncfetch.cache.upkeep import Carried, Refused

    counts: Counter[str] = Counter()
    refused: list[Refused] = []
    with Progress(title, total=total, quiet=options.quiet or options.json) as progress:
        for step in steps:
            if isinstance(step, Carried):
                progress.add(step.size)
                counts["new_blobs"] += step.new
                counts["new_bytes"] += step.size if step.new else 0
            elif isinstance(step, Refused):
                counts["refused"] += 1
                if options.json and not quiet:
                    options.out(step._asdict())
                elif len(refused) < SHOWN:
                    refused.append(step)
            else:
                counts["objects"] += step.objects
                counts["new_objects"] += step.new
    for step in refused:
        print(f"asyncfetch: {step.name} {step.reason}", file=sys.stderr)
    if counts["refused"] > len(refused) > 0:
        options.warn(f"… and {counts['refused'] - len(refused):,} more (--json lists all)")
    if options.json and not quiet:
        told = {"objects": counts["objects"], "blobs": progress.objects, "blob_bytes": progress.bytes}
        fresh = {name: counts[name] for name in ("new_objects", "new_blobs", "new_bytes", "refused")}
        options.out(told | fresh)
    else:
        new = f" ({counts['new_blobs']:,} of them new)" if title == "import" else ""
        options.say(
            f"{counted(counts['objects'], 'object')}, {counted(progress.objects, 'blob')}{new}, "
            f"{human(progress.bytes)}; {counts['refused']:,} refused"
        )
    return FAILED if counts["refused"] else 0


@contextmanager
def _written(name: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears whole or not at all."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole(Path(name)) as part, part.open("wb") as file:
        yield file


@contextmanager
def _read(name: str) -> Iterator[BufferedReader]:
    with open(0, "rb", closefd=False) if name == "-" else Path(name).open("rb") as file:
        yield file
