"""`asyncfetch cache ls --quarantined` and `cache release`: the bytes that have killed too many decode workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, moment
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.cache import Strikes
    from asyncfetch.cache.upkeep import Selection, Upkeep, View


def ls_quarantined(options: Options, selection: Selection) -> int:
    """Lists what is quarantined, an object a line, or a digest that no object has any more; says how many."""
    from asyncfetch.cache.upkeep import uri_of

    count = 0
    with options.view() as keeping:
        left = quarantined(keeping)
        found = dict(left)
        for page in keeping.catalog.refs(selection) if found else ():
            for listed in page:
                digest = listed.known.ref.digest
                if digest in found:
                    left.pop(digest, None)
                    count += 1
                    _tell(options, digest, found[digest], uri_of(listed.key), listed.key.endpoint)
        if selection.container is None and selection.endpoint is None:
            for digest, strikes in left.items():
                count += 1
                _tell(options, digest, strikes, None, None)
    return count


@command
def release(
    options: Options,
    names: Annotated[list[str] | None, typer.Argument(help="Digests, or prefixes such as s3://bucket/photos/.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that is quarantined.")] = False,
) -> int:
    """Take bytes out of quarantine, so that fetchers opened from now on decode them again.

    Exit code 1 where nothing of that was quarantined.
    """
    from asyncfetch.cache.upkeep import lift

    if bool(names) == every:
        raise UsageError("Say which digests or prefixes to release, or --all")
    with options.upkeep() as keeping:
        found = quarantined(keeping)
        wanted = set(found) if every else {digest for name in names or () for digest in _named(keeping, name, found)}
        released = lift(keeping, sorted(wanted & set(found)))
    if options.json:
        options.out({"released": released})
    elif released:
        options.say(f"{released:,} released: they are decoded again")
    else:
        options.warn("nothing of that is quarantined; cache ls --quarantined lists what is")
    return 0 if released else FAILED


def quarantined(keeping: View) -> dict[str, Strikes]:
    """What has killed often enough, by digest."""
    from asyncfetch.decode import MOST_STRIKES

    return {digest: struck for digest, struck in keeping.catalog.strikes().items() if struck.deaths >= MOST_STRIKES}


def _named(keeping: Upkeep, name: str, found: dict[str, Strikes]) -> Iterator[str]:
    from asyncfetch.cache.upkeep import select

    if name in found:
        yield name
    elif not name.startswith(("blake3:", "sha256:")):
        for page in keeping.catalog.refs(select(name)):
            yield from (listed.known.ref.digest for listed in page)


def _tell(options: Options, digest: str, struck: Strikes, uri: str | None, endpoint: str | None) -> None:
    if options.json:
        told = {"uri": uri, "endpoint": endpoint, "digest": digest}
        options.out(told | {"deaths": struck.deaths, "last": moment(struck.last), "why": struck.why})
    else:
        print(f"{moment(struck.last)}  {digest}  {uri or '-'}  {struck.deaths} deaths, the last {struck.why}")
