"""The commands, put together, and the one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli import bench, cache, cost, demo, doctor, download, get, ls, prefetch, presign, thumbnails
from asyncfetch.cli.common import FAILED, INTERRUPTED, USAGE, Interrupted, ReaderGone
from asyncfetch.errors import AsyncfetchError, UsageError

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="asyncfetch",
    help="Fetch objects from S3 through a content-addressed disk cache.",
    no_args_is_help=True,
    add_completion=False,
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


app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("presign")(presign.presign)
app.command("cost")(cost.cost)
app.command("bench")(bench.bench)
app.command("download")(download.download)
app.command("get")(get.get)
app.command("ls")(ls.ls)
app.command("prefetch")(prefetch.prefetch)
app.command("thumbnails")(thumbnails.thumbnails)
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Runs the command line and ends the process with its exit code.

    0: all well; 1: some objects failed; 2: wrong use; 130: interrupted, 143 by SIGTERM; 141: who read the output has
    gone. A failure is one line on standard error that says what happened, to which URI, and what to do; with `--debug`
    its traceback comes first.
    """
    debug = "--debug" in sys.argv
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        signal.raise_signal(signal.SIGINT)  # one way out: what Ctrl-C does, a container's stop does too

    signal.signal(signal.SIGTERM, terminate)
    try:
        app()
    except (Interrupted, KeyboardInterrupt):
        print("asyncfetch: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM if terminated else INTERRUPTED)
    except ReaderGone:
        # Whoever read our output has had enough. Python flushes stdout at exit, and must not fail over it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (AsyncfetchError, OSError) as error:
        if debug:
            import traceback

            traceback.print_exc()
        print(f"asyncfetch: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILED)
