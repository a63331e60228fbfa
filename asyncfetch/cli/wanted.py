"""The options by which a bulk job is told what to fetch; `download` and `prefetch` share them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.jobs import FORMATS, Reading, Request, selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.cli.common import Options

_PANEL = "What to fetch"


def _option(kind: Any, *names: str, help: str, metavar: str = "", shown: str | None = None) -> Any:
    return Annotated[
        kind, typer.Option(*names, help=help, rich_help_panel=_PANEL, metavar=metavar, show_default=shown or True)
    ]


_ASKED: dict[str, tuple[Any, Any]] = {
    "uris": (
        Annotated[
            list[str] | None,
            typer.Argument(help="A prefix: everything under it. Or several objects.", metavar="URI…"),
        ],
        None,
    ),
    "list_": (
        _option(str | None, "--from", help="A list of names: a file, a URI, or - for standard input.", metavar="FILE"),
        None,
    ),
    "format": (
        _option(
            str | None,
            "--format",
            help=f"Of the list: {', '.join(FORMATS)}.",
            shown="by the file's name, or lines",
            metavar="FORMAT",
        ),
        None,
    ),
    "column": (
        _option(
            str | None,
            "--column",
            help="Which column has the names: its header, or a number from 1.",
            shown="found by its header",
            metavar="NAME",
        ),
        None,
    ),
    "header": (
        _option(bool | None, "--header/--no-header", help="Whether the first row is one.", shown="found out"),
        None,
    ),
    "encoding": (
        _option(str | None, "--encoding", help="Of the list.", shown="utf-8, or as its mark says", metavar="NAME"),
        None,
    ),
    "prefix": (
        _option(str | None, "--prefix", help="Where names are looked up, with one listing.", metavar="URI"),
        None,
    ),
    "match": (
        _option(
            str,
            "--match",
            help="What a name is under the prefix: exact, name (in any folder) or stem (whatever its extension).",
            metavar="HOW",
        ),
        "exact",
    ),
    "ambiguous": (
        _option(
            str,
            "--ambiguous",
            help="What becomes of a name that several objects have: first, newest, all, or fail (none of them).",
            metavar="WHICH",
        ),
        "fail",
    ),
    "include": (
        _option(
            list[str] | None,
            "--include",
            help="Only names like this, such as '*.jpg'; may be repeated.",
            metavar="GLOB",
        ),
        None,
    ),
    "exclude": (
        _option(list[str] | None, "--exclude", help="No names like this; may be repeated.", metavar="GLOB"),
        None,
    ),
    "min_size": (_option(str | None, "--min-size", help="No smaller objects, such as 10kB.", metavar="SIZE"), None),
    "max_size": (_option(str | None, "--max-size", help="No larger objects, such as 2GiB.", metavar="SIZE"), None),
    "newer_than": (
        _option(str | None, "--newer-than", help="Changed since a date, or a duration such as 7d.", metavar="WHEN"),
        None,
    ),
    "parallel": (
        _option(int, "--parallel", help="Folders listed at once.", metavar="N"),
        1,
    ),
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


def empty(request: Request) -> UsageError:
    """What there is to say when a request comes to nothing."""
    if request.rows is not None:
        return UsageError(f"Nothing is to be fetched: {request.rows} names nothing", remedy="Check it, and --column.")
    remedy = "Check it, and the globs."
    if request.prefix is not None and "://" not in request.prefix:
        remedy = "A prefix in a bucket begins with s3://."
    return UsageError(f"Nothing is to be fetched: {request.prefix} has no objects", remedy=remedy)


class Paths:
    """Names without a scheme that were taken for paths, and are none: keys, perhaps, that lack their bucket."""

    def __init__(self) -> None:
        self._none = 0

    def failed(self, uri: str, error: str) -> None:
        """Takes note of a failure, by the name of its error."""
        self._none += error == ObjectNotFound.__name__ and "://" not in uri

    def hint(self, options: Options, request: Request, failed: int) -> None:
        """Says so where these are all that came of a request: `failed` failures, and nothing else."""
        if request.prefix is None and self._none == failed > 0:
            options.warn("no name is that of a file here. If they are keys of a bucket, say --prefix s3://bucket/…")


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
        parallel=said["parallel"],
    )
