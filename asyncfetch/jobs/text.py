"""Lines of a file or a pipe, as soon as they are there, unpacked and decoded as the bytes at its head say."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections import deque
from typing import TYPE_CHECKING

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader
    from typing import Self

PIECE = 1 << 16  # bytes read at once: what a pipe of Linux holds
_MOST_LINE = 1 << 24  # characters; a key has 1,024 bytes, so this is no list
_GZIP = b"\x1f\x8b"  # RFC 1952, section 2.3.1
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Text:
    """The lines of a file, or with `"-"` of standard input, with their ends, as a `csv.reader` wants them.

    It is UTF-8, or what a byte order mark or `encoding` says; what is packed by gzip is unpacked. `lenient` lets bytes
    that are not UTF-8 through as surrogates (PEP 383), as in the names of files. `waiting` is called before each read.
    `filename` is where the file lies that is called `path` in what is said of it.
    """

    def __init__(
        self,
        path: str,
        encoding: str | None = None,
        *,
        filename: str | None = None,
        lenient: bool = False,
        waiting: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._encoding = encoding
        self._errors = "surrogateescape" if lenient and encoding is None else "strict"
        self._waiting = waiting
        self._number = 0
        self._lines: deque[str] = deque()
        self._rest: list[str] = []  # the parts of a line whose end is not there yet
        self._rest_length = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except LookupError:
                raise UsageError(f"--encoding {encoding!r} is not known") from None
        descriptor = 0 if path == "-" else os.open(filename or path, os.O_RDONLY | os.O_CLOEXEC)
        self._raw = open(descriptor, "rb", closefd=descriptor > 0)  # noqa: SIM115 - closed by `close`
        self._file: BufferedReader | gzip.GzipFile | None = self._raw  # None behind its end

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while not self._lines:
            if self._file is None:
                raise StopIteration
            self._read()
        self._number += 1
        return self._lines.popleft()

    def close(self) -> None:
        """Closes the file; standard input is left open."""
        self._raw.close()  # a GzipFile does not close what it reads
        self._file = None

    def _read(self) -> None:
        if self._waiting is not None:
            self._waiting()
        piece = self._begin() if self._decoder is None else self._piece()
        assert self._decoder is not None
        try:
            text = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            line = self._number + error.object[: error.start].count(b"\n") + 1
            raise UsageError(
                f"{self._path}: near line {line} there is what is not {error.encoding}",
                remedy="Say which encoding it has, such as --encoding latin-1.",
            ) from None
        if "\0" in text:
            raise UsageError(f"{self._path} is no text", remedy="If it is UTF-16, say --encoding utf-16.")
        *whole, rest = text.split("\n")
        for part in whole:
            self._lines.append("".join([*self._rest, part, "\n"]))
            self._rest.clear()
            self._rest_length = 0
        if rest:
            self._rest.append(rest)
            self._rest_length += len(rest)
            if self._rest_length > _MOST_LINE:
                raise UsageError(f"{self._path}: line {self._number + len(self._lines) + 1} does not end")
        if not piece:
            if self._rest:
                self._lines.append("".join(self._rest))
                self._rest.clear()
            self.close()

    def _piece(self) -> bytes:
        assert self._file is not None
        try:
            return self._file.read1(PIECE)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{self._path} is cut off or damaged behind line {self._number}: {error}") from None
        except OSError as error:
            error.filename = self._path
            raise

    def _begin(self) -> bytes:
        """Finds out packing and encoding from the first bytes, of which there are three if the file has so many."""
        if self._raw.peek(2)[:2] == _GZIP:
            self._file = gzip.GzipFile(fileobj=self._raw, mode="rb")
        piece = self._piece()
        while piece and len(piece) < 3 and (more := self._piece()):
            piece += more
        encoding, mark = self._encoding or "utf-8", b""
        if self._encoding is None or codecs.lookup(self._encoding).name == "utf-8":
            for mark, found in _MARKS:
                if piece.startswith(mark):
                    encoding = found
                    break
            else:
                mark = b""
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        return piece[len(mark) :]
