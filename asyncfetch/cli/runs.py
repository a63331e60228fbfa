"""`asyncfetch runs`: the runs of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import Options, command
from asyncfetch.cli.stored import Place, Prefix, line, opened, read_since, run, when

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(name="runs", help="The runs of a store.", no_args_is_help=True, add_completion=False)


@command
def ls(
    options: Options,
    store: Place,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only about this model.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="A date or a duration, such as 7d.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="A word; all that are said must be there.")] = None,
    prefix: Prefix = "data",
) -> None:
    """List runs: when they were stored, id, type, project, tags and metrics, the earliest first."""
    start = read_since(since)

    async def main() -> None:
        async with opened(options, store, prefix) as there:
            found = await there.list_runs(project=project, type=type, since=start, tags=tags or None, model=model)
        for one in found:
            if options.json:
                options.out(one.to_json())
            else:
                facts = f"{when(one.created)}  {one.run_id}  {one.run_type}  {one.project or '-'}"
                print(f"{facts}  {_words(one.tags)}  {_words(one.metrics)}")

    run(options, main)


@command
def show(
    options: Options,
    store: Place,
    run_id: Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")],
    prefix: Prefix = "data",
) -> None:
    """Show a run: what was said of it, and its data. Exit code 1 when there is none."""

    async def main() -> None:
        async with opened(options, store, prefix) as there:
            found = await there.get_run(run_id)
        if options.json:
            options.out(found.to_json())
            return
        told = {"run": found.run_id, "type": found.run_type, "project": found.project or "-"}
        told |= {"stored": when(found.created), "tags": _words(found.tags), "metrics": _words(found.metrics)}
        told |= {"models": _words(found.models), "kept as": _words(found.storage_modes)}
        for name, value in told.items():
            print(f"{name:9} {value}")
        for name, reference in found.data.items():
            print(f"  {name}  {line(reference)}")

    run(options, main)


def _words(given: Mapping[str, object] | tuple[str, ...]) -> str:
    words = given if isinstance(given, tuple) else [f"{name}={value}" for name, value in given.items()]
    return ",".join(words) or "-"


app.command("ls")(ls)
app.command("show")(show)
