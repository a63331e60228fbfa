"""The file of what was measured: a line of JSON an image, appended while a job runs and put in order at its end."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import UsageError
from asyncfetch.jobs.scratch import scratch, text
from asyncfetch.toolbox.duplicates import alike
from asyncfetch.whole import whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom
    from types import TracebackType
    from typing import Self

DISTANCE = 6  # bits of 64


class MetadataFile:
    """Lines of JSON, each with the `uri` of an image, its `etag`, and what was measured or the `error` that came of it.

    Opened, a line that its writer died in is cut off. The file may be used at any time: lines are appended whole, and
    of several with one URI the last one counts. `settle` leaves one for each URI. A context manager; blocks.
    Raises `UsageError` for a file that holds something else, and `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __enter__(self) -> Self:
        self._file = self._alone()
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, line: dict[str, Any]) -> None:
        """Appends a line; it is in the file when this returns. Raises `OSError`."""
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()

    def measured(self) -> Iterator[tuple[str, str | None]]:
        """URI and ETag of what is there and was no failure, later lines later; a failure takes its URI back."""
        for _, line in self._lines():
            yield line["uri"], None if "error" in line else line.get("etag")

    def lines(self) -> Iterator[dict[str, Any]]:
        """What is in it."""
        return (line for _, line in self._lines())

    def settle(self, distance: int = DISTANCE) -> None:
        """Writes it anew, in the order of the URIs, one line for each, and says in each what it is the same as.

        `duplicate_of` is the first of those with the same bytes, `near_duplicate_of` the first of those that look like
        it (`duplicates.alike`); both are null for what is first itself. The old file stays until the new one is whole.
        """
        database = scratch()
        database.execute("CREATE TABLE lines(uri TEXT PRIMARY KEY, at INT, digest TEXT, phash TEXT) WITHOUT ROWID")
        database.execute("BEGIN")
        database.executemany(
            "INSERT OR REPLACE INTO lines VALUES (CAST(? AS TEXT), ?, ?, ?)",
            ((text(line["uri"]), at, line.get("digest"), line.get("phash")) for at, line in self._lines()),
        )
        database.execute("COMMIT")
        hashes: list[int] = []
        hashed: list[str] = []
        originals: dict[str, str] = {}
        copies: dict[str, str] = {}
        for uri, digest, phash in database.execute("SELECT uri, digest, phash FROM lines ORDER BY uri"):
            if digest is not None and originals.setdefault(digest, uri) != uri:
                copies[uri] = originals[digest]
            elif phash is not None:
                hashes.append(int(phash, 16))
                hashed.append(uri)
        near = {
            uri: hashed[first] for uri, first in zip(hashed, alike(hashes, distance), strict=True) if first is not None
        }
        try:
            with whole(self.path) as part, part.open("wb") as file, self.path.open("rb") as old:
                for uri, at in database.execute("SELECT uri, at FROM lines ORDER BY uri"):
                    old.seek(at)
                    line = json.loads(old.readline())
                    if "error" not in line:
                        line |= {"duplicate_of": copies.get(uri), "near_duplicate_of": near.get(uri)}
                    file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        finally:
            database.close()

    def _alone(self) -> BufferedRandom:
        """Opens the file for no other job than this. Raises `UsageError` while there is one."""
        while True:
            file = self.path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            except BlockingIOError:
                file.close()
                raise UsageError(f"{self.path}: another job writes it", remedy="Name another file.") from None
            except FileNotFoundError:
                pass
            except BaseException:
                file.close()
                raise
            file.close()  # its job put another in its place in between

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        at = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield at, self._read(number, line)
                at += len(line)

    def _read(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
            good = isinstance(found["uri"], str) and ("error" in found or int(found["phash"], 16) >> 64 == 0)
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good:
            raise UsageError(
                f"{self.path}: line {number} is not one of metadata of images", remedy="Name another file."
            )
        return dict(found)

    def _check(self) -> None:
        """Cuts off a torn line, and looks whether the first one is what it should be."""
        size = self._file.seek(0, os.SEEK_END)
        whole = size
        while whole:
            begin = max(0, whole - 65_536)
            self._file.seek(begin)
            at = self._file.read(whole - begin).rfind(b"\n")
            if at >= 0:
                whole = begin + at + 1
                break
            whole = begin
        self._file.seek(0)
        head = self._file.read(8)
        if size and not b'{"uri": '.startswith(head[:8]):
            raise UsageError(f"{self.path} is not metadata of images", remedy="Name another file.")
        if whole != size:
            self._file.truncate(whole)
        next(self._lines(), None)
