"""The ledger of failures: a file of JSON lines, one for each object that could not be had, and the way back from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from asyncfetch.objects import Failure, Source


class Ledger:
    """Appends failures to a file, which is made when it is not there; many writers may share it.

    A line has `uri`, `index`, `payload` (absent when JSON cannot say it), `stage`, `attempts`, `error` (the name of
    the exception), `message` and `time` (seconds since 1970). Raises `OSError` when the file cannot be opened, and
    `UsageError` for what no file can be called.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except ValueError as error:
            raise _no_path(path, error) from None
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # the line of a writer that died in it stays alone

    def write(self, failure: Failure) -> None:
        """Appends a line; it is in the file when this returns. Raises `OSError` where the disk is full."""
        line = {
            "uri": failure.uri,
            "index": failure.index,
            "payload": failure.payload,
            "stage": failure.stage,
            "attempts": failure.attempts,
            "error": type(failure.exception).__name__,
            "message": str(failure.exception),
            "time": time(),
        }
        try:
            text = json.dumps(line)
        except (TypeError, ValueError, RecursionError):
            del line["payload"]
            text = json.dumps(line)
        # One call, on the loop's thread: lines of several writers do not mix (POSIX, O_APPEND), and a failure is in the
        # file before its stream moves on. Failures are rare, and what is written so stays in the page cache.
        rest = text.encode() + b"\n"
        while rest:  # a full disk takes a part, and says what it is at the next call
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Closes the file. Twice is once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_ledger(path: str | os.PathLike[str]) -> list[Source]:
    """The sources that a ledger names, each once, in the order of their first failure: to run them again.

    A source comes with the payload that JSON kept of it (a tuple comes back as a list). A line that a
    writer died in, or is still writing, is passed over. Raises `UsageError` for a file that is no ledger and
    for what no file can be called, and `OSError`.
    """
    sources: dict[str, Source] = {}
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except ValueError as error:
        raise _no_path(path, error) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            uri, payload = _read(json.loads(line))
        except (ValueError, KeyError, TypeError):
            if line.startswith(b'{"uri": ') and not line.endswith(b"}"):
                continue
            raise UsageError(f"{os.fspath(path)}: line {number} is not one of a ledger of failures") from None
        sources.setdefault(json.dumps([uri, payload]), uri if payload is None else (uri, payload))
    return list(sources.values())


def _no_path(path: str | os.PathLike[str], error: ValueError) -> UsageError:
    """For a NUL, or half of a surrogate pair, in a name."""
    return UsageError(f"failures {os.fspath(path)!r}: it cannot be a path ({error})")


def _read(line: Any) -> tuple[str, Any]:
    uri = line["uri"]
    if not isinstance(uri, str):
        raise TypeError(uri)
    return uri, line.get("payload")
