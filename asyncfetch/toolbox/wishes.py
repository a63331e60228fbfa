"""Which thumbnails are to be made: the originals held against what is there, on disk, before anything begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio

from asyncfetch.errors import ObjectError
from asyncfetch.jobs.layout import folded
from asyncfetch.jobs.matching import below
from asyncfetch.jobs.scratch import scratch, text
from asyncfetch.jobs.sources import Missing, Unclear, find
from asyncfetch.objects import ObjectStat
from asyncfetch.presigned import redacted
from asyncfetch.toolbox.targets import Beside, Inside, Wish
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any, Self

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Request

_BATCH = 1000
_NAMED = 3  # rows without an object
_SAMPLE = 64  # thumbnails that are asked whose they are, though their dates alone would do

_Row = tuple[bytes, bytes, bytes | None, int | None, str | None, float | None, bool, bool]
_INSERT = (
    "INSERT OR IGNORE INTO originals(uri, shown, plain, size, etag, modified, chosen, listed)"
    " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?, ?)"
)


class Work(NamedTuple):
    """What is to be done with one original: `wish` None where its thumbnail is there, `measure` what else is wanted.

    `listed` is None for an original that nobody told of.
    """

    uri: str
    listed: ObjectStat | None
    wish: Wish | None
    measure: bool


@dataclass(slots=True)
class WorkCounts:
    """What was found. `todo` are originals to be read, `bytes` theirs; `listed` counts all objects that were told."""

    originals: int = 0
    thumbnails: int = 0  # that are there, of whatever original
    done: int = 0
    todo: int = 0
    bytes: int = 0
    listed: int = 0
    missing: int = 0  # rows of a list that no object answers to
    unclear: int = 0  # and those that several do
    missing_names: list[str] = field(default_factory=list)  # the first ones
    unclear_names: list[str] = field(default_factory=list)


class Wishes:
    """The originals that a request means, in the order of their keys or rows, each once. A context manager.

    It lies in a temporary file. `target` None makes no thumbnails.
    """

    def __init__(self, target: Beside | Inside | None) -> None:
        self.counts = WorkCounts()
        self._target = target
        self._as_of: float | None = None
        self._database = scratch()
        for table in (
            # `listed`: a listing told whether something lies at `plain`, the name that the thumbnail would best have.
            # `shown` is the URI without what proves an identity, as ledgers and metadata have it.
            "originals(id INTEGER PRIMARY KEY, uri TEXT UNIQUE, shown TEXT, plain TEXT, target TEXT, size INT,"
            " etag TEXT, modified REAL, chosen INT, listed INT, there INT DEFAULT 0, make INT DEFAULT 0,"
            " measure INT DEFAULT 0)",
            "there(target TEXT PRIMARY KEY, modified REAL) WITHOUT ROWID",
            "owners(target TEXT PRIMARY KEY, owner TEXT, etag TEXT) WITHOUT ROWID",
            "past(uri TEXT PRIMARY KEY, etag TEXT, path TEXT) WITHOUT ROWID",
            "measured(uri TEXT PRIMARY KEY, etag TEXT) WITHOUT ROWID",
        ):
            self._database.execute(f"CREATE TABLE {table}")
        for name, count, function in (
            ("apart", 2, (lambda name, uri: name) if target is None else target.apart),
            ("folded", 1, folded if isinstance(target, Inside) else str),
            ("short", 1, Beside.short),
        ):
            self._database.create_function(name, count, function, deterministic=True)
        self._database.execute(  # no thumbnail of theirs lies under a name with a mark
            "CREATE VIEW unmarked AS SELECT * FROM originals WHERE apart(plain, uri) NOT IN (SELECT target FROM there)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def build(
        self,
        fetcher: Fetcher,
        request: Request,
        *,
        measured: Iterable[tuple[str, str | None]] | None = None,
        again: bool = False,
    ) -> None:
        """Lists the originals, and what is there.

        A thumbnail is done when it is newer than its original; `again` has those made anew as well. Which original a
        thumbnail is of a listing does not tell: it is asked for where several would have one name, where no listing
        told of it, and of some others, and of all where one of these is another's. `measured` is what was measured
        before, with the ETags, None where nothing is to be. Raises what listing raises.
        """
        target = self._target
        if request.lists:
            assert request.prefix is not None
            await self._under(fetcher, request, request.prefix)
        else:
            await self._among(fetcher, request)
        await asyncio.to_thread(self._index)
        if isinstance(target, Beside):
            if target.to is not None and not (request.lists and target.to.startswith(str(parse(request.prefix or "")))):
                await self._list(fetcher, target.to, lambda stat: None)
            await self._ask_owners(fetcher, target)
        elif target is not None:
            await asyncio.to_thread(self._look_inside, target)
        if measured is not None:
            await asyncio.to_thread(self._remember, measured)
        await self._ask_originals(fetcher)
        await asyncio.to_thread(self._settle, again, measured is not None)

    def works(self, after: int = 0) -> list[tuple[int, Work]]:
        """The next originals to read behind a number, with theirs. Blocks for a millisecond."""
        rows = self._database.execute(
            "SELECT id, uri, target, size, etag, modified, there, make, measure FROM originals"
            " WHERE id > ? AND (make OR measure) ORDER BY id LIMIT ?",
            (after, _BATCH),
        )
        return [
            (number, self._work(uri, target, size, etag, modified, bool(there), bool(make), bool(measure)))
            for number, uri, target, size, etag, modified, there, make, measure in rows
        ]

    def place_of(self, uri: str) -> str | None:
        """Where the thumbnail of an original is, which is named as metadata do; None where none is made.

        Raises `KeyError` for one that was not asked for.
        """
        row = self._database.execute(
            "SELECT target FROM originals WHERE shown = CAST(? AS TEXT) AND chosen", (text(uri),)
        ).fetchone()
        if row is None:
            raise KeyError(uri)
        target: str | None = row[0]
        return target

    def _work(
        self,
        uri: str,
        target: str,
        size: int | None,
        etag: str | None,
        modified: float | None,
        there: bool,
        make: bool,
        measure: bool,
    ) -> Work:
        when = None if modified is None else datetime.fromtimestamp(modified, UTC)
        listed = None if size is None else ObjectStat(uri, size, etag, last_modified=when, as_of=self._as_of)
        return Work(uri, listed, Wish(uri, target, there) if make else None, measure)

    # What was asked for, and what is there

    async def _under(self, fetcher: Fetcher, request: Request, prefix: str) -> None:
        """All under a prefix: one listing tells of originals and, where these lie beside, of thumbnails."""
        cut, target, selection = below(prefix), self._target, request.selection
        if isinstance(target, Beside):
            target.check(prefix)
        start = str(parse(prefix))

        def row(stat: ObjectStat) -> _Row | None:
            name = cut(stat.uri)
            if not stat.size and stat.uri.endswith("/"):
                return None
            plain = None if target is None else target.name(stat.uri, name)
            # What is not chosen has its name too, or another would get it once it is left out.
            known = plain is None or not isinstance(target, Beside) or target.to is not None or plain.startswith(start)
            return _row(stat, plain, chosen=selection.wants(stat, name), listed=known)

        await self._list(fetcher, prefix, row)

    async def _list(self, fetcher: Fetcher, prefix: str, row: Callable[[ObjectStat], _Row | None]) -> None:
        batch: list[ObjectStat] = []
        async with fetcher.list(prefix) as listing:
            async for stat in listing:
                batch.append(stat)
                if len(batch) == _BATCH:
                    await asyncio.to_thread(self._take, batch, row)
                    batch = []
        await asyncio.to_thread(self._take, batch, row)

    def _take(self, batch: list[ObjectStat], row: Callable[[ObjectStat], _Row | None]) -> None:
        target, originals, there = self._target, [], []
        self.counts.listed += len(batch)
        for stat in batch:
            if isinstance(target, Beside) and target.is_made(stat.uri):
                there.append((text(stat.uri), stat.last_modified and stat.last_modified.timestamp()))
            elif (found := row(stat)) is not None:
                self._noted(stat)
                originals.append(found)
        self._database.execute("BEGIN")
        self._database.executemany(_INSERT, originals)
        self._database.executemany("INSERT OR REPLACE INTO there VALUES (CAST(? AS TEXT), ?)", there)
        self._database.execute("COMMIT")

    async def _among(self, fetcher: Fetcher, request: Request) -> None:
        """The rows of a list. Thumbnails among them are no originals."""
        target, counts = self._target, self.counts
        listed = not isinstance(target, Beside) or target.to is not None
        batch: list[_Row] = []
        async for item in find(fetcher, request):
            if isinstance(item, Missing):
                counts.missing += 1
                counts.missing_names += [item.row.name] if counts.missing <= _NAMED else []
            elif isinstance(item, Unclear):
                counts.unclear += 1
                counts.unclear_names += [item.row.name] if counts.unclear <= _NAMED else []
            elif not (isinstance(target, Beside) and target.is_made(item.uri)):
                stat = item.listed
                name = item.below if stat is not None else parse(item.uri).key
                plain = None if target is None else target.name(item.uri, name)
                if stat is not None:
                    self._noted(stat)
                    counts.listed += 1
                batch.append(_row(stat or item.uri, plain, chosen=True, listed=listed))
                if len(batch) == _BATCH:
                    await asyncio.to_thread(self._database.executemany, _INSERT, batch)
                    batch = []
        await asyncio.to_thread(self._database.executemany, _INSERT, batch)

    def _index(self) -> None:
        for column in ("shown", "plain"):
            self._database.execute(f"CREATE INDEX by_{column} ON originals({column})")

    def _noted(self, stat: ObjectStat) -> None:
        self._as_of = stat.as_of if self._as_of is None else min(self._as_of, stat.as_of or self._as_of)

    def _look_inside(self, target: Inside) -> None:
        """Takes from the ledger of a directory what is there as it was written."""
        self._database.executemany(
            "INSERT OR REPLACE INTO past VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT))",
            (
                (text(outcome.uri), outcome.etag, text(outcome.path))
                for outcome in target.record.read()
                if outcome.path is not None and target.is_there(outcome)
            ),
        )
        self._database.execute("UPDATE originals SET plain = past.path FROM past WHERE past.uri = originals.shown")

    def _remember(self, measured: Iterable[tuple[str, str | None]]) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO measured VALUES (CAST(? AS TEXT), ?)",
            ((text(uri), etag) for uri, etag in measured),
        )

    # What a listing does not tell

    async def _ask_owners(self, fetcher: Fetcher, target: Beside) -> None:
        unsure = set(await asyncio.to_thread(self._unsure))
        sample = await asyncio.to_thread(
            self._texts,
            "SELECT plain FROM unmarked JOIN there ON there.target = plain WHERE chosen"
            " AND there.modified > unmarked.modified ORDER BY random() LIMIT ?",
            (_SAMPLE,),
        )
        await self._each(fetcher, [partial(self._ask_owner, target, name) for name in unsure.union(sample)])
        if any(map(self._is_anothers, set(sample) - unsure)):
            rest = self._texts(
                "SELECT DISTINCT plain FROM originals JOIN there ON there.target = plain"
                " WHERE chosen AND plain NOT IN (SELECT target FROM owners)"
            )
            await self._each(fetcher, [partial(self._ask_owner, target, name) for name in rest])

    def _unsure(self) -> list[str]:
        """Names of thumbnails that several originals would have, or of which no listing told."""
        return self._texts(
            "SELECT DISTINCT plain FROM originals WHERE chosen AND NOT listed"
            " UNION SELECT plain FROM unmarked WHERE plain IN (SELECT target FROM there)"
            " GROUP BY plain HAVING count(*) > 1"
        )

    def _is_anothers(self, name: str) -> bool:
        return bool(
            self._texts(
                "SELECT plain FROM unmarked JOIN owners ON owners.target = plain"
                " WHERE plain = CAST(? AS TEXT) AND owner IS NOT short(uri)",
                (text(name),),
            )
        )

    async def _ask_owner(self, target: Beside, name: str) -> None:
        try:
            owner = await target.owner(name)
        except ObjectError:  # which the writing will meet again, and tell
            owner = None
        if owner is not None:
            self._database.execute(
                "INSERT OR REPLACE INTO owners VALUES (CAST(? AS TEXT), ?, ?)", (text(name), owner.of, owner.etag)
            )
            self._database.execute("INSERT OR IGNORE INTO there VALUES (CAST(? AS TEXT), 0)", (text(name),))

    async def _ask_originals(self, fetcher: Fetcher) -> None:
        """Asks for the ETags of originals that no listing told of, where they may be done."""
        unknown = self._texts(
            "SELECT uri FROM originals WHERE size IS NULL AND (plain IN (SELECT target FROM there)"
            " OR apart(plain, uri) IN (SELECT target FROM there) OR shown IN (SELECT uri FROM past)"
            " OR shown IN (SELECT uri FROM measured))"
        )
        await self._each(fetcher, [partial(self._ask_original, fetcher, uri) for uri in unknown])

    async def _ask_original(self, fetcher: Fetcher, uri: str) -> None:
        try:
            stat = await fetcher.stat(uri)
        except ObjectError:  # reading it will tell
            return
        self._noted(stat)
        when = stat.last_modified and stat.last_modified.timestamp()
        self._database.execute(
            "UPDATE originals SET size = ?, etag = ?, modified = ? WHERE uri = CAST(? AS TEXT)",
            (stat.size, stat.etag, when, text(uri)),
        )

    async def _each(self, fetcher: Fetcher, asking: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Asks all, as many at once as the fetcher reads."""
        waiting = iter(asking)

        async def ask() -> None:
            for question in waiting:
                await question()

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(len(asking), fetcher.settings.network.concurrency)):
                    tasks.start_soon(ask)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def _texts(self, query: str, values: Sequence[object] = ()) -> list[str]:
        return [value for (value,) in self._database.execute(query, values)]

    # What is to be done

    def _settle(self, again: bool, measured: bool) -> None:
        database, counts = self._database, self.counts
        database.execute("BEGIN")
        if self._target is not None:
            self._name()
            database.execute("UPDATE originals SET make = chosen, there = target IN (SELECT target FROM there)")
            if isinstance(self._target, Inside):
                database.execute("UPDATE originals SET there = shown IN (SELECT uri FROM past)")
            if not again:
                self._spare()
        if measured:
            database.execute(
                "UPDATE originals SET measure = NOT EXISTS (SELECT 1 FROM measured"
                " WHERE measured.uri = originals.shown AND measured.etag = originals.etag) WHERE chosen"
            )
        counts.originals, counts.done = database.execute(
            "SELECT count(*), ifnull(sum(NOT make AND NOT measure), 0) FROM originals WHERE chosen"
        ).fetchone()
        (counts.thumbnails,) = database.execute(
            "SELECT (SELECT count(*) FROM there) + (SELECT count(*) FROM past)"
        ).fetchone()
        counts.todo, counts.bytes = database.execute(
            "SELECT count(*), ifnull(sum(size), 0) FROM originals WHERE make OR measure"
        ).fetchone()
        database.execute("COMMIT")

    def _name(self) -> None:
        """Gives every original a name of its own for its thumbnail.

        Of several with one name that has it whose thumbnail lies there, else the first; the others get a mark of their
        URI, and who has a thumbnail with that keeps it.
        """
        database = self._database
        database.execute(
            "UPDATE originals SET target = CAST(iif(apart(plain, uri) IN (SELECT target FROM there),"
            " apart(plain, uri), plain) AS TEXT)"
        )
        database.execute(
            "UPDATE originals SET target = CAST(apart(plain, uri) AS TEXT) WHERE id IN (SELECT id FROM (SELECT id,"
            " row_number() OVER (PARTITION BY folded(originals.target)"
            " ORDER BY ifnull(owner = short(uri), 0) DESC, shown IN (SELECT uri FROM past) DESC, id) AS place"
            " FROM originals LEFT JOIN owners ON owners.target = originals.target) WHERE place > 1)"
        )

    def _spare(self) -> None:
        """Leaves out what is done."""
        database = self._database
        # Not when they are of the same second: dates of S3 have no parts of it.
        database.execute(
            "UPDATE originals SET make = 0 FROM there WHERE there.target = originals.target"
            " AND there.modified > originals.modified"
        )
        database.execute(
            "UPDATE originals SET make = chosen AND NOT (owner IS short(uri) AND (NOT make OR"
            " ifnull(owners.etag = originals.etag, 0))) FROM owners WHERE owners.target = originals.target"
        )
        database.execute(
            "UPDATE originals SET make = 0 FROM past WHERE past.uri = originals.shown AND past.etag = originals.etag"
        )


def _row(stat: ObjectStat | str, plain: str | None, *, chosen: bool, listed: bool) -> _Row:
    name = None if plain is None else text(plain)
    if isinstance(stat, str):
        return text(stat), text(redacted(stat)), name, None, None, None, chosen, listed
    when = None if stat.last_modified is None else stat.last_modified.timestamp()
    return text(stat.uri), text(redacted(stat.uri)), name, stat.size, stat.etag, when, chosen, listed
