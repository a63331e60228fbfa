"""`asyncfetch cost`: what a prefix costs to keep, and to read once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import Options, command, human, on_loop
from asyncfetch.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.objects import ObjectStat
    from asyncfetch.toolbox import Cost


@command
def cost(
    options: Options,
    uri: Annotated[str, typer.Argument(help="A bucket or a prefix.")],
    prices: Annotated[
        str | None,
        typer.Option("--prices", help="The region whose prices count; else that of --region.", metavar="REGION"),
    ] = None,
    parallel: Annotated[int, typer.Option("--parallel", help="Folders listed at once.", metavar="N")] = 1,
) -> None:
    """Estimate what lies under a prefix costs a month, and what reading all of it once would."""

    async def run() -> Cost:
        from asyncfetch.origins.endpoints import environment_region
        from asyncfetch.toolbox import estimate

        async with options.fetcher() as fetcher:
            region = prices or options.region or environment_region()
            with Progress("cost", quiet=options.quiet or options.json) as progress:

                async def counted() -> AsyncIterator[ObjectStat]:
                    async with fetcher.list(uri, parallel=parallel) as listing:
                        async for stat in listing:
                            progress.add(stat.size)
                            yield stat

                return await estimate(uri, counted(), region=region)

    found = on_loop(run)
    if options.json:
        options.out(
            asdict(found) | {"objects": found.objects, "bytes": found.bytes, "storage": found.storage, "estimate": True}
        )
        return
    print(f"{'class':22}{'objects':>12}{'size':>12}{'a month':>14}")
    for share in found.shares:
        print(f"{share.storage_class:22}{share.objects:>12,}{human(share.bytes):>12}{_dollars(share.storage):>14}")
    print(f"{'all':22}{found.objects:>12,}{human(found.bytes):>12}{_dollars(found.storage):>14}")
    read = found.requests + found.retrieval
    print(f"To read all of it once: {_dollars(read)} inside of AWS, and {_dollars(found.transfer)} to the internet.")
    if found.archived:
        print(f"{human(found.archived)} of it is archived: what restoring it costs is not in this.")
    print(
        f"An estimate from the list prices of {found.region} of {found.dated} ({found.source}), before tax; "
        "older versions and unfinished uploads are not in it."
    )


def _dollars(amount: float) -> str:
    if amount >= 1 or not amount:
        return f"${amount:,.2f}"
    return f"${amount:.6f}".rstrip("0") if amount >= 1e-6 else "< $0.000001"
