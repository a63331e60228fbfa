"""Results for people: a table, the targets, a picture."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.results import SOUND, US, Measured, Results, Spread, ratio, spread, state, why
from bench.rows import ROWS
from bench.targets import Checked, Figures, Target, all_hold, check_figures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

WIDTH = 150  # of what is printed into a pipe

# Columns of the tables: figures with their ratio to ours, and two without.
_KEEPS, _BESIDE = "what is kept", "MB/s beside objects/s"
_HEADS = {
    _KEEPS: ("each body",),
    _BESIDE: ("MB/s",),
    "objects_per_s": ("objects/s", "x"),
    "mb_per_s": ("MB/s", "x"),
    "cpu_us_per_object": ("CPU us/object", "x"),
    "cpu_s_per_gb": ("CPU s/GB", "x"),
    "own_cpu_us_per_object": ("of it parent", "x"),
    "peak_mb": ("peak MB", "x"),
}
_DOES = {"all": "BLAKE3 + file", "no digest": "file, no digest", "discards": "discards"}
_PLOTTED = (("objects_per_s", "objects/s"), ("cpu_us_per_object", "CPU per object, us (less is better)"))
_PLOTTED_LARGE = (("mb_per_s", "MB/s"), ("cpu_s_per_gb", "CPU per GB, s (less is better)"))


def show(console: Console, results: Results) -> None:
    """Prints a table for each scenario, and on what all of it was measured."""
    for measured in results.scenarios:
        show_scenario(console, measured)
    show_circumstances(console, results)


def show_scenario(console: Console, measured: Measured) -> None:
    """Prints a table: medians with least and most, and each as a ratio to ours."""
    console.print(_table(measured))
    for row in measured.rows:
        if text := why(measured, row):
            console.print(f"  {row}: {state(measured, row)}: {text}", style="red", highlight=False, markup=False)


def show_circumstances(console: Console, results: Results) -> None:
    """Prints what was not measured, and how and where the rest was."""
    for row, reason in results.missing.items():
        console.print(f"Not measured: {row} ({reason}).", highlight=False, markup=False)
    about = results.settings
    console.print(
        f"Medians of {about['rounds']} interleaved rounds, least-most; x: ratio to asyncfetch. CPU and memory are "
        f"those of the client's whole process tree (peak of the {about['memory']}); servers not counted, "
        f"on the same {results.machine['cores']} cores. "
        f"Caches on {about['medium']}; objects from {about['server']}.",
        style="dim",
        highlight=False,
        markup=False,
    )


def show_targets(console: Console, checked: list[Checked]) -> None:
    """Prints each target, what was measured, and whether it holds."""
    table = Table(title="What must hold", title_justify="left")
    for name in ("target", "wanted", "measured", ""):
        table.add_column(name, justify="left" if name in ("target", "") else "right")
    colours = {"OK": "green", "MISSED": "red", "NOT MEASURED": "yellow"}
    for target, value in ((one.target, one.value) for one in checked):
        verdict = Checked(target, value).verdict
        found = "-" if value is None else f"{number(value)}{target.unit}"
        table.add_row(target.text, target.wanted, found, f"[{colours[verdict]}]{verdict}[/]")
    console.print(table)


def hold_figures(targets: Sequence[Target[Figures]], figures: Figures) -> bool:
    """Prints targets on standard error, beside the figures on standard output, and says whether all hold."""
    checked = check_figures(targets, figures)
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDTH
    show_targets(console, checked)
    return all_hold(checked)


def draw(path: Path, results: Results) -> None:
    """Writes a PNG: for each scenario the bars of all rows, with a whisker from least to most.

    Raises `ImportError` without matplotlib.
    """
    from matplotlib.figure import Figure

    drawn = [(measured, _sound(measured)) for measured in results.scenarios if _sound(measured)]
    heights = [len(rows) + 1.5 for _, rows in drawn]
    figure = Figure(figsize=(13, 1 + 0.34 * sum(heights) + 0.3 * len(drawn)), layout="constrained")
    axes: Any = figure.subplots(len(drawn), len(_PLOTTED), squeeze=False, height_ratios=heights) if drawn else []
    for (measured, rows), line in zip(drawn, axes, strict=True):
        plotted = _PLOTTED_LARGE if measured.scenario.startswith("large") else _PLOTTED
        for (name, label), axis in zip(plotted, line, strict=True):
            _bars(axis, measured, rows, name, label)
        line[0].set_yticks(range(len(rows)), [ROWS[row].label for row in rows], fontsize=8)
        line[0].set_title(measured.title, loc="left", fontsize=10, fontweight="bold")
    machine, about = results.machine, results.settings
    figure.suptitle(
        f"{results.created[:10]}  {about['commit'] or 'no commit'}  {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['system']} {machine['kernel']}; medians of {about['rounds']} rounds, whiskers "
        "least to most; grey is what is possible at all",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=110)


def number(value: float) -> str:
    """Three figures, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def _table(measured: Measured) -> Table:
    columns = _columns(measured.scenario)
    table = Table(title=measured.title, title_justify="left", title_style="bold")
    for head in ("", *(head for column in columns for head in _HEADS[column])):
        table.add_column(head, justify="left" if head in ("", "each body") else "right", no_wrap=True)
    for name in measured.rows:
        row, fared = ROWS[name], state(measured, name)
        cells = [cell for column in columns for cell in _cells(measured, name, column)]
        if fared not in SOUND:
            cells[-1] = fared
        table.add_row(row.label, *cells, style="bold green" if name == US else "dim" if row.floor else None)
    return table


def _cells(measured: Measured, row: str, column: str) -> list[str]:
    if column == _KEEPS:
        return [_DOES[ROWS[row].does]]
    if column == _BESIDE:
        found = spread(measured, row, "mb_per_s")
        return ["" if found is None else number(found.median)]
    return [_spread(spread(measured, row, column)), _ratio(measured, row, column)]


def _columns(scenario: str) -> tuple[str, ...]:
    """What is worth looking at."""
    match scenario.partition("-")[0].partition("@")[0]:
        case "list":
            return "objects_per_s", "cpu_us_per_object", "peak_mb"
        case "images":
            return "objects_per_s", "cpu_us_per_object", "own_cpu_us_per_object", "peak_mb"
        case "large":
            return _KEEPS, "mb_per_s", "cpu_s_per_gb", "peak_mb"
        case "warm":
            return "objects_per_s", _BESIDE, "cpu_us_per_object", "peak_mb"
    return _KEEPS, "objects_per_s", _BESIDE, "cpu_us_per_object", "peak_mb"


def _spread(found: Spread | None) -> str:
    if found is None:
        return ""
    if found.least == found.most:
        return number(found.median)
    return f"{number(found.median)} [dim]{number(found.least)}-{number(found.most)}[/]"


def _ratio(measured: Measured, row: str, figure: str) -> str:
    found = ratio(measured, row, figure)
    return "" if found is None else f"{found:.2f}"


def _sound(measured: Measured) -> list[str]:
    return [row for row in measured.rows if spread(measured, row, "objects_per_s") is not None]


def _bars(axis: Axes, measured: Measured, rows: list[str], name: str, label: str) -> None:
    found = [one for row in rows if (one := spread(measured, row, name)) is not None]
    medians = [one.median for one in found]
    whiskers = [[one.median - one.least for one in found], [one.most - one.median for one in found]]
    colours = ["#1a7f37" if row == US else "#c4c4c4" if ROWS[row].floor else "#4c78a8" for row in rows]
    places = range(len(rows))
    axis.barh(places, medians, xerr=whiskers, color=colours, ecolor="#333333", capsize=3, height=0.72)
    for place, one in zip(places, found, strict=True):
        axis.annotate(
            number(one.median), (one.most, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
    axis.set_yticks([])
    axis.invert_yaxis()
    axis.margins(x=0.14)
    axis.set_xlim(left=0)
    axis.set_xlabel(label, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
