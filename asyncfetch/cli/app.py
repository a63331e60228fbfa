"""The commands, put together, and the one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from asyncfetch.cli.common import FAILED, USAGE, Interrupted, ReaderGone, in_options, shown, told
from asyncfetch.cli.later import Later, Place
from asyncfetch.cli.signals import heeded, take_leave
from asyncfetch.errors import AsyncfetchError, UsageError

if TYPE_CHECKING:
    from types import FrameType


class _Commands(Later):
    places: ClassVar[dict[str, Place]] = {
        "demo": Place(
            "asyncfetch.cli.demo:demo",
            "Watch real images come out of an S3 on this machine: cold, warm, and warm with decoding.",
        ),
        "get": Place("asyncfetch.cli.get:get", "Fetch one object through the cache."),
        "ls": Place(
            "asyncfetch.cli.ls:ls",
            "List objects: date, size and URI, one a line; what ends with a slash can be listed further.",
        ),
        "prefetch": Place(
            "asyncfetch.cli.prefetch:prefetch",
            "Fill the cache with a prefix, or with the objects that a file names, as it is read.",
        ),
        "download": Place(
            "asyncfetch.cli.download:download", "Fetch a prefix, or the objects that a file names, into a directory."
        ),
        "thumbnails": Place(
            "asyncfetch.cli.thumbnails:thumbnails",
            "Make thumbnails of a prefix's images, or of those of a list, and write them beside the originals.",
        ),
        "bench": Place("asyncfetch.cli.bench:bench", "Measure a bucket: the same objects at rising concurrency."),
        "doctor": Place(
            "asyncfetch.cli.doctor:doctor",
            "Look at everything that reading a prefix needs, one light each with its remedy.",
        ),
        "presign": Place(
            "asyncfetch.cli.presign:presign",
            "Make URLs that open objects without credentials until they expire: CSV, or JSONL with --json.",
        ),
        "cost": Place(
            "asyncfetch.cli.cost:cost",
            "Estimate what lies under a prefix costs a month, and what reading all of it once would.",
        ),
        "cache": Place("asyncfetch.cli.cache:app", "Look at the cache, and look after it."),
        "store": Place("asyncfetch.cli.store:app", "Data in a content-addressed store, and the care for it."),
        "runs": Place("asyncfetch.cli.runs:app", "The runs of a store."),
        "models": Place("asyncfetch.cli.models:app", "The models of a store."),
    }


app = typer.Typer(
    name="asyncfetch",
    cls=_Commands,
    help="Fetch objects from S3 through a content-addressed disk cache.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from asyncfetch import __version__

        typer.echo(f"asyncfetch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line and ends the process with its exit code.

    0: all well; 1: some objects failed; 2: wrong use; 130: interrupted, 143 by SIGTERM, 129 by SIGHUP; 141: who read
    the output has gone. A failure is one line on standard error that says what happened, to which URI, and what to do;
    with `--debug` its traceback comes first.
    """
    _open_what_is_closed()
    gc.disable()  # while the command is imported, which makes no garbage; `command` enables it
    AsyncfetchError.phrase = in_options
    debug = "--debug" in sys.argv
    ended_by: int = signal.SIGINT

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended_by
        ended_by = number
        take_leave(number)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # one way out: what Ctrl-C does, a container's stop does too

    for number in heeded():
        if number != signal.SIGINT:
            signal.signal(number, end)
    try:
        app(prog_name="asyncfetch")  # also to `python -m asyncfetch`
    except (Interrupted, KeyboardInterrupt) as interruption:
        print("asyncfetch: interrupted", file=sys.stderr)
        itself = interruption.number if isinstance(interruption, Interrupted) else None
        sys.exit(128 + (itself or ended_by))
    except ReaderGone:
        # Whoever read our output has had enough. Python flushes stdout at exit, and must not fail over it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (AsyncfetchError, OSError) as error:
        if debug:
            import traceback

            traceback.print_exc()
        print(f"asyncfetch: {shown(told(error), sys.stderr)}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILED)


def _open_what_is_closed() -> None:
    """Has the null device where whoever started the program closed standard input, output or errors (`2>&-`).

    Else the next file that is opened takes the number, and uvloop aborts the process when it closes that.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - as long as the process
