"""Programs of their own: what happens at an end, after a fork, or by Ctrl-C is seen from outside."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.cli.terminal import environment

if TYPE_CHECKING:
    from pathlib import Path


def program(code: str, directory: Path, **extra: str) -> list[str]:
    """Runs a program in a directory, and returns the lines that it said. It must end well, with nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=environment(extra),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
