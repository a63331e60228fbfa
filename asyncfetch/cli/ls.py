"""`asyncfetch ls`: what lies under a prefix."""

from __future__ import annotations

from typing import Annotated

import typer

from asyncfetch.cli.common import Options, command, human, on_loop


@command
def ls(
    options: Options,
    uri: Annotated[str, typer.Argument(help="A bucket, a prefix, or a directory.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also what lies behind slashes.")] = False,
    parallel: Annotated[
        int, typer.Option("--parallel", help="Folders listed at once, with --recursive.", metavar="N")
    ] = 1,
    readable: Annotated[bool, typer.Option("--human", "-H", help="Sizes such as 1.2 MB.")] = False,
) -> None:
    """List objects: date, size and URI, one a line; what ends with a slash can be listed further."""

    async def run() -> None:
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
                print(f"{when:19}  {size:>12}  {stat.uri}")
        if not count:
            options.say(f"asyncfetch: nothing lies under {uri}")

    on_loop(run)
