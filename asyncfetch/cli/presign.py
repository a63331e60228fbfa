"""`asyncfetch presign`: URLs to read or write objects by, for whoever has them."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, on_loop
from asyncfetch.cli.wanted import asking, empty
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Missing, Request, Wanted, find
from asyncfetch.settings import parse_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.fetcher import Fetcher


@command
@asking
def presign(
    options: Options,
    request: Request,
    expires: Annotated[str, typer.Option("--expires", help="How long they hold, such as 15m, 12h or 7d.")] = "1h",
    method: Annotated[str, typer.Option("--method", help="GET to read, PUT to write.")] = "GET",
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="What a GET answers, or a PUT must send.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Have browsers save it under its own name.")] = False,
    download_name: Annotated[str | None, typer.Option("--download-name", help="Have browsers save it so.")] = None,
    cache_control: Annotated[str | None, typer.Option("--cache-control", help="What a GET answers.")] = None,
) -> int:
    """Make URLs that open objects without credentials until they expire: CSV, or JSONL with --json.

    A single object is named by --from or with a second one; one URI alone is a prefix, and all under it is signed.
    """
    seconds = parse_duration(expires, name="--expires")
    if seconds != int(seconds):
        raise UsageError(f"--expires must be whole seconds, not {expires!r}")
    lost = signed = 0

    async def names(fetcher: Fetcher) -> AsyncIterator[str]:
        nonlocal lost
        async for found in find(fetcher, request):
            if isinstance(found, Wanted):
                yield found.uri
            else:
                lost += 1
                why = "no object has this name" if isinstance(found, Missing) else "several objects have this name"
                options.warn(f"{found.row.name}: {why}")

    async def run() -> None:
        nonlocal signed
        from asyncfetch.toolbox import presign as sign

        rows = csv.writer(sys.stdout, lineterminator="\n")
        quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
        async with options.fetcher() as fetcher:
            async for made in sign(
                fetcher,
                names(fetcher),
                method=method.upper(),  # type: ignore[arg-type] # which it checks
                expires=int(seconds),
                content_type=content_type,
                download=download_name or download,
                cache_control=cache_control,
            ):
                if not signed and not options.json:
                    rows.writerow(("uri", "url", "expires"))
                signed += 1
                until = f"{made.expires:%Y-%m-%dT%H:%M:%SZ}"
                if options.json:
                    options.out({"uri": made.uri, "url": made.url, "method": method.upper(), "expires": until})
                else:
                    # Before Python 3.13 the writer leaves a carriage return bare that is not of its own line's end.
                    (quoted if "\r" in made.uri else rows).writerow((made.uri, made.url, until))

    on_loop(run)
    if not signed and not lost:
        raise empty(request)
    return FAILED if lost else 0
