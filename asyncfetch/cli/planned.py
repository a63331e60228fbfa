"""How the plan of a bulk job is shown, to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.cli.common import counted, human
from asyncfetch.origins.endpoints import environment_region
from asyncfetch.prices import DATED, prices_of

if TYPE_CHECKING:
    from asyncfetch.cli.common import Options
    from asyncfetch.jobs import Counts, Request

# What is assumed of a network where people want to know how long it will take.
_BYTES_A_SECOND, _SECONDS_A_REQUEST = 125e6, 0.03
_PAGE = 1000  # objects that a request for a listing tells of


def show(options: Options, request: Request, counts: Counts, *, lanes: int, delete: bool = False) -> None:
    """Says what a plan found, how long that may take, and what its requests cost. `lanes`: objects read at once."""
    seconds = max(counts.bytes / _BYTES_A_SECOND, counts.todo * _SECONDS_A_REQUEST / lanes)
    prices = prices_of(options.region or environment_region())
    dollars = prices.requests(gets=counts.todo, lists=-(-counts.listed // _PAGE))
    if options.json:
        options.event(
            {"event": "plan", "rows": counts.rows, "duplicates": counts.duplicates, "done": counts.done}
            | {"missing": counts.missing, "ambiguous": counts.unclear, "failed_before": counts.failed_before}
            | {"files": counts.todo, "bytes": counts.bytes, "of_unknown_size": counts.unsized}
            | {"to_remove": counts.gone if delete else 0, "expected_seconds": round(seconds, 1)}
            | {"requests": counts.todo, "request_dollars": round(dollars, 6)}
        )
        return
    say = options.say
    say(f"rows          {counts.rows:>12,}")
    say(f"duplicates    {counts.duplicates:>12,}")
    say(f"already done  {counts.done:>12,}")
    if counts.failed_before:
        say(f"failed before {counts.failed_before:>12,}  (--retry-failed tries them again)")
    say(f"missing       {counts.missing:>12,}{_some(counts.missing_names, counts.missing)}")
    say(f"ambiguous     {counts.unclear:>12,}{_some(counts.unclear_names, counts.unclear)}")
    if counts.clashes:
        say(f"  of several  {counts.clashes:>12,}  (--ambiguous {request.ambiguous})")
    if delete:
        say(f"to remove     {counts.gone:>12,}")
    unsized = f" and {counts.unsized:,} of unknown size" if counts.unsized else ""
    say(f"to fetch      {counts.todo:>12,}  {human(counts.bytes)}{unsized}")
    say(
        f"expected: {_span(seconds)} at 1 Gbit/s and 30 ms a request; {counted(counts.todo, 'request')}, "
        f"${dollars:.4f} at the prices of {prices.region} ({DATED}), traffic not counted"
    )


def _some(names: list[str], count: int) -> str:
    shown = [name if name == name.strip() and name.isprintable() else repr(name) for name in names]
    return f"  {', '.join(shown)}{', …' if count > len(shown) else ''}" if shown else ""


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
