"""Runs the command as a user does: a process of its own, with or without a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=given,
        capture_output=True,
        timeout=55,
        env=environment(extra),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def on_a_terminal(*arguments: object) -> str:
    """Runs the command on a terminal of 100 columns, and returns all that appeared there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment({"TERM": "xterm", "COLUMNS": "100"}),
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
