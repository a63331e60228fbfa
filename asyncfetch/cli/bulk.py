"""What commands of bulk jobs have in common: the question before, the two meanings of Ctrl-C, and how to go on."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import Interrupted
from asyncfetch.cli.signals import heeded, take_leave
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncfetch.cli.common import Options

STOPPED = 3  # the exit code of a job that ended before its end, in good order

JOB = "The job"  # the panel of its options
FailFast = Annotated[bool, typer.Option("--fail-fast", help="End with the first failure.", rich_help_panel=JOB)]
MaxFailures = Annotated[
    str | None,
    typer.Option("--max-failures", help="More end it: such as 10 or 2%.", metavar="N|P%", rich_help_panel=JOB),
]


def asked(options: Options, otherwise: str) -> bool:
    """Asks whether to go on; where not, says `otherwise`. Raises `UsageError` where nobody can answer."""
    if not sys.stdin.isatty() or options.json or options.quiet:
        raise UsageError("There is nobody to ask whether to go on", remedy="Say --yes, or --dry-run.")
    if typer.confirm("Go on?", err=True):
        return True
    options.say(otherwise)
    return False


def limit(max_failures: str | None, *, fail_fast: bool) -> Limit:
    """How many failures end a job, as its options say. Raises `UsageError`."""
    if fail_fast and max_failures is not None:
        raise UsageError("--fail-fast is --max-failures 0", remedy="Say one of them.")
    return Limit(0) if fail_fast else Limit() if max_failures is None else Limit.parse(max_failures)


def typed() -> str:
    """The command as it can be typed again."""
    return shlex.join(["asyncfetch", *sys.argv[1:]])


class Interrupts:
    """Ctrl-C, SIGTERM or SIGHUP while a job runs: the first asks it to end in good order, the second ends it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._number: int | None = None  # of the first

    @contextlib.contextmanager
    def lead_to(self, stop: Callable[[str], None]) -> Iterator[None]:
        """Has the first call `stop`, and the second cancel this task, which then raises `Interrupted`."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt(number: int) -> None:
            take_leave(number)
            if self._number is not None:
                task.cancel()
                return
            self._number = number
            stop("Interrupted")
            self._options.say("asyncfetch: finishing what is in flight; once more ends it now")

        before = {number: signal.getsignal(number) for number in heeded()}
        for number in before:
            loop.add_signal_handler(number, interrupt, number)
        try:
            yield
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    @property
    def come(self) -> bool:
        """Whether one has come."""
        return self._number is not None

    def check(self) -> None:
        """Raises `Interrupted` if one has come."""
        if self._number is not None:
            raise Interrupted(self._number) from None
