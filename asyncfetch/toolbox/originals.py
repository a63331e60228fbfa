"""The table of a job of thumbnails, on disk: originals, what is there, whose it is, and what follows from that.

Everything here blocks, for milliseconds a thousand rows, and asks nobody: `wishes` fills it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.jobs.layout import folded
from asyncfetch.jobs.scratch import scratch, text
from asyncfetch.objects import ObjectStat
from asyncfetch.presigned import redacted
from asyncfetch.toolbox.targets import Beside, Inside, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncfetch.toolbox.targets import Owner

BATCH = 1000
_SAMPLE = 64  # thumbnails that are asked whose they are, though their dates alone would do

Row = tuple[bytes, bytes, bytes | None, int | None, str | None, float | None, bool, bool]


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
    others: int = 0  # whose names say that they are no images
    missing: int = 0  # rows of a list that no object answers to
    unclear: int = 0  # and those that several do
    missing_names: list[str] = field(default_factory=list)  # the first ones
    unclear_names: list[str] = field(default_factory=list)


class Originals:
    """The originals that a request means, in the order of their keys or rows, each once.

    It lies in a temporary file. `target` None makes no thumbnails.
    """

    def __init__(self, target: Beside | Inside | None) -> None:
        self.as_of: float | None = None  # when the first of what was listed was
        self._target = target
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

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    # What is known

    def add(self, originals: Iterable[Row], there: Iterable[ObjectStat] = ()) -> None:
        """Takes originals, and thumbnails that are there."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT OR IGNORE INTO originals(uri, shown, plain, size, etag, modified, chosen, listed)"
            " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?, ?)",
            originals,
        )
        self._database.executemany(
            "INSERT OR REPLACE INTO there VALUES (CAST(? AS TEXT), ?)",
            ((text(stat.uri), stat.last_modified and stat.last_modified.timestamp()) for stat in there),
        )
        self._database.execute("COMMIT")

    def note(self, stat: ObjectStat) -> None:
        """Takes from something listed when it was."""
        self.as_of = stat.as_of if self.as_of is None else min(self.as_of, stat.as_of or self.as_of)

    def complete(self) -> None:
        """Says that all originals are there."""
        for column in ("shown", "plain"):
            self._database.execute(f"CREATE INDEX by_{column} ON originals({column})")

    def look_inside(self, target: Inside) -> None:
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

    def remember(self, measured: Iterable[tuple[str, str | None]]) -> None:
        """Takes what was measured before, with the ETags."""
        self._database.executemany(
            "INSERT OR REPLACE INTO measured VALUES (CAST(? AS TEXT), ?)",
            ((text(uri), etag) for uri, etag in measured),
        )

    def add_owner(self, name: str, owner: Owner) -> None:
        """Takes of which original the thumbnail of that name is."""
        self._database.execute(
            "INSERT OR REPLACE INTO owners VALUES (CAST(? AS TEXT), ?, ?)", (text(name), owner.of, owner.etag)
        )
        self._database.execute("INSERT OR IGNORE INTO there VALUES (CAST(? AS TEXT), 0)", (text(name),))

    def add_facts(self, uri: str, stat: ObjectStat) -> None:
        """Takes what an original is that no listing told of."""
        self.note(stat)
        when = stat.last_modified and stat.last_modified.timestamp()
        self._database.execute(
            "UPDATE originals SET size = ?, etag = ?, modified = ? WHERE uri = CAST(? AS TEXT)",
            (stat.size, stat.etag, when, text(uri)),
        )

    # What is to be asked

    def unsure(self) -> list[str]:
        """Names of thumbnails that several originals would have, or of which no listing told."""
        return self._texts(
            "SELECT DISTINCT plain FROM originals WHERE chosen AND NOT listed"
            " UNION SELECT plain FROM unmarked WHERE plain IN (SELECT target FROM there)"
            " GROUP BY plain HAVING count(*) > 1"
        )

    def sample(self) -> list[str]:
        """Some names of thumbnails that are newer than their originals."""
        return self._texts(
            "SELECT plain FROM unmarked JOIN there ON there.target = plain WHERE chosen"
            " AND there.modified > unmarked.modified ORDER BY random() LIMIT ?",
            (_SAMPLE,),
        )

    def unasked(self) -> list[str]:
        """Names of thumbnails that are there, and whose owners nobody was asked for."""
        return self._texts(
            "SELECT DISTINCT plain FROM originals JOIN there ON there.target = plain"
            " WHERE chosen AND plain NOT IN (SELECT target FROM owners)"
        )

    def is_anothers(self, name: str) -> bool:
        """Whether the thumbnail of that name was found to be of another original than the one that would have it."""
        return bool(
            self._texts(
                "SELECT plain FROM unmarked JOIN owners ON owners.target = plain"
                " WHERE plain = CAST(? AS TEXT) AND owner IS NOT short(uri)",
                (text(name),),
            )
        )

    def unknown(self) -> list[str]:
        """URIs of originals that no listing told of, and that may be done."""
        return self._texts(
            "SELECT uri FROM originals WHERE size IS NULL AND (plain IN (SELECT target FROM there)"
            " OR apart(plain, uri) IN (SELECT target FROM there) OR shown IN (SELECT uri FROM past)"
            " OR shown IN (SELECT uri FROM measured))"
        )

    # What is to be done

    def settle(self, counts: WorkCounts, *, again: bool, measured: bool) -> None:
        """Decides what is to be made, under which name, and what is to be measured."""
        database = self._database
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

    def works(self, after: int = 0) -> list[tuple[int, Work]]:
        """The next originals to read behind a number, with theirs."""
        rows = self._database.execute(
            "SELECT id, uri, target, size, etag, modified, there, make, measure FROM originals"
            " WHERE id > ? AND (make OR measure) ORDER BY id LIMIT ?",
            (after, BATCH),
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
        listed = None if size is None else ObjectStat(uri, size, etag, last_modified=when, as_of=self.as_of)
        return Work(uri, listed, Wish(uri, target, there) if make else None, measure)

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

    def _texts(self, query: str, values: Sequence[object] = ()) -> list[str]:
        return [value for (value,) in self._database.execute(query, values)]


def row(stat: ObjectStat | str, plain: str | None, *, chosen: bool, listed: bool) -> Row:
    """An original with the name that its thumbnail would best have, as `Originals.add` takes it."""
    name = None if plain is None else text(plain)
    if isinstance(stat, str):
        return text(stat), text(redacted(stat)), name, None, None, None, chosen, listed
    when = None if stat.last_modified is None else stat.last_modified.timestamp()
    return text(stat.uri), text(redacted(stat.uri)), name, stat.size, stat.etag, when, chosen, listed
