"""Which thumbnails are to be made: the originals held against what is there, on disk, before anything begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.jobs.layout import apart, folded
from asyncfetch.jobs.matching import below
from asyncfetch.jobs.scratch import scratch, text
from asyncfetch.objects import ObjectStat
from asyncfetch.toolbox.targets import Inside, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Selection
    from asyncfetch.toolbox.targets import Target

_BATCH = 1000


class Work(NamedTuple):
    """What is to be done with one original: `wish` None where its thumbnail is there, `measure` what else is wanted."""

    listed: ObjectStat
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


class Wishes:
    """The originals under a prefix, in the order of their keys. It lies in a temporary file. A context manager.

    `target` None makes no thumbnails.
    """

    def __init__(self, target: Target | None) -> None:
        self.counts = WorkCounts()
        self._target = target
        self._as_of: float | None = None
        self._database = scratch()
        for table in (
            "originals(id INTEGER PRIMARY KEY, uri TEXT, target TEXT, size INT, etag TEXT, modified REAL,"
            " there INT, make INT, measure INT)",
            "there(target TEXT PRIMARY KEY, modified REAL) WITHOUT ROWID",
            "past(uri TEXT PRIMARY KEY, etag TEXT, path TEXT) WITHOUT ROWID",
            "measured(uri TEXT PRIMARY KEY, etag TEXT) WITHOUT ROWID",
        ):
            self._database.execute(f"CREATE TABLE {table}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def build(
        self,
        fetcher: Fetcher,
        prefix: str,
        selection: Selection,
        *,
        elsewhere: str | None = None,
        measured: Iterable[tuple[str, str | None]] | None = None,
        again: bool = False,
    ) -> None:
        """Lists the originals, and what is there.

        A thumbnail is done when it is newer than its original; `again` has those made anew as well. `elsewhere` is the
        prefix of thumbnails, where these lie under another; `measured` what was measured before, with the ETags, None
        where nothing is to be. Raises what listing raises.
        """
        cut = below(prefix)
        await self._list(fetcher, prefix, lambda stat: selection.wants(stat, cut(stat.uri)))
        if elsewhere is not None and not elsewhere.startswith(prefix):
            await self._list(fetcher, elsewhere, lambda stat: False)
        await asyncio.to_thread(self._settle, again, measured)

    def works(self, after: int = 0) -> list[tuple[int, Work]]:
        """The next originals to read behind a number, with theirs. Blocks for a millisecond."""
        rows = self._database.execute(
            "SELECT id, uri, target, size, etag, modified, there, make, measure FROM originals"
            " WHERE id > ? AND (make OR measure) ORDER BY id LIMIT ?",
            (after, _BATCH),
        )
        return [
            (
                number,
                Work(
                    ObjectStat(
                        uri,
                        size,
                        etag,
                        last_modified=None if modified is None else datetime.fromtimestamp(modified, UTC),
                        as_of=self._as_of,
                    ),
                    Wish(uri, target, bool(there)) if make else None,
                    bool(measure),
                ),
            )
            for number, uri, target, size, etag, modified, there, make, measure in rows
        ]

    def places(self, most: int) -> list[tuple[str, str | None]]:
        """The first originals, and what their thumbnails are called."""
        return list(self._database.execute("SELECT uri, target FROM originals ORDER BY id LIMIT ?", (most,)))

    async def _list(self, fetcher: Fetcher, prefix: str, wanted: Callable[[ObjectStat], bool]) -> None:
        batch: list[ObjectStat] = []
        async with fetcher.list(prefix) as listing:
            async for stat in listing:
                batch.append(stat)
                if len(batch) == _BATCH:
                    await asyncio.to_thread(self._take, batch, wanted)
                    batch = []
        await asyncio.to_thread(self._take, batch, wanted)

    def _take(self, batch: list[ObjectStat], wanted: Callable[[ObjectStat], bool]) -> None:
        target, originals, there = self._target, [], []
        self.counts.listed += len(batch)
        for stat in batch:
            when = None if stat.last_modified is None else stat.last_modified.timestamp()
            if target is not None and target.is_made(stat.uri):
                there.append((text(stat.uri), when))
            elif wanted(stat):
                self._as_of = stat.as_of if self._as_of is None else min(self._as_of, stat.as_of or self._as_of)
                name = None if target is None else text(target.name(stat.uri))
                originals.append((text(stat.uri), name, stat.size, stat.etag, when))
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO originals(uri, target, size, etag, modified, there, make, measure)"
            " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, 0, 0, 0)",
            originals,
        )
        self._database.executemany("INSERT OR REPLACE INTO there VALUES (CAST(? AS TEXT), ?)", there)
        self._database.execute("COMMIT")

    def _settle(self, again: bool, measured: Iterable[tuple[str, str | None]] | None) -> None:
        database, counts, target = self._database, self.counts, self._target
        database.execute("BEGIN")
        if isinstance(target, Inside):
            self._look_inside(target)
        if target is not None:
            self._spread()
            database.execute("UPDATE originals SET there = 1 FROM there WHERE there.target = originals.target")
            database.execute("UPDATE originals SET make = 1")
            if not again:
                # Not when they are of the same second: dates of S3 have no parts of it.
                database.execute(
                    "UPDATE originals SET make = 0 FROM there"
                    " WHERE there.target = originals.target AND there.modified > originals.modified"
                )
        if measured is not None:
            database.executemany(
                "INSERT OR REPLACE INTO measured VALUES (CAST(? AS TEXT), ?)",
                ((text(uri), etag) for uri, etag in measured),
            )
            database.execute(
                "UPDATE originals SET measure = NOT EXISTS (SELECT 1 FROM measured"
                " WHERE measured.uri = originals.uri AND measured.etag = originals.etag)"
            )
        counts.originals, counts.done = database.execute(
            "SELECT count(*), ifnull(sum(NOT make AND NOT measure), 0) FROM originals"
        ).fetchone()
        (counts.thumbnails,) = database.execute("SELECT count(*) FROM there").fetchone()
        counts.todo, counts.bytes = database.execute(
            "SELECT count(*), ifnull(sum(size), 0) FROM originals WHERE make OR measure"
        ).fetchone()
        database.execute("COMMIT")

    def _look_inside(self, target: Inside) -> None:
        """Takes from the ledger of a directory what is there as it was written, of originals that are the same."""
        database = self._database
        database.executemany(
            "INSERT OR REPLACE INTO past VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT))",
            (
                (text(outcome.uri), outcome.etag, text(outcome.path))
                for outcome in target.record.read()
                if outcome.path is not None and target.is_there(outcome)
            ),
        )
        database.execute("UPDATE originals SET target = past.path FROM past WHERE past.uri = originals.uri")
        # What is of an original that has changed is there, and older than any.
        database.execute(
            "INSERT INTO there SELECT past.path, iif(past.etag = originals.etag, 1e300, 0)"
            " FROM past JOIN originals ON past.uri = originals.uri"
        )

    def _spread(self) -> None:
        """Gives each of several originals whose thumbnails would have one name its own. The first by key keeps it."""
        folds = isinstance(self._target, Inside)
        self._database.create_function("folded", 1, folded if folds else str, deterministic=True)
        self._database.create_function("apart", 2, apart, deterministic=True)
        self._database.execute(
            "UPDATE originals SET target = CAST(apart(target, uri) AS TEXT) WHERE id IN (SELECT id FROM (SELECT id,"
            " row_number() OVER (PARTITION BY folded(target)"
            " ORDER BY EXISTS (SELECT 1 FROM past WHERE past.uri = originals.uri) DESC, id) AS place"
            " FROM originals) WHERE place > 1)"
        )
