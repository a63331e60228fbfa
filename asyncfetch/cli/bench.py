"""`asyncfetch bench`: how fast a bucket of the user's really is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, counted, human, on_loop
from asyncfetch.cli.progress import Progress
from asyncfetch.errors import ExtraMissing, UsageError

if TYPE_CHECKING:
    from asyncfetch.objects import ObjectStat, Percentiles
    from asyncfetch.toolbox import Survey

STEPS = (4, 8, 16, 32, 64, 128)


@command
def bench(
    options: Options,
    uri: Annotated[str, typer.Argument(help="A prefix.")],
    objects: Annotated[int, typer.Option("--objects", "-n", help="How many to read in each step.", min=1)] = 500,
    everything: Annotated[bool, typer.Option("--all", help="Read all that lies under the prefix.")] = False,
    steps: Annotated[str, typer.Option(help="The concurrencies to try, rising.")] = ",".join(map(str, STEPS)),
    decode: Annotated[bool, typer.Option("--decode", help="Decode the objects as images too.")] = False,
    plot: Annotated[str | None, typer.Option(help="A PNG to draw throughput over time into.")] = None,
) -> int:
    """Measure a bucket: the same objects at rising concurrency. Writes nothing to it, and nothing is kept."""
    concurrencies = _steps(steps) if options.concurrency is None else [options.concurrency]
    if plot is not None:
        _need_matplotlib()
        _try(plot)
    survey = on_loop(lambda: _measure(options, uri, None if everything else objects, concurrencies, decode))
    if options.json:
        options.out(_told(survey))
    else:
        _print(survey)
    if plot is not None:  # last: whatever becomes of the picture, the figures have been told
        _draw(survey, plot, uri)
    return FAILED if any(step.failed for step in survey.steps) else 0


async def _measure(options: Options, uri: str, most: int | None, concurrencies: list[int], decode: bool) -> Survey:
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.settings import CachePolicy
    from asyncfetch.toolbox import measure

    # The cache is passed by, but bodies touch its disk: one of the run's own, so that nothing of the user's is near.
    cache = CachePolicy(cache_dir=options.cache_dir, ephemeral=True)
    settings = replace(options.fetcher().settings, cache=cache)
    sample: list[ObjectStat] = []
    async with Fetcher(settings) as fetcher:
        async for stat in fetcher.list(uri):
            if stat.size or not stat.uri.endswith("/"):
                sample.append(stat)
            if len(sample) == most:
                break
        list_requests = fetcher.stats().requests
    total = len(sample) * len(concurrencies)
    with Progress("bench", total=total, quiet=options.quiet or options.json) as progress:
        return await measure(
            settings,
            sample,
            concurrencies,
            decode=decode,
            list_requests=list_requests,
            seen=lambda concurrency, size: progress.add(size),
        )


def _steps(text: str) -> list[int]:
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        steps = []
    if not steps or min(steps) < 1:
        raise UsageError(f"--steps must be whole numbers with commas between, not {text!r}")
    return sorted(set(steps))


def _try(path: str) -> None:
    """Raises now what would keep the picture from being written after minutes of measuring."""
    picture = Path(path)
    new = not os.path.lexists(picture)
    with picture.open("ab"):
        pass
    if new:
        picture.unlink()


def _told(survey: Survey) -> dict[str, object]:
    return {
        "steps": [
            {
                "concurrency": step.concurrency,
                "objects": step.objects,
                "bytes": step.bytes,
                "failed": step.failed,
                "seconds": round(step.seconds, 4),
                "objects_per_second": round(step.objects_per_second, 1),
                "bytes_per_second": round(step.bytes_per_second),
                "cpu_seconds_per_gigabyte": round(step.cpu_seconds_per_gigabyte, 3),
                "first_byte_seconds": step.first_byte._asdict(),
                "whole_body_seconds": step.whole_body._asdict(),
                "requests": step.requests,
                "verdict": step.verdict._asdict(),
            }
            for step in survey.steps
        ],
        "enough": survey.best.concurrency,
        "list_requests": survey.list_requests,
        "dollars": round(survey.dollars, 6),
        "verdict": survey.verdict._asdict(),
        "curve": [list(moment) for moment in survey.curve],
    }


def _print(survey: Survey) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("at once", "objects/s", "MB/s", "first byte ms", "whole ms", "CPU s/GB", "failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for step in survey.steps:
        table.add_row(
            f"{step.concurrency}",
            f"{step.objects_per_second:,.0f}",
            f"{step.bytes_per_second / 1e6:,.1f}",
            _times(step.first_byte),
            _times(step.whole_body),
            f"{step.cpu_seconds_per_gigabyte:.2f}",
            f"{step.failed:,}",
            style="bold" if step is survey.best else None,
        )
    console = Console()
    console.print(table)
    console.print("Times are p50 / p95 / p99, from the request to the head of its answer, and to the last byte.")
    first = survey.steps[0]
    requests = survey.list_requests + sum(step.requests for step in survey.steps)
    console.print(
        f"{first.objects:,} objects, {human(first.bytes)}, read {counted(len(survey.steps), 'time')}: "
        f"{requests:,} requests, {survey.list_requests:,} of them to list, about ${survey.dollars:.4f} at S3's list "
        "price.",
        markup=False,
    )
    if first.objects + first.failed < survey.steps[-1].concurrency:
        console.print("Of fewer objects no step can have as many out as it says: --objects or --all take more.")
    console.print(str(survey.verdict), markup=False)


def _times(percentiles: Percentiles) -> str:
    """Milliseconds with two digits that count."""
    return "/".join(f"{seconds * 1e3:.{0 if seconds >= 0.01 else 1}f}" for seconds in percentiles)


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ExtraMissing(
            "--plot draws with matplotlib, which is missing", remedy="pip install 'asyncfetch[bench]'"
        ) from None


def _draw(survey: Survey, path: str, title: str) -> None:
    from matplotlib.figure import Figure

    from asyncfetch.toolbox.throughput import MOMENT

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    edges, rate = [0.0], []
    since = survey.curve[0]
    for moment in survey.curve:
        if moment.seconds - since.seconds >= MOMENT:  # over less, one object more or less makes a peak
            edges.append(moment.seconds)
            rate.append((moment.bytes - since.bytes) / (moment.seconds - since.seconds) / 1e6)
            since = moment
    axes.stairs(rate, edges, color="#1f6feb")
    start = 0.0
    for step in survey.steps:
        axes.axvline(start, color="#999999", linewidth=0.6)
        axes.annotate(
            f" {step.concurrency} at once", (start, 1.0), xycoords=("data", "axes fraction"), va="top", fontsize=8
        )
        start += step.seconds
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("MB/s")
    axes.set_title(f"{title}\n{survey.verdict}", fontsize=9, wrap=True)
    figure.savefig(path, dpi=130, format="png")
