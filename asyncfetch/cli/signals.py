"""The signals that end a command in good order: Ctrl-C, a container's stop, and a terminal that closes."""

from __future__ import annotations

import os
import signal

STDOUT, STDERR = 1, 2


def heeded() -> list[signal.Signals]:
    """Those that end a command. What whoever started it has it ignore stays ignored: nohup, or a shell's `&`."""
    all_of_them = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in all_of_them if signal.getsignal(number) is not signal.SIG_IGN]


def take_leave(number: int) -> None:
    """As one of them comes: after the terminal's end what is still to be said goes nowhere, and fails nothing."""
    if number == signal.SIGHUP:
        for descriptor in (STDOUT, STDERR):
            try:
                os.write(descriptor, b"")
            except OSError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
