"""Runs the command as a user does: a process of its own, with or without a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.cli import forks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

COMMAND = [sys.executable, "-W", "error", "-m", "asyncfetch"]


class Done(NamedTuple):
    code: int
    out: bytes
    err: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, in which the package is found wherever the tests run from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(extra or {})}


def asyncfetch(*arguments: object, given: bytes = b"", **extra: str) -> Done:
    """Runs the command in a pipe."""
    code, out, err = forks.run([str(argument) for argument in arguments], environment(extra), given)
    return Done(code, out, err.decode())


# Makes the terminal the one whose Ctrl-C reaches the command.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The command on a terminal of its own, where a test reads and types; a context manager."""

    def __init__(self, *arguments: object) -> None:
        self._ours, theirs = pty.openpty()
        self.said = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *COMMAND, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({"TERM": "xterm", "COLUMNS": "100"}),
            start_new_session=True,
        )
        os.close(theirs)
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def see(self, text: str) -> None:
        """Waits until the text has appeared."""
        while text not in self.said:
            piece = self._read()
            assert piece, f"it ended without {text!r}: {self.said}"

    def type(self, text: str) -> None:
        """Types; Ctrl-C is `\x03`."""
        os.write(self._ours, text.encode())

    def ended(self) -> int:
        """Waits for the end, and gives the exit code."""
        while self._read():
            pass
        return self._process.wait()

    def closed(self) -> int:
        """Closes the terminal, waits for the command's end, and gives the exit code."""
        self._close()
        return self._process.wait()

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._ours)

    def _read(self) -> str:
        try:
            piece = os.read(self._ours, 1 << 16).decode(errors="replace")
        except OSError:  # the other side is closed
            return ""
        self.said += piece
        return piece


def on_a_terminal(*arguments: object, columns: int = 100, kind: str = "xterm") -> str:
    """Runs the command on a terminal of so many columns, and returns all that appeared there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment({"TERM": kind, "COLUMNS": str(columns)}),
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    process.wait(timeout=10)
    return said.decode(errors="replace")
