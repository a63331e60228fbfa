"""An S3 server to try things on: moto's, in a process of its own that ends with this one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio import to_thread

from asyncfetch.errors import AsyncfetchError, ExtraMissing, UsageError

if TYPE_CHECKING:
    from types import TracebackType

# The parent's sys.path comes first, so that what the parent can import the server can too.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.stdin.readline())
from asyncfetch.testing.moto import serve
serve()
"""


class Credentials(NamedTuple):
    """An access key; `repr` shows no secret."""

    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r}, ...)"


class SeenRequest(NamedTuple):
    """A request that a server answered: `path` is decoded and without the query."""

    method: str
    path: str
    status: int


class EmbeddedS3:
    """moto's S3 server on 127.0.0.1, at a port of the system's choice; a context manager, with or without `async`.

    It keeps everything in memory, checks no signature, and serves about 300 requests a second. Its process ends with
    the context, and with this process however that ends. Entering raises `ExtraMissing` without moto (extra `demo`) and
    `AsyncfetchError` when the server does not come up.
    """

    credentials = Credentials("embedded", "embedded-secret")

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._talk = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        """Where it serves. Raises `UsageError` outside of its context."""
        self._running()
        return f"http://127.0.0.1:{self._port}"

    def requests(self) -> Counter[SeenRequest]:
        """How often it answered which request since it started, or since the last `reset_counts`."""
        return Counter({SeenRequest(*seen): count for *seen, count in self._ask("requests")})

    def reset_counts(self) -> None:
        """Forgets the requests seen so far."""
        self._ask("reset")

    def __enter__(self) -> EmbeddedS3:
        self._start()
        try:
            self._greet()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def __aenter__(self) -> EmbeddedS3:
        self._start()
        try:
            await to_thread.run_sync(self._greet, abandon_on_cancel=True)
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        if self._process is not None:
            raise UsageError("this server is running already", remedy="Make another one.")
        if find_spec("moto") is None or find_spec("flask") is None:
            raise ExtraMissing(
                "the embedded S3 server needs moto, which is not installed", remedy="pip install 'asyncfetch[demo]'"
            )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt from the terminal is for this process to act on
        )

    def _greet(self) -> None:
        """Waits until the server serves."""
        process = self._running()
        self._port = int(self._answer(process, json.dumps(sys.path)))

    def _ask(self, question: str) -> Any:
        with self._talk:
            return self._answer(self._running(), question)

    def _answer(self, process: subprocess.Popen[str], question: str) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):
            process.stdin.write(question + "\n")
            process.stdin.flush()
        if line := process.stdout.readline():
            return json.loads(line)
        reason = process.stderr.read().strip().rpartition("\n")[2]
        raise AsyncfetchError(f"the embedded S3 server has ended{reason and f': {reason}'}")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise UsageError("this server is not running", remedy="Use it inside `with` or `async with`.")
        return self._process

    def _stop(self) -> None:
        process, self._process = self._running(), None
        process.kill()  # it holds nothing that needs care
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):  # what was written to it and never read
                    stream.close()
