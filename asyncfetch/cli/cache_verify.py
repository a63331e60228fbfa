"""`asyncfetch cache verify`: a check of the whole cache."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, human
from asyncfetch.cli.progress import Progress

if TYPE_CHECKING:
    from asyncfetch.cache.upkeep import Trouble

SHOWN = 100  # troubles of one kind for people; programs get all


@command
def verify(
    options: Options,
    repair: Annotated[bool, typer.Option("--repair", help="Set right what can be.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads that read; else one a core.", min=1, max=256)] = None,
) -> int:
    """Check the whole cache: read every blob, compare every row.

    1. Walk over the blobs; what is none by name, place or kind is strange.
    2. Read each on all cores; its digest must be its name.
    3. Compare each with its row in the index: there, and of the right size?
    4. Compare what objects the index knows with the blobs that they need.
    5. Compare the sums that the index keeps with its rows.

    With --repair what is damaged or strange is set aside in v1/bad/, whole blobs without a row are adopted, rows
    and sums corrected. Safe while jobs run. Exit code 0: nothing was found; 1: something was, set right or not.
    """
    from asyncfetch.cache.upkeep import Blob, Trouble, check

    began = time.monotonic()
    kinds: Counter[str] = Counter()
    shown: list[Trouble] = []
    stale = mended = 0
    with options.upkeep() as keeping:
        total = keeping.index.totals().blobs or None  # none: an index that was lost
        with Progress("verify", total=total, quiet=options.quiet or options.json) as progress:
            for item in check(keeping, repair=repair, threads=threads):
                if isinstance(item, Blob):
                    progress.add(item.size)
                elif isinstance(item, Trouble):
                    kinds[item.kind] += 1
                    mended += item.mended
                    if options.json:
                        options.out(item._asdict())
                    elif kinds[item.kind] <= SHOWN:
                        shown.append(item)
                else:
                    stale = item.objects
    seconds = time.monotonic() - began
    found = kinds.total()
    if options.json:
        told = {"blobs": progress.objects, "blob_bytes": progress.bytes, "stale": stale, "troubles": found}
        options.out(told | {"mended": mended, "kinds": dict(kinds), "seconds": round(seconds, 3)})
        return FAILED if found else 0
    for trouble in shown:
        done = " (set right)" if trouble.mended else " (could not be set right)" if repair else ""
        print(f"{trouble.kind}: {trouble.name} {trouble.detail}{done}")
    for kind, count in kinds.items():
        if count > SHOWN:
            print(f"{kind}: … and {count - SHOWN:,} more (--json lists all)")
    if stale:
        does = "forgotten" if repair else "known"
        options.say(f"{stale:,} objects whose blobs have gone are {does}, which is no trouble")
    rate = progress.bytes / max(seconds, 1e-9)
    verdict = f"{found:,} troubles, {mended:,} set right" if found else "nothing is wrong"
    options.say(
        f"{progress.objects:,} blobs, {human(progress.bytes)} read in {seconds:.1f} s ({human(rate)}/s): {verdict}"
    )
    return FAILED if found else 0
