"""`asyncfetch cache pin`, `unpin` and `pins`: what is not evicted."""

from __future__ import annotations

from typing import Annotated

import typer

from asyncfetch.cli.cache_look import at, uri_under
from asyncfetch.cli.common import FAILED, Options, command

Prefix = Annotated[str, typer.Argument(help="Such as s3://bucket/photos/.")]


@command
def pin(options: Options, prefix: Prefix) -> None:
    """Keep what begins with a prefix from being evicted, also what is fetched later.

    At the endpoint that --endpoint-url or the environment names, where jobs would fetch it.
    """
    from asyncfetch.cache.upkeep import pin, pin_of, select
    from asyncfetch.settings import Access

    pinned = pin_of(select(prefix), endpoint=Access(endpoint_url=options.endpoint_url).endpoint or "")
    with options.upkeep(make=True) as keeping:
        marked = pin(keeping, pinned)
    if options.json:
        options.out({"uri": prefix, "endpoint": pinned.endpoint, "added": bool(marked.pins), "blobs": marked.blobs})
    else:
        was = "pinned" if marked.pins else "was pinned already"
        options.say(f"{prefix}{at(pinned.place)} {was}; {marked.blobs:,} blobs are kept that were not")


@command
def unpin(options: Options, prefix: Prefix) -> int:
    """Take a pin away; --endpoint-url narrows to one endpoint. Exit code 1 where there was none."""
    from asyncfetch.cache.upkeep import pin_of, select, unpin

    selection = select(prefix, endpoint_url=options.endpoint_url)
    pin_of(selection, endpoint="")  # refuses what cannot be a pin
    with options.upkeep() as keeping:
        marked = unpin(keeping, selection)
    if options.json:
        options.out({"uri": prefix, "removed": marked.pins, "blobs": marked.blobs})
    elif marked.pins:
        options.say(f"{prefix}: {marked.pins:,} pins removed; {marked.blobs:,} blobs may be evicted again")
    else:
        options.warn(f"there is no pin on {prefix}; cache pins lists them")
    return 0 if marked.pins else FAILED


@command
def pins(options: Options) -> None:
    """List the pins."""
    with options.view() as keeping:
        found = keeping.catalog.pins()
    for pinned in found:
        uri = uri_under(pinned.place, pinned.prefix)
        if options.json:
            options.out({"uri": uri, "endpoint": pinned.endpoint})
        else:
            print(f"{uri}{at(pinned.place)}")
