"""`asyncfetch cache stats` and `cache ls`: what the cache holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.cache_quarantine import ls_quarantined
from asyncfetch.cli.common import Options, command, counted, human, moment, shown
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from asyncfetch.cache.upkeep import Group, Listed, Place

_UNCOUNTED = (
    "asyncfetch: ? stands where no look-ups were counted; they are for prefixes of one or two slashes, and where there "
    "are at most 100 in one directory"
)


@command
def stats(
    options: Options,
    by: Annotated[str | None, typer.Option(help="Also count by bucket, or by prefix.", metavar="bucket|prefix")] = None,
    depth: Annotated[int, typer.Option(help="Slashes in a prefix.", min=1, max=8)] = 1,
) -> None:
    """Say what the cache holds, what storing equal bytes once saves, and how often it was hit.

    With --by also how often each bucket or prefix was. Look-ups are counted for prefixes of one or two slashes.
    """
    if by not in (None, "bucket", "prefix"):
        raise UsageError(f"--by must be bucket or prefix, not {by!r}")
    groups: list[Group] = []
    with options.view() as keeping:
        found = keeping.totals()
        counters = keeping.catalog.counters()
        pins = len(keeping.catalog.pins())
        if by == "bucket":
            groups = keeping.catalog.by_place()
        elif by == "prefix":
            groups = list(keeping.catalog.by_prefix(depth))
    if options.endpoint_url is not None:
        groups = [group for group in groups if group.place.endpoint == options.endpoint_url.rstrip("/")]
    directory = str(options.cache_policy().directory)
    saved = max(0, found.object_bytes - found.blob_bytes)
    hits, misses = counters.get("hits", 0), counters.get("misses", 0)
    rate = _rate(hits, misses)
    if options.json:
        told = {"cache_dir": directory, **found._asdict(), "saved_bytes": saved, "pins": pins}
        told |= _hits(hits, misses)
        options.out(told | {"groups": [_told(group) for group in groups]} if by else told)
        return
    print(directory)
    print(
        f"{counted(found.objects, 'object')}, {human(found.object_bytes)}; {counted(found.blobs, 'blob')}, "
        f"{human(found.blob_bytes)} on disk; {human(saved)} saved by storing equal bytes once"
    )
    if found.unfinished:
        print(f"{found.unfinished:,} unfinished large objects, {human(found.unfinished_bytes)} on disk")
    if rate is not None:
        print(f"{rate:.1%} of {hits + misses:,} look-ups were hits; {counted(pins, 'pin')}")
    for group in groups:
        name = f"{uri_under(group.place, group.prefix)}{at(group.place)}"
        print(f"{group.objects:>12,}  {human(group.object_bytes):>8}  {_hit_rate(group)}  {name}")
    if any(group.looked is None for group in groups):
        options.say(_UNCOUNTED)


@command
def ls(
    options: Options,
    prefix: Annotated[str | None, typer.Argument(help="Such as s3://bucket/photos/; else everything.")] = None,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="What has killed three decode workers instead.")
    ] = False,
) -> None:
    """List what the cache holds: when checked, when used, size, digest, ETag and URI, one object a line.

    A pinned one has a star. --endpoint-url narrows to one endpoint. With --quarantined: when it last killed a worker,
    digest, URI, and how.
    """
    from asyncfetch.cache.upkeep import select

    selection = select(prefix, endpoint_url=options.endpoint_url)
    if quarantined:
        if not ls_quarantined(options, selection):
            options.say(f"asyncfetch: nothing {f'under {prefix} ' if prefix else ''}is quarantined")
        return
    count = 0
    with options.view() as keeping:
        for page in keeping.catalog.refs(selection):
            for listed in page:
                if listed.known.used is None:
                    continue  # its blob has gone: what the index still knows of it is of no use to anybody
                count += 1
                if options.json:
                    options.out(_fields(listed))
                else:
                    print(_line(listed))
    if not count:
        options.say(f"asyncfetch: the cache holds nothing {f'under {prefix}' if prefix else 'at all'}")


def _fields(listed: Listed) -> dict[str, object]:
    from asyncfetch.cache.upkeep import uri_of

    ref, known = listed.known.ref, listed.known
    return {
        "uri": uri_of(listed.key),
        "endpoint": listed.key.endpoint,
        "size": ref.size,
        "digest": ref.digest,
        "etag": ref.etag,
        "checked": moment(ref.validated),
        "used": moment(known.used),
        "pinned": bool(known.pinned),
    }


def _line(listed: Listed) -> str:
    from asyncfetch.cache.upkeep import uri_of

    ref, known = listed.known.ref, listed.known
    pinned = "*" if known.pinned else " "
    facts = f"{moment(ref.validated)}  {moment(known.used)} {pinned} {ref.size:>12}  {ref.digest}  {ref.etag or '-'}"
    return f"{facts}  {shown(uri_of(listed.key), sys.stdout)}{at(listed.place)}"


def _told(group: Group) -> dict[str, object]:
    told: dict[str, object] = {"uri": uri_under(group.place, group.prefix), "endpoint": group.place.endpoint}
    told |= {"objects": group.objects, "object_bytes": group.object_bytes}
    return told | ({"hits": None, "misses": None, "hit_rate": None} if group.looked is None else _hits(*group.looked))


def _hits(hits: int, misses: int) -> dict[str, object]:
    rate = _rate(hits, misses)
    return {"hits": hits, "misses": misses, "hit_rate": rate and round(rate, 4)}


def _rate(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


def _hit_rate(group: Group) -> str:
    """A column for it."""
    if group.looked is None:
        return f"{'?':>11}"
    rate = _rate(*group.looked)
    return f"{'-' if rate is None else f'{rate:.1%} hits':>11}"


def uri_under(place: Place, prefix: str) -> str:
    """The URI of a prefix."""
    return f"{place.scheme}://{place.container}{'/' if place.scheme == 's3' else ''}{prefix}"


def at(place: Place) -> str:
    """Names the endpoint, to stand behind a URI, which does not say it."""
    return f"  at {place.label}" if place.label else ""
