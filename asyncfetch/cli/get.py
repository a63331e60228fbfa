"""`asyncfetch get`: one object into the cache, a file, or standard output."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import aiofiles
import aiofiles.os
import typer

from asyncfetch.cli.common import Options, command, human, on_loop
from asyncfetch.errors import CacheUnusable, UsageError
from asyncfetch.whole import whole

if TYPE_CHECKING:
    from asyncfetch.objects import Entry

PIECE = 1 << 20


@command
def get(
    options: Options,
    uri: Annotated[str, typer.Argument(help="The object.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A file, a directory, or - for standard output.")
    ] = None,
) -> None:
    """Fetch one object through the cache. Without -o its path in the cache is printed."""
    if options.json and output == "-":
        raise UsageError("--json and -o - are both for standard output", remedy="Name a file after -o.")

    async def run() -> None:
        async with options.fetcher() as fetcher:
            entry = await fetcher.fetch(uri)
            target = None
            if output == "-":
                with entry.path.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer, PIECE)
                sys.stdout.buffer.flush()
            elif output is not None:
                if output.endswith("/") and not await aiofiles.os.path.isdir(output):
                    raise UsageError(f"{output} is no directory", remedy="Make it, or leave out the slash.")
                target = await _copy(entry, Path(output))
        if output is None and not await aiofiles.os.path.exists(entry.path):
            raise CacheUnusable(
                f"{entry.uri} was fetched, and not kept: the cache is only read, or has no room for it",
                remedy="Name a file after -o.",
            )
        if options.json:
            options.out(
                {
                    "uri": entry.uri,
                    "path": str(target or entry.path),
                    "size": entry.size,
                    "digest": entry.digest,
                    "etag": entry.etag,
                    "from_cache": entry.from_cache,
                }
            )
        elif target is None and output is None:
            print(entry.path)
        elif target is not None:
            options.say(f"{target}: {human(entry.size)}{' from the cache' if entry.from_cache else ''}")

    on_loop(run)


async def _copy(entry: Entry, target: Path) -> Path:
    """Copies an entry to a file that appears whole or not at all."""
    if await aiofiles.os.path.isdir(target):
        name = entry.uri.rpartition("?versionId=")[0] or entry.uri
        name = name.rstrip("/").rpartition("/")[2]
        if name in ("", ".", ".."):
            raise UsageError(f"{entry.uri} gives no file name", remedy="Name the file after -o.")
        target /= name
    with whole(target) as part:
        async with aiofiles.open(entry.path, "rb") as source, aiofiles.open(part, "wb") as sink:
            while piece := await source.read(PIECE):
                await sink.write(piece)
    return target
