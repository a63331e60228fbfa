"""What commands share: the options of access and output, the fetcher made of them, and how a run shows itself."""

from __future__ import annotations

import errno
import gc
import inspect
import json
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, get_args

import anyio
import typer

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from asyncfetch.cache.upkeep import Upkeep, View
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Failure
    from asyncfetch.settings import CachePolicy

T = TypeVar("T")

_KEYWORDS = re.compile(r"\b(anonymous|cache_dir|endpoint_url|memory_budget|requester_pays)(?:=True)?\b")

FAILED, USAGE = 1, 2

# Control characters (escape sequences, a carriage return) and those that turn the direction of text around.
_COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_REMEDIES = {
    errno.EACCES: "See that this user may read and write it, or name another.",
    errno.EDQUOT: "Free space there, or name another place.",
    errno.EISDIR: "Name a file.",
    errno.ENOSPC: "Free space there, or name another place.",
    errno.EROFS: "Name a place that can be written.",
}


class Interrupted(BaseException):
    """Raised in the place of KeyboardInterrupt, which typer would turn into an exit code and a word of its own.

    `number` is the signal, where the command itself took that.
    """

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self.number = number


class ReaderGone(BaseException):
    """Raised in the place of BrokenPipeError, which typer would turn into the exit code of failures."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options that every command takes."""

    endpoint_url: str | None
    region: str | None
    profile: str | None
    anonymous: bool
    requester_pays: bool
    cache_dir: str | None
    concurrency: int | None
    memory_budget: str | None
    revalidate: str | None
    json: bool
    quiet: bool
    debug: bool

    def fetcher(self) -> Fetcher:
        """A fetcher as the options say. Raises `UsageError` for what means nothing."""
        from asyncfetch.fetcher import Fetcher

        return Fetcher(
            endpoint_url=self.endpoint_url,
            region=self.region,
            profile=self.profile,
            anonymous=self.anonymous,
            requester_pays=self.requester_pays,
            cache_dir=self.cache_dir,
            concurrency=self.concurrency,
            memory_budget=self.memory_budget,
            revalidate=_revalidate(self.revalidate),
        )

    def upkeep(self, *, make: bool = False) -> AbstractContextManager[Upkeep]:
        """The cache directory that the options name, for a command that looks after it, or may `make` one."""
        from asyncfetch.cache.upkeep import upkeep

        return upkeep(self.cache_policy(), make=make)

    def view(self) -> AbstractContextManager[View]:
        """The same for a command that only looks at it, also where nobody can write it."""
        from asyncfetch.cache.upkeep import view

        return view(self.cache_policy())

    def cache_policy(self) -> CachePolicy:
        """Where the options say that the cache is."""
        from asyncfetch.settings import CachePolicy

        return CachePolicy(cache_dir=self.cache_dir)

    def say(self, text: str) -> None:
        """A line for people, on standard error, where it disturbs no output."""
        if not self.quiet and not self.json:
            print(shown(text, sys.stderr), file=sys.stderr)

    def warn(self, text: str) -> None:
        """A line about what went wrong, also where nothing else is to be said; programs read of it in their JSON."""
        if not self.json:
            print(f"asyncfetch: {shown(text, sys.stderr)}", file=sys.stderr)

    def out(self, value: dict[str, Any]) -> None:
        """A line for programs."""
        print(json.dumps(value, default=str))

    def event(self, value: dict[str, Any]) -> None:
        """A line for programs that follow a run: it is there at once."""
        print(json.dumps(value, default=str), flush=True)


def _revalidate(text: str | None) -> Any:
    if text is None or text in ("once", "always", "never"):
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--revalidate must be once, always, never or seconds, not {text!r}") from None


def _option(kind: Any, *names: str, help: str, panel: str, metavar: str | None = None, shown: str | None = None) -> Any:
    metavar = "" if kind is bool else metavar  # an option without a value
    return Annotated[
        kind, typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar, show_default=shown or True)
    ]


_ACCESS, _ENGINE, _OUTPUT = "Access", "Engine", "Output"
_SHARED: dict[str, tuple[Any, Any]] = {
    "endpoint_url": (
        _option(
            str | None,
            "--endpoint-url",
            help="An S3 other than AWS's.",
            shown="ASYNCFETCH_ENDPOINT_URL, AWS_ENDPOINT_URL",
            panel=_ACCESS,
            metavar="URL",
        ),
        None,
    ),
    "region": (
        _option(
            str | None, "--region", help="The bucket's region; else it is found out.", panel=_ACCESS, metavar="NAME"
        ),
        None,
    ),
    "profile": (
        _option(str | None, "--profile", help="A profile of the AWS configuration.", panel=_ACCESS, metavar="NAME"),
        None,
    ),
    "anonymous": (_option(bool, "--anonymous", help="Sign nothing: for public buckets.", panel=_ACCESS), False),
    "requester_pays": (
        _option(bool, "--requester-pays", help="Pay for requests and traffic of another's bucket.", panel=_ACCESS),
        False,
    ),
    "cache_dir": (
        _option(
            str | None,
            "--cache-dir",
            help="Where the cache is.",
            shown="ASYNCFETCH_CACHE_DIR, or ~/.cache/asyncfetch",
            panel=_ENGINE,
            metavar="DIR",
        ),
        None,
    ),
    "concurrency": (
        _option(
            int | None, "--concurrency", help="The most objects read at once.", shown="64", panel=_ENGINE, metavar="N"
        ),
        None,
    ),
    "memory_budget": (
        _option(
            str | None,
            "--memory-budget",
            help="For bodies in flight and pixels.",
            shown="512MiB",
            panel=_ENGINE,
            metavar="SIZE",
        ),
        None,
    ),
    "revalidate": (
        _option(
            str | None,
            "--revalidate",
            help="When to ask whether a cached object has changed: once a run, always, never, or after so many seconds."
            "",
            shown="once",
            panel=_ENGINE,
            metavar="WHEN",
        ),
        None,
    ),
    "json": (_option(bool, "--json", help="Results as JSON on standard output.", panel=_OUTPUT), False),
    "quiet": (_option(bool, "--quiet", "-q", help="Say nothing but errors.", panel=_OUTPUT), False),
    "debug": (_option(bool, "--debug", help="Show tracebacks.", panel=_OUTPUT), False),
}


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Gives a command the shared options, as its first argument `options`, and makes its result the exit code."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    for parameter in own:
        _name_value(parameter)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    ]

    @wraps(function)
    def run(**values: Any) -> None:
        options = Options(**{name: values.pop(name) for name in _SHARED})
        gc.freeze()  # what is imported stays: a collection that looks at all of it again takes a tenth of a second
        gc.enable()
        try:
            code = function(options, **values)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise Interrupted from None
        except BrokenPipeError:
            raise ReaderGone from None
        if code:
            raise typer.Exit(code)

    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    del run.__wrapped__  # typer would look behind the signature
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run


def _name_value(parameter: inspect.Parameter) -> None:
    """Says in a word what an argument or an option takes, where it does not: help would show `<str>`, or `<bool>`."""
    kind, details = get_args(parameter.annotation)
    if kind in (bool, bool | None):
        details.metavar = ""
    elif details.metavar is None:
        if isinstance(details, typer.models.OptionInfo):
            details.metavar = "N" if kind in (int, int | None) else "TEXT"
        else:
            details.metavar = parameter.name.upper() + ("…" if kind == list[str] | None else "")


def on_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Runs a coroutine function on uvloop."""
    return anyio.run(main, backend_options={"use_uvloop": True})


def describe(failure: Failure) -> dict[str, Any]:
    """A failure as a line for programs."""
    return {
        "uri": failure.uri,
        "index": failure.index,
        "stage": failure.stage,
        "attempts": failure.attempts,
        "error": type(failure.exception).__name__,
        "message": str(failure.exception),
    }


def told(error: Exception) -> str:
    """An error as people are told it: the system's own as `file: what is wrong. What to do.`, without its number."""
    if not isinstance(error, OSError) or error.strerror is None:
        # What is refused begins with the name that the package has for it.
        name, space, rest = str(error).partition(" ")
        option = f"--{name.replace('_', '-')}"
        said = name in _SHARED or option in {argument.partition("=")[0] for argument in sys.argv}
        if isinstance(error, UsageError) and space and said:
            return f"{option} {rest}"
        return str(error) or type(error).__name__
    remedy = f". {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
    if error.filename is None:
        return error.strerror + remedy
    path = Path(os.fsdecode(error.filename))
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        file = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
        if not file.is_dir():
            where = "" if file == path else f" ({file})"
            return f"{path}: a file lies where a directory has to be{where}. Move it away, or name another place."
    return f"{path}: {error.strerror}{remedy}"


def in_options(remedy: str) -> str:
    """A remedy in which the keywords of Python are the options of a command."""
    return _KEYWORDS.sub(lambda found: "--" + found[1].replace("_", "-"), remedy)


def shown(text: str, stream: TextIO) -> str:
    """A text with names in it as it may be written: to a terminal without what would command it.

    Whoever may write to a bucket chooses the names there. What goes elsewhere is left as it is, for programs.
    """
    if not stream.isatty():
        return text
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def human(count: float) -> str:
    """Bytes for people, in units of 1,000 as disks and networks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def counted(count: int, what: str) -> str:
    """So many things, in words: `1 object`, `2,000 objects`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def moment(seconds: float | None) -> str | None:
    """Seconds since 1970 as a date and a time of day in UTC, such as 2026-01-31T12:00:00Z; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
