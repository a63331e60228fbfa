"""Names that are no keys: one listing of a prefix, kept on disk, in which every name is looked up."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from asyncfetch.errors import UsageError
from asyncfetch.jobs.scratch import BATCH, scratch, text
from asyncfetch.objects import ObjectStat
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
    from typing import Self

    from asyncfetch.jobs.selection import Selection

Match = Literal["exact", "name", "stem"]
Ambiguous = Literal["first", "newest", "all", "fail"]

FEW = 50_000  # objects that are kept in memory: looking 20,000 names up takes a quarter of a second less
_GUARD = "?versionId="  # closes the URI of a key that itself ends like a version
_Object = tuple[bytes, bytes, int, str | None, float | None]


class Matched(NamedTuple):
    """What a name was found to mean: `chosen` objects, of `all` that answer to it."""

    chosen: list[ObjectStat]
    all: list[ObjectStat]


def below(prefix: str) -> Callable[[str], str]:
    """A function that cuts the place of a prefix off the URIs under it: what comes after the prefix's last slash stays.

    A directory is its own place, with or without a slash at its end.
    """
    location = parse(prefix)
    key = location.key
    if location.scheme == "file" and not key.endswith("/") and os.path.isdir(key):  # noqa: PTH112
        key += "/"
    cut = len(str(location._replace(key="", version=None))) if location.scheme == "s3" else -1
    at = key.rfind("/") + 1
    if cut >= 0:
        return lambda uri: uri[cut + at :].removesuffix(_GUARD)
    return lambda uri: parse(uri).key[at:]


class Names:
    """The objects under a prefix, by what a row may call them.

    - `"exact"`: all that follows the prefix, or the whole URI. A slash before it may be one too many.
    - `"name"`: the last part of the key, in any folder; a name with slashes also tells the folders it lies in.
    - `"stem"`: the same, without the extension of either.

    A few are kept in memory, some 30 MB; more lie in a temporary file that has no name any more, and take some 16 MB
    however many there are. Used as a context manager, or closed by `close`. Its calls block for some microseconds.
    """

    def __init__(self, prefix: str, match: Match) -> None:
        if match not in get_args(Match):
            raise UsageError(f"--match must be one of {', '.join(get_args(Match))}, not {match!r}")
        self.prefix, self.match = prefix, match
        self.objects = 0
        self._below = below(prefix)
        self._key = _KEYS[match]
        self._few: dict[str, list[ObjectStat]] = {}
        self._many: _Table | None = None

    async def fill(self, listing: AsyncIterable[ObjectStat], selection: Selection) -> None:
        """Takes in the objects of a listing that are meant. Raises what the listing raises."""
        batch: list[tuple[str, ObjectStat]] = []
        below, key, few = self._below, self._key, self._few
        async for stat in listing:
            name = below(stat.uri)
            if not selection.wants(stat, name):
                continue
            self.objects += 1
            if self._many is None:
                few.setdefault(key(name), []).append(stat)
                if self.objects < FEW:
                    continue
                self._many = _Table()
                batch = [(found, stat) for found, several in few.items() for stat in several]
                few.clear()
            else:
                batch.append((key(name), stat))
            if len(batch) >= BATCH:
                await asyncio.to_thread(self._many.add, batch)
                batch = []
        if self._many is not None:
            await asyncio.to_thread(self._many.add, batch)
            await asyncio.to_thread(self._many.sort)

    def find(self, names: Sequence[str], ambiguous: Ambiguous) -> Iterator[Matched]:
        """The objects that each of some names means, in the order of their URIs; all names are looked up at once.

        With `"fail"` none is chosen out of several.
        """
        wanted = [self._below(name) if name.startswith(self.prefix) else name for name in names]
        if self.match != "exact":
            wanted = [name.removeprefix("/") for name in wanted]
        found = self._look_up(wanted)
        slashed = [at for at, name in enumerate(wanted) if name.startswith("/") and not found[at]]
        for at, several in zip(slashed, self._look_up([wanted[at][1:] for at in slashed]), strict=True):
            found[at] = several
        for name, several in zip(wanted, found, strict=True):
            if "/" in name and self.match != "exact":
                tail = "/" + (name if self.match == "name" else _stem(name))
                several = [stat for stat in several if self._whole(stat).endswith(tail)]
            yield Matched(_choose(several, ambiguous), several)

    def close(self) -> None:
        """Lets the temporary file go."""
        if self._many is not None:
            self._many.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look_up(self, names: Sequence[str]) -> list[list[ObjectStat]]:
        keys = map(self._key, names)
        return list(self._many.find(keys)) if self._many is not None else [self._of_few(key) for key in keys]

    def _of_few(self, key: str) -> list[ObjectStat]:
        several = self._few.get(key, [])
        return several if len(several) < 2 else sorted(several, key=lambda stat: text(stat.uri))

    def _whole(self, stat: ObjectStat) -> str:
        name = "/" + self._below(stat.uri)
        return name if self.match == "name" else _stem(name)


class _Table:
    """Objects by their keys, of which several may have one, in a temporary file."""

    def __init__(self) -> None:
        self._as_of: float | None = None
        self._database = scratch()
        self._database.execute("CREATE TABLE objects(found TEXT, uri TEXT, size INT, etag TEXT, modified REAL)")
        self._database.execute("CREATE TABLE wanted(place INTEGER PRIMARY KEY, found TEXT)")

    def add(self, objects: Sequence[tuple[str, ObjectStat]]) -> None:
        """Takes some in."""
        rows: list[_Object] = []
        for key, stat in objects:
            if stat.as_of is not None and (self._as_of is None or stat.as_of < self._as_of):
                self._as_of = stat.as_of
            when = stat.last_modified.timestamp() if stat.last_modified is not None else None
            rows.append((text(key), text(stat.uri), stat.size, stat.etag, when))
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO objects VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def sort(self) -> None:
        """Makes them ready to be found, when all are there."""
        self._database.execute("CREATE INDEX by_name ON objects(found, uri)")

    def find(self, keys: Iterable[str]) -> Iterator[list[ObjectStat]]:
        """Those of each key."""
        self._database.execute("BEGIN")  # without, each row is a transaction
        self._database.execute("DELETE FROM wanted")
        self._database.executemany(
            "INSERT INTO wanted VALUES (?, CAST(? AS TEXT))", [(place, text(key)) for place, key in enumerate(keys)]
        )
        self._database.execute("COMMIT")
        rows = self._database.execute(
            "SELECT place, uri, size, etag, modified FROM wanted LEFT JOIN objects USING (found) ORDER BY place, uri"
        )
        for _, several in groupby(rows, itemgetter(0)):
            yield [self._stat(*row) for _, *row in several if row[0] is not None]

    def close(self) -> None:
        """Lets the file go."""
        self._database.close()

    def _stat(self, uri: str, size: int, etag: str | None, modified: float | None) -> ObjectStat:
        when = None if modified is None else datetime.fromtimestamp(modified, UTC)
        return ObjectStat(uri, size, etag, last_modified=when, as_of=self._as_of)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - a Path costs ten times as much


def _last_stem(name: str) -> str:
    return _stem(_last(name))


_KEYS: dict[Match, Callable[[str], str]] = {"exact": str, "name": _last, "stem": _last_stem}


def _choose(found: list[ObjectStat], ambiguous: Ambiguous) -> list[ObjectStat]:
    if len(found) < 2 or ambiguous == "all":
        return found
    if ambiguous == "first":
        return found[:1]
    if ambiguous == "newest":
        oldest = datetime.min.replace(tzinfo=UTC)
        return [max(found, key=lambda stat: (stat.last_modified or oldest, stat.uri))]
    return []
