"""The ledger of a download: one line of JSON an outcome, appended, and never written anew."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_KIND = {"asyncfetch": "download", "version": 1}
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # one for all lines: `json.dumps` would make it for each
_READ = 1 << 18  # bytes of lines parsed at once
_SYNC_SECONDS = 1.0  # what a loss of power may take: it is fetched from the cache again
_NO_PARTS = frozenset(("", ".", ".."))  # of a path that a layout made


class Outcome(NamedTuple):
    """What became of one object: its file is at `path`, or it failed with an `error`, or, without either, was removed.

    `stamp` is the file's modification time in ns since 1970, `seconds` what passed since it was asked for.
    """

    uri: str
    path: str | None = None
    size: int = 0
    digest: str | None = None
    etag: str | None = None
    stamp: int = 0
    seconds: float = 0.0
    error: str | None = None
    message: str | None = None


class Record:
    """The ledger, open to be added to. A context manager.

    `job` is what must be the same in every run of a directory. Opened, a line that its writer died in is cut off.
    Raises `UsageError` for a file that is no such ledger, or of another job, and `OSError`.
    """

    def __init__(self, path: Path, job: dict[str, Any]) -> None:
        self.path = path
        self.damaged = 0
        self._job = _KIND | {"job": job}
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._cut_torn_line()
            if not os.fstat(self._file).st_size:
                os.write(self._file, _line(self._job))
            else:
                self._check()
        except BaseException as error:
            os.close(self._file)
            if isinstance(error, OSError) and error.filename is None:  # it knows a descriptor alone
                error.filename = str(self.path)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def read(self) -> Iterator[Outcome]:
        """What is in it, oldest first; lines that cannot be read are counted in `damaged` and passed over."""
        self.damaged = 0
        with self.path.open("rb") as file:
            next(file, None)
            while lines := file.readlines(_READ):
                for values in _values(lines):
                    outcome = _outcome(values)
                    if outcome is None:
                        self.damaged += 1
                    else:
                        yield outcome

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Appends lines; once a second they are synced to the disk too. Raises `OSError`."""
        text = b"".join(
            _line({name: value for name, value in outcome._asdict().items() if value is not None and value != 0})
            for outcome in outcomes
        )
        while text:
            text = text[os.write(self._file, text) :]
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def _cut_torn_line(self) -> None:
        end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - 4096)
            at = os.pread(self._file, end - start, start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end != os.fstat(self._file).st_size:
            os.ftruncate(self._file, end)

    def _check(self) -> None:
        with self.path.open("rb") as file:
            line = file.readline(1 << 16)
        values = _value(line)
        if not isinstance(values, dict) or values.get("asyncfetch") != _KIND["asyncfetch"]:
            raise UsageError(f"{self.path} is not the ledger of a download", remedy="Choose another directory.")
        if (version := values.get("version")) != _KIND["version"]:
            raise UsageError(
                f"{self.path} is a ledger of version {version!r}, and this asyncfetch reads version {_KIND['version']}",
                remedy="Use the asyncfetch that wrote it, or a later one, or choose another directory.",
            )
        if values != self._job:
            said = [(name, value) for name, value in values.get("job", {}).items() if value]
            told = " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in said)
            raise UsageError(
                f"{self.path.parent} was filled by another job ({told or 'with no options'})",
                remedy="Give the same options, or choose another directory.",
            )


def _line(values: dict[str, Any]) -> bytes:
    return _ENCODER.encode(values).encode() + b"\n"


def _values(lines: list[bytes]) -> list[Any]:
    """What lines say, None for one that is no JSON. All at once, they take half the time that each for itself does."""
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        values = []
    return values if len(values) == len(lines) else [_value(line) for line in lines]


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _outcome(values: Any) -> Outcome | None:
    """An outcome of the kinds that its values must be, else None: a ledger is a file that others may have written."""
    try:
        outcome = Outcome(**values)
    except TypeError:
        return None
    uri, path, size, digest, etag, stamp, _, error, _ = outcome
    if not isinstance(uri, str) or type(size) is not int or type(stamp) is not int:
        return None
    for value in (path, digest, etag, error):
        if value is not None and not isinstance(value, str):
            return None
    if path is not None and (digest is None or not _is_below(path)):
        return None
    return outcome


def _is_below(path: str) -> bool:
    """Whether a path can be one that a layout made."""
    return bool(path) and "\0" not in path and _NO_PARTS.isdisjoint(path.split("/"))
