"""What a job is asked for, as a stream: rows of a list, names given, or the objects under a prefix."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, get_args

from asyncfetch.errors import UsageError
from asyncfetch.jobs.matching import Ambiguous, Match, Names, below
from asyncfetch.jobs.rows import Reading, Row, read_rows
from asyncfetch.jobs.selection import Selection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import ObjectStat

_BATCH = 1024  # rows handed over at once by the thread that reads them
_AHEAD = 4  # batches read ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted: exactly one of a list of names (`rows`, a file or `"-"`), `uris`, or a whole `prefix`.

    With `rows` or `uris` a `prefix` says where the names are looked up, by `match`; `ambiguous` says what becomes of a
    name that several objects have. Raises `UsageError` for what means nothing.
    """

    rows: str | None = None
    uris: Sequence[str] = ()
    prefix: str | None = None
    reading: Reading = field(default_factory=Reading)
    selection: Selection = field(default_factory=Selection)
    match: Match = "exact"
    ambiguous: Ambiguous = "fail"

    def __post_init__(self) -> None:
        if self.rows is not None and self.uris:
            raise UsageError("Say what to fetch once: names, or --from FILE")
        if self.rows is None and not self.uris and self.prefix is None:
            raise UsageError("Say what to fetch: a prefix, URIs, or --from FILE")
        if self.selection and self.prefix is None:
            raise UsageError("--include, --exclude, --min-size, --max-size and --newer-than need a prefix")
        if self.ambiguous not in get_args(Ambiguous):
            raise UsageError(f"--ambiguous must be one of {', '.join(get_args(Ambiguous))}, not {self.ambiguous!r}")

    @property
    def lists(self) -> bool:
        """Whether the names are those of a listing alone."""
        return self.rows is None and not self.uris


class Wanted(NamedTuple):
    """One object that is wanted, with what a listing said of it, and the row that asked for it."""

    uri: str
    below: str  # what names it under the prefix, or its whole URI where there is none
    row: Row | None = None
    listed: ObjectStat | None = None
    clashes: int = 0  # objects that answer to the same name, itself included, where there are several


class Missing(NamedTuple):
    """A row that no object answers to."""

    row: Row


class Unclear(NamedTuple):
    """A row that several objects answer to, of which none was chosen."""

    row: Row
    uris: list[str]


async def find(fetcher: Fetcher, request: Request) -> AsyncIterator[Wanted | Missing | Unclear]:
    """Yields what is wanted, in the order of the rows or of the listing, while that is read.

    Raises what `read_rows` and the listing raise.
    """
    if request.lists:
        assert request.prefix is not None
        cut = below(request.prefix)
        async with fetcher.list(request.prefix) as listing:
            async for stat in listing:
                if request.selection.wants(stat, name := cut(stat.uri)):
                    yield Wanted(stat.uri, name, None, stat)
        return
    if request.prefix is None:
        async with contextlib.aclosing(_rows(request)) as rows:
            async for row in rows:
                yield Wanted(row.name, row.name, row)
        return
    with Names(request.prefix, request.match) as names:
        cut = below(request.prefix)
        async with fetcher.list(request.prefix) as listing:
            await names.fill(listing, request.selection)
        async with contextlib.aclosing(_rows(request)) as rows:
            async for row in rows:
                matched = names.find(row.name, request.ambiguous)
                clashes = len(matched.all) if len(matched.all) > 1 else 0
                if not matched.all:
                    yield Missing(row)
                elif not matched.chosen:
                    yield Unclear(row, [stat.uri for stat in matched.all])
                for stat in matched.chosen:
                    yield Wanted(stat.uri, cut(stat.uri), row, stat, clashes)


async def _rows(request: Request) -> AsyncGenerator[Row]:
    if request.rows is None:
        for number, uri in enumerate(request.uris, 1):
            yield Row(number, uri)
        return
    reader = _Reader(request.rows, request.reading)
    try:
        while batch := await reader.next():
            for row in batch:
                yield row
    finally:
        reader.leave()


class _Reader:
    """Reads rows on a thread that nobody waits for: a pipe may stay silent for ever, and Ctrl-C must end that too."""

    def __init__(self, path: str, reading: Reading) -> None:
        self._path, self._reading = path, reading
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Row] | Exception] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._left = False
        threading.Thread(target=self._work, name="asyncfetch-list", daemon=True).start()

    async def next(self) -> list[Row]:
        """The next rows, none behind the last. Raises what reading raised."""
        found = await self._queue.get()
        self._room.release()
        if isinstance(found, Exception):
            raise found
        return found

    def leave(self) -> None:
        """Lets the thread end when its read does."""
        self._left = True
        self._room.release()

    def _work(self) -> None:
        batch: list[Row] = []

        def flush() -> None:
            nonlocal batch
            if batch:
                full, batch = batch, []
                self._give(full)

        try:
            for row in read_rows(self._path, self._reading, waiting=flush):
                batch.append(row)
                if len(batch) == _BATCH:
                    flush()
                if self._left:
                    return
            flush()
            self._give([])
        except Exception as error:  # whatever it is, it is raised where the rows are awaited
            flush()
            self._give(error)

    def _give(self, what: list[Row] | Exception) -> None:
        self._room.acquire()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the command was interrupted
            self._loop.call_soon_threadsafe(self._queue.put_nowait, what)
