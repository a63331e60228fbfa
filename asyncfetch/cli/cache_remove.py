"""`asyncfetch cache prune`, `rm` and `clear`: removing from the cache."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.cache_look import at
from asyncfetch.cli.common import FAILED, Options, command, counted, human, on_loop
from asyncfetch.cli.progress import Progress
from asyncfetch.errors import UsageError
from asyncfetch.settings import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncfetch.cache import CacheStats
    from asyncfetch.cache.upkeep import Gone, Listed, Stuck, Unfinished

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")]


@command
def prune(
    options: Options,
    max_bytes: Annotated[
        str | None, typer.Option(help="Remove the least recently used until so much is left, such as 200GB.")
    ] = None,
    older_than: Annotated[str | None, typer.Option(help="Remove what was written longer ago, such as 7d.")] = None,
    unused_for: Annotated[str | None, typer.Option(help="Remove what no job has used for so long.")] = None,
    dry_run: DryRun = False,
) -> int:
    """Remove what is too much, too old or unused; of several conditions one is enough.

    What is pinned stays, and what a job that runs has used. Durations are such as 30m, 12h, 7d.
    """
    from asyncfetch.cache.upkeep import prune

    if max_bytes is older_than is unused_for is None:
        raise UsageError("Say what to remove: --max-bytes, --older-than or --unused-for")
    now = time.time()
    with options.upkeep() as keeping:
        steps = prune(
            keeping,
            max_bytes=None if max_bytes is None else parse_size(max_bytes, name="--max-bytes"),
            stored_before=None if older_than is None else now - parse_duration(older_than, name="--older-than"),
            unused_since=None if unused_for is None else now - parse_duration(unused_for, name="--unused-for"),
            dry_run=dry_run,
        )
        return _run(options, "prune", steps, dry_run=dry_run)


@command
def rm(
    options: Options,
    uri: Annotated[str, typer.Argument(help="An object, or a prefix with a slash at its end.", metavar="URI|PREFIX/")],
    dry_run: DryRun = False,
) -> int:
    """Remove one object, or all under a prefix that ends with a slash, from the cache.

    Pinned or in use or not: jobs fetch it again. --endpoint-url narrows to one endpoint. Exit code 1 when nothing of
    it is cached.
    """
    from asyncfetch.cache.upkeep import remove, select

    selection = select(uri, endpoint_url=options.endpoint_url, one=True)
    with options.upkeep() as keeping:
        return _run(options, "rm", remove(keeping, selection, dry_run=dry_run), dry_run=dry_run, uri=uri)


@command
def clear(
    options: Options,
    older_than: Annotated[str | None, typer.Option(help="Only what was written longer ago, such as 7d.")] = None,
    dry_run: DryRun = False,
) -> int:
    """Remove everything from the cache, pinned or not. Safe while jobs run: what they need they fetch again.

    The pins themselves stay, for what is fetched next.
    """
    from asyncfetch.cache.upkeep import clear_old

    if older_than is not None:
        before = time.time() - parse_duration(older_than, name="--older-than")
        with options.upkeep() as keeping:
            return _run(options, "clear", clear_old(keeping, before, dry_run=dry_run), dry_run=dry_run)
    gone = _held(options) if dry_run else _clear(options)
    directory = str(options.cache_policy().directory)
    if options.json:
        options.out({"cache_dir": directory, **gone._asdict(), "dry_run": dry_run})
    else:
        did = "would remove" if dry_run else "removed"
        rest = _unfinished(gone.unfinished, gone.unfinished_bytes)
        options.say(f"{directory}: {did} {counted(gone.blobs, 'blob')}, {human(gone.blob_bytes)}{rest}")
    return 0


def _held(options: Options) -> CacheStats:
    with options.upkeep() as keeping:
        return keeping.totals()


def _clear(options: Options) -> CacheStats:
    from asyncfetch.cache import Cache
    from asyncfetch.cache.upkeep import pin

    async def run() -> CacheStats:
        policy = options.cache_policy()
        cache = await asyncio.to_thread(Cache.open, policy, loop=asyncio.get_running_loop())
        try:
            return await cache.clear()
        finally:
            await cache.aclose()

    with options.upkeep() as keeping:
        pins = keeping.catalog.pins()  # which lie in the index that goes
    gone = on_loop(run)
    with options.upkeep() as keeping:
        for pinned in pins:
            pin(keeping, pinned)
    return gone


def _run(
    options: Options,
    title: str,
    steps: Iterable[Listed | Gone | Unfinished | Stuck],
    *,
    dry_run: bool,
    uri: str | None = None,
) -> int:
    """Shows a removal, and ends with its exit code. `uri` is what must have been there."""
    from asyncfetch.cache.upkeep import Gone, Stuck, Unfinished, uri_of

    objects = stuck = unfinished = unfinished_bytes = 0
    told: list[str] = []
    with Progress(title, quiet=options.quiet or options.json) as progress:
        for step in steps:
            if isinstance(step, Gone):
                progress.add(step.size)
            elif isinstance(step, Unfinished):
                unfinished, unfinished_bytes = unfinished + 1, unfinished_bytes + step.size
            elif isinstance(step, Stuck):
                progress.add(None)
                stuck += 1
                told.append(f"asyncfetch: {step.path} could not be removed: {step.reason}")
            else:
                objects += 1
                if dry_run and not options.json:
                    print(f"{uri_of(step.key)}{at(step.place)}")
    for line in told[:10]:
        options.say(line)
    directory = str(options.cache_policy().directory)
    if options.json:
        counts = {"blobs": progress.objects, "blob_bytes": progress.bytes, "unfinished": unfinished}
        counts |= {"unfinished_bytes": unfinished_bytes, "stuck": stuck, "dry_run": dry_run}
        options.out({"cache_dir": directory, **({"objects": objects} if uri else {}), **counts})
    elif uri and not objects and not unfinished:
        options.warn(f"the cache holds no {uri}")
    else:
        did = "would remove" if dry_run else "removed"
        what = f"{counted(objects, 'object')}, " if uri else ""
        rest = _unfinished(unfinished, unfinished_bytes)
        options.say(f"{directory}: {did} {what}{counted(progress.objects, 'blob')}, {human(progress.bytes)}{rest}")
    return FAILED if stuck or (uri and not objects and not unfinished) else 0


def _unfinished(number: int, size: int) -> str:
    return f", and what came of {number:,} unfinished large objects, {human(size)}" if number else ""
