"""`asyncfetch models`: the models of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import Options, command, human
from asyncfetch.cli.stored import Extra, Place, Prefix, opened, read_json, run, to_output, when

if TYPE_CHECKING:
    from asyncfetch.datastore import ModelVersion

app = typer.Typer(name="models", help="The models of a store.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="The model's name.", metavar="NAME")]
StageOption = Annotated[str, typer.Option("--stage", help="registry or development.")]


@command
def ls(
    options: Options,
    store: Place,
    name: Annotated[str | None, typer.Argument(help="Only this model.", metavar="NAME")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Only registry, or development.")] = None,
    prefix: Prefix = "data",
) -> None:
    """List the versions of models: name, version, stage, size, run and description, the earliest first."""

    async def main() -> None:
        from asyncfetch.datastore import ModelRegistry

        async with opened(options, store, prefix) as there:
            found = await ModelRegistry(there).list_models(name, stage=stage)  # type: ignore[arg-type]  # it checks
        for model in found:
            _show(options, model)

    run(options, main)


@command
def add(
    options: Options,
    store: Place,
    name: Name,
    path: Annotated[str, typer.Argument(help="A file, a directory, or runs:/… of MLflow.", metavar="PATH")],
    description: Annotated[str | None, typer.Option("--description", help="In words.")] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", help="An object of JSON.")] = None,
    stage: StageOption = "registry",
    run_id: Annotated[str | None, typer.Option("--run", help="The run of this store that made it.")] = None,
    prefix: Prefix = "data",
    extra: Extra = None,
) -> None:
    """Register the files of a model as a version, and print it. Nothing is loaded or unpickled."""
    said = read_json(metadata, "--metadata")

    async def main() -> None:
        from asyncfetch.datastore import ModelRegistry

        async with opened(options, store, prefix, extra, make=True) as there:
            model = await ModelRegistry(there).register_model(
                name,
                path,
                description=description,
                metadata=said,
                stage=stage,  # type: ignore[arg-type]  # it checks
                run_id=run_id,
            )
        _show(options, model)

    run(options, main, resumes=True)


@command
def get(
    options: Options,
    store: Place,
    name: Name,
    version: Annotated[str, typer.Argument(help="Such as v20260131_0a1b2c.", metavar="VERSION")] = "latest",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A file or directory to make, or - for standard output.")
    ] = None,
    stage: StageOption = "registry",
    prefix: Prefix = "data",
) -> None:
    """Get the files of a model. Without -o in the working directory, under the name of the version's file or directory.

    What is there is not replaced.
    """

    async def main() -> None:
        from asyncfetch.datastore import ModelRegistry

        async with opened(options, store, prefix) as there:
            registry = ModelRegistry(there)
            model = await registry.find(name, version, stage=stage)  # type: ignore[arg-type]  # it checks
            if output == "-":
                await to_output(there, model.files)
                return
            into = output or (model.files.name or model.version if model.files.kind == "directory" else ".")
            path = await registry.get_model(name, model.version, into=into)
        if options.json:
            options.out({"path": str(path), **model.to_json()})
        elif not options.quiet:
            print(path)

    run(options, main)


@command
def promote(
    options: Options,
    store: Place,
    name: Name,
    version: Annotated[str, typer.Argument(help="Such as v20260131_0a1b2c.", metavar="VERSION")] = "latest",
    prefix: Prefix = "data",
    extra: Extra = None,
) -> None:
    """Take a version of a model from development into the registry."""

    async def main() -> None:
        from asyncfetch.datastore import ModelRegistry

        async with opened(options, store, prefix, extra) as there:
            model = await ModelRegistry(there).promote(name, version)
        _show(options, model)

    run(options, main)


def _show(options: Options, model: ModelVersion) -> None:
    if options.json:
        options.out(model.to_json())
        return
    facts = f"{when(model.created)}  {model.name}  {model.version}  {model.stage}  {human(model.files.size)}"
    print(f"{facts}  {model.run_id or '-'}  {model.description or '-'}")


app.command("ls")(ls)
app.command("add")(add)
app.command("get")(get)
app.command("promote")(promote)
