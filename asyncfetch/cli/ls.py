"""`asyncfetch ls`: what lies under a prefix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from anyio import to_thread

from asyncfetch.cli.common import Options, command, human, on_loop, shown
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from asyncfetch.uris import Location


@command
def ls(
    options: Options,
    uri: Annotated[str, typer.Argument(help="A bucket, a prefix, or a directory.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also what lies behind slashes.")] = False,
    parallel: Annotated[
        int, typer.Option("--parallel", help="Folders listed at once, with --recursive.", metavar="N")
    ] = 1,
    readable: Annotated[bool, typer.Option("--human", "-H", help="Sizes such as 1.2 MB.")] = False,
) -> int:
    """List objects: date, size and URI, one a line; what ends with a slash can be listed further.

    Exits 1 where nothing lies under a prefix, or no such file or directory is there; an empty bucket or directory is 0.
    """

    async def run() -> int:
        count = 0
        async with options.fetcher() as fetcher:
            async for stat in fetcher.list(uri, recursive=recursive, parallel=parallel):
                count += 1
                if options.json:
                    options.out(
                        {
                            "uri": stat.uri,
                            "size": stat.size,
                            "etag": stat.etag,
                            "last_modified": stat.last_modified and stat.last_modified.isoformat(),
                        }
                    )
                    continue
                when = f"{stat.last_modified:%Y-%m-%d %H:%M:%S}" if stat.last_modified else ""
                size = "" if stat.uri.endswith("/") and not stat.size else human(stat.size) if readable else stat.size
                print(f"{when:19}  {size:>12}  {shown(stat.uri, sys.stdout)}")
        if not count:
            options.say(f"asyncfetch: nothing lies under {uri}")
        return 0 if count or await to_thread.run_sync(_is_whole, parse(uri)) else 1

    return on_loop(run)


def _is_whole(location: Location) -> bool:
    """Whether a listing of it is of a bucket, or of a directory that is there: it may well be empty."""
    return Path(location.key).is_dir() if location.scheme == "file" else not location.key
