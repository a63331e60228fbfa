"""A group of commands that are imported when they are called: each needs other rooms, and no start needs them all."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Place(NamedTuple):
    """Where a command is, `module:name`, a function or a `Typer` of its own; and the first sentence of its help."""

    where: str
    brief: str


class Later(TyperGroup):
    """To be given to a `Typer` as `cls`. Its help, and the completion of a command's name, import no command."""

    places: ClassVar[dict[str, Place]]
    _listed = False  # the commands are to be listed, not called

    # typer keeps the types of its contexts and commands to itself.
    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        place = self.places.get(cmd_name)
        if place is None:
            return None
        if self._listed:
            return TyperCommand(cmd_name, help=place.brief)
        if cmd_name not in self.commands:
            module, _, name = place.where.partition(":")
            self.commands[cmd_name] = _made(cmd_name, getattr(import_module(module), name))
        return self.commands[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listed = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listed = False

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        self._listed = True
        try:
            found: list[Any] = super().shell_complete(ctx, incomplete)
        finally:
            self._listed = False
        return found


def _made(name: str, what: Any) -> Any:
    if not isinstance(what, typer.Typer):
        function, what = what, typer.Typer(add_completion=False)
        what.command(name)(function)
    command = typer.main.get_command(what)
    command.name = name
    return command
