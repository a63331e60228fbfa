"""What a job is asked for, as a stream: rows of a list, names given, what lies under a prefix, or an inventory."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

from asyncfetch.errors import UsageError
from asyncfetch.jobs.ahead import read_ahead
from asyncfetch.jobs.inventory import inventory
from asyncfetch.jobs.matching import Ambiguous, Match, Names, below
from asyncfetch.jobs.rows import INVENTORY, Reading, Row, format_of, is_remote, read_rows
from asyncfetch.jobs.selection import Selection
from asyncfetch.objects import ObjectStat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from asyncfetch.fetcher import Fetcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted: exactly one of a list of names (`rows`: a file, a URI or `"-"`), `uris`, or a whole `prefix`.

    With `rows` or `uris` a `prefix` says where the names are looked up, by `match`; `ambiguous` says what becomes of a
    name that several objects have. Where `rows` is the manifest of an inventory, that takes the place of the listing,
    and `prefix` says which of its objects are meant. `parallel` is that of `Fetcher.list`. Raises `UsageError` for what
    means nothing.
    """

    rows: str | None = None
    uris: Sequence[str] = ()
    prefix: str | None = None
    reading: Reading = field(default_factory=Reading)
    selection: Selection = field(default_factory=Selection)
    match: Match = "exact"
    ambiguous: Ambiguous = "fail"
    parallel: int = 1

    def __post_init__(self) -> None:
        if self.rows is not None and self.uris:
            raise UsageError("Say what to fetch once: names, or --from FILE")
        if self.rows is None and not self.uris and self.prefix is None:
            raise UsageError("Say what to fetch: a prefix, URIs, or --from FILE")
        if self.selection and self.prefix is None and not self.inventoried:
            raise UsageError("--include, --exclude, --min-size, --max-size and --newer-than need a prefix")
        if self.match != "exact" and self.prefix is None and not self.inventoried:
            raise UsageError(f"--match {self.match} looks names up under a prefix", remedy="Say --prefix too.")
        if self.inventoried and self.match != "exact":
            raise UsageError("--match is for names, and an inventory has keys")
        if self.ambiguous not in get_args(Ambiguous):
            raise UsageError(f"--ambiguous must be one of {', '.join(get_args(Ambiguous))}, not {self.ambiguous!r}")

    @property
    def inventoried(self) -> bool:
        """Whether the names are those of an S3 Inventory."""
        return self.rows is not None and format_of(self.rows, self.reading) == INVENTORY

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
        async with fetcher.list(request.prefix, parallel=request.parallel) as listing:
            async for stat in listing:
                if request.selection.wants(stat, name := cut(stat.uri)):
                    yield Wanted(stat.uri, name, None, stat)
        return
    if request.inventoried:
        async with contextlib.aclosing(_inventoried(fetcher, request)) as wanted:
            async for item in wanted:
                yield item
        return
    if request.prefix is None:
        async with contextlib.aclosing(_rows(fetcher, request)) as rows:
            async for batch in rows:
                for row in batch:
                    yield Wanted(row.name, row.name, row)
        return
    with Names(request.prefix, request.match) as names:
        cut = below(request.prefix)
        async with fetcher.list(request.prefix, parallel=request.parallel) as listing:
            await names.fill(listing, request.selection)
        async with contextlib.aclosing(_rows(fetcher, request)) as rows:
            async for batch in rows:
                found = names.find([row.name for row in batch], request.ambiguous)
                for row, matched in zip(batch, found, strict=True):
                    clashes = len(matched.all) if len(matched.all) > 1 else 0
                    if not matched.all:
                        yield Missing(row)
                    elif not matched.chosen:
                        yield Unclear(row, [stat.uri for stat in matched.all])
                    for stat in matched.chosen:
                        yield Wanted(stat.uri, cut(stat.uri), row, stat, clashes)


async def _rows(fetcher: Fetcher, request: Request) -> AsyncGenerator[list[Row]]:
    if request.rows is None:
        yield [Row(number, uri) for number, uri in enumerate(request.uris, 1)]
        return
    filename = (await fetcher.fetch(request.rows)).filename if is_remote(request.rows) else None
    read = partial(_read, request.rows, request.reading, filename)
    async with contextlib.aclosing(read_ahead(read)) as batches:
        async for batch in batches:
            yield batch


def _read(path: str, reading: Reading, filename: str | None, waiting: Callable[[], None]) -> Iterator[Row]:
    return read_rows(path, reading, filename=filename, waiting=waiting)


async def _inventoried(fetcher: Fetcher, request: Request) -> AsyncGenerator[Wanted]:
    assert request.rows is not None
    selection, prefix = request.selection, request.prefix or ""
    cut = below(prefix) if prefix else None
    async with contextlib.aclosing(inventory(fetcher, request.rows)) as objects:
        async for found in objects:
            if not found.uri.startswith(prefix):
                continue
            if found.size is None and not (selection.min_size is None and selection.max_size is None):
                raise UsageError(f"{request.rows} tells no sizes", remedy="Leave --min-size and --max-size out.")
            if found.modified is None and selection.newer_than is not None:
                raise UsageError(f"{request.rows} tells no dates", remedy="Leave --newer-than out.")
            # It may be days old, so there is no ETag and no `as_of`, which would count as a check of a cached object.
            stat = ObjectStat(found.uri, found.size or 0, last_modified=found.modified)
            name = cut(found.uri) if cut is not None else found.key
            if selection.wants(stat, name):
                yield Wanted(found.uri, name, None, None if found.size is None else stat)
