"""The process of a row, as the bench drives it: started, told its job and when to go, watched, and ended."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench import tree
from bench.names import ACCESS_KEY, REGION, SECRET_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows import Job

_PATIENCE = 900.0  # seconds a row may take to open, and to run
_CLOSING, _ENDING = 20.0, 2.0  # seconds a row may take to close what it has open, and to end when it is told to
# Memory is looked at so often that a peak of a few tens of milliseconds shows, and so seldom that looking takes under
# 2 % of a core.
_LEAST_PAUSE, _PAUSE_FACTOR = 0.02, 50

_RAISED = re.compile(r"[\w.]*(Error|Exception)\b")  # the line of a traceback that says what it was


class RowFailedError(Exception):
    """Raised when a row's process ends or falls silent before it has answered. The message is the last it said."""


class RowProcess:
    """A row's process with all that it starts, a context manager. Its clients are to trust what `authority` signed."""

    def __init__(self, row: str, job: Job, authority: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed on leaving)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.rows", row],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
            env=_environment(str(authority)),
        )
        self._pending = b""
        self._tell(json.dumps(asdict(job)))

    def __enter__(self) -> RowProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        if kind is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_CLOSING)
        self._end()
        process.stdout.close()
        self._said.close()

    def go(self) -> None:
        """Starts its work."""
        self._tell("go")

    def answer(self) -> dict[str, Any]:
        """Waits for what it says next. Raises `RowFailedError`."""
        deadline = time.monotonic() + _PATIENCE
        while (line := self._line(1.0)) is None:
            _check(deadline)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def watch(self) -> int:
        """Waits for what it says next, and gives the most bytes of memory seen meanwhile. Raises `RowFailedError`."""
        deadline = time.monotonic() + _PATIENCE
        peak, pause = 0, 0.0
        while self._line(pause) is None:
            _check(deadline)
            began = time.perf_counter()
            peak = max(peak, tree.memory(self._process.pid))
            pause = max(_LEAST_PAUSE, _PAUSE_FACTOR * (time.perf_counter() - began))
        return max(peak, tree.memory(self._process.pid))

    def _end(self) -> None:
        """Ends what is left. Not killed at once, multiprocessing's tracker removes the semaphores of the dead."""
        deadline = time.monotonic() + _ENDING
        with suppress(ProcessLookupError, PermissionError):  # nobody is left, as Linux and macOS say it
            os.killpg(self._process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                self._process.poll()
                os.killpg(self._process.pid, 0)
                time.sleep(0.01)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which the next answer shows
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _line(self, seconds: float) -> bytes | None:
        """Its next line, None when none came in so many seconds."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            if not (received := os.read(descriptor, 1 << 16)):
                raise RowFailedError(self._last_words())
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        raised = [line for line in lines if _RAISED.match(line)]
        return (raised or lines or ["it ended without a word"])[-1]


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise RowFailedError(f"it did not answer in {_PATIENCE:.0f} s")


def _environment(authority: str) -> dict[str, str]:
    """The same for all rows: the bench's credentials, nobody's configuration, no proxies, what to trust."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS_")}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        kept.pop(name, None)
        kept.pop(name.lower(), None)
    return kept | {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": authority,  # asyncfetch, boto, s5cmd
        "SSL_CERT_FILE": authority,  # clients that offer no option of their own
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
