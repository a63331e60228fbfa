"""A group of commands that are imported when they are named: each needs other rooms, and no start needs them all."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class Later(TyperGroup):
    """To be given to a `Typer` as `cls`. Help for the whole group imports every command of it."""

    places: ClassVar[dict[str, str]]
    """Where each command is, `module:name`: a function, or a `Typer` of its own."""

    # typer keeps the types of its contexts and commands to itself.
    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in self.places:
            module, _, name = self.places[cmd_name].partition(":")
            self.commands[cmd_name] = _made(cmd_name, getattr(import_module(module), name))
        return self.commands.get(cmd_name)


def _made(name: str, what: Any) -> Any:
    if not isinstance(what, typer.Typer):
        function, what = what, typer.Typer(add_completion=False)
        what.command(name)(function)
    command = typer.main.get_command(what)
    command.name = name
    return command
