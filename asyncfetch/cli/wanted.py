"""The options by which a bulk job is told what to fetch; `download` and `prefetch` share them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncfetch.jobs import FORMATS, Reading, Request, selection

if TYPE_CHECKING:
    from collections.abc import Callable

_PANEL = "What to fetch"


def _option(kind: Any, *names: str, help: str) -> Any:
    return Annotated[kind, typer.Option(*names, help=help, rich_help_panel=_PANEL)]


_ASKED: dict[str, tuple[Any, Any]] = {
    "uris": (
        Annotated[list[str] | None, typer.Argument(help="A prefix: everything under it. Or several objects.")],
        None,
    ),
    "list_": (_option(str | None, "--from", help="Names: a file, a URI, or - for standard input."), None),
    "format": (
        _option(str | None, "--format", help=f"{', '.join(FORMATS)}; else by its name."),
        None,
    ),
    "column": (_option(str | None, "--column", help="Which one has the names: a header, or a number from 1."), None),
    "header": (_option(bool | None, "--header/--no-header", help="Whether the first row is one."), None),
    "encoding": (_option(str | None, "--encoding", help="Of the file, where it is not UTF-8."), None),
    "prefix": (_option(str | None, "--prefix", help="Where names are looked up, with one listing."), None),
    "match": (_option(str, "--match", help="exact, name (in any folder) or stem (whatever its extension)."), "exact"),
    "ambiguous": (_option(str, "--ambiguous", help="Several objects for a name: first, newest, all or fail."), "fail"),
    "include": (_option(list[str] | None, "--include", help="Globs, such as '*.jpg'; only these."), None),
    "exclude": (_option(list[str] | None, "--exclude", help="Globs; not these."), None),
    "min_size": (_option(str | None, "--min-size", help="Such as 10kB."), None),
    "max_size": (_option(str | None, "--max-size", help="Such as 2GiB."), None),
    "newer_than": (_option(str | None, "--newer-than", help="A date or a duration, such as 7d."), None),
}


def asking(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Gives a command these options, and hands what they say to it as its second argument, a `Request`."""
    first, _, *own = inspect.signature(function, eval_str=True).parameters.values()
    asked = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _ASKED.items()
    ]
    rest = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

    def run(options: Any, **values: Any) -> int | None:
        return function(options, _request(**{name: values.pop(name) for name in _ASKED}), **values)

    run.__signature__ = inspect.Signature([first, *asked, *rest])  # type: ignore[attr-defined]
    run.__doc__, run.__name__ = function.__doc__, function.__name__
    return run


def _request(uris: list[str] | None, list_: str | None, **said: Any) -> Request:
    prefix = said["prefix"]
    names = tuple(uris or ())
    if (
        prefix is None
        and list_ is None
        and len(names) == 1
        and not names[0].lower().startswith(("http://", "https://"))
    ):
        prefix, names = names[0], ()
    return Request(
        rows=list_,
        uris=names,
        prefix=prefix,
        reading=Reading(said["format"], said["column"], said["header"], said["encoding"]),
        selection=selection(
            include=said["include"] or (),
            exclude=said["exclude"] or (),
            min_size=said["min_size"],
            max_size=said["max_size"],
            newer_than=said["newer_than"],
        ),
        match=said["match"],
        ambiguous=said["ambiguous"],
    )
