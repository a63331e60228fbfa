"""What a download has to do, found out before it begins, and kept on disk: five million rows take no more memory."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import AsyncfetchError
from asyncfetch.jobs.layout import apart, folded
from asyncfetch.jobs.scratch import BATCH, batches, define, scratch, text
from asyncfetch.jobs.sources import Missing, Unclear, Wanted
from asyncfetch.objects import ObjectStat
from asyncfetch.presigned import redacted
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path
    from typing import Self, TextIO

    from asyncfetch.jobs.directory import Directory
    from asyncfetch.jobs.layout import Layout
    from asyncfetch.jobs.record import Outcome

SHOWN = 10  # missing and ambiguous names that people are told; files have all

# What becomes of a thing: to do, the same as an earlier one, there already, or failed in an earlier run.
_TODO, _SAME, _DONE, _FAILED = range(4)


_Past = tuple[bytes, bytes | None, int, str | None, str | None, int]
_Thing = tuple[bytes, bytes | None, int | None, str | None, float | None, bytes | None]


class Thing(NamedTuple):
    """One object to fetch. `path` None is known when its digest is; `own`: an earlier run wrote a file there."""

    uri: str
    below: str
    path: str | None
    own: bool
    listed: ObjectStat | None


@dataclass(slots=True)
class Counts:
    """What a plan found. `bytes` are those of the objects to do whose size is known; `unsized` counts the others."""

    rows: int = 0
    duplicates: int = 0
    missing: int = 0
    unclear: int = 0
    clashes: int = 0  # names that several objects answer to, of which some were chosen
    done: int = 0
    failed_before: int = 0
    todo: int = 0
    bytes: int = 0
    unsized: int = 0
    listed: int = 0
    gone: int = 0  # files of earlier runs whose objects are not wanted any more
    missing_names: list[str] = field(default_factory=list)
    unclear_names: list[str] = field(default_factory=list)


class Plan:
    """The objects of a job, each once, in the order in which they were asked for, with the paths they will have.

    `mirrored` is the prefix whose objects are all wanted, and nothing of it but them. It lies in a temporary file. A
    context manager, or closed by `close`.
    """

    def __init__(self, layout: Layout, *, mirrored: str | None = None) -> None:
        self.counts = Counts()
        self._mirrored = None if mirrored is None else _place(mirrored)
        self._layout = layout
        self._as_of: float | None = None
        self._database = scratch()
        self._database.execute(
            # `past` is the row of what an earlier run did, `own` says that it wrote a file, `shown` is what the ledger
            # calls the object where that is not the whole URI.
            "CREATE TABLE things(id INTEGER PRIMARY KEY, uri TEXT, below TEXT, size INT, etag TEXT, modified REAL,"
            " shown TEXT, path TEXT, past INT, own INT DEFAULT 0, state INT DEFAULT 0)"
        )
        self._database.execute(
            "CREATE TABLE past(id INTEGER PRIMARY KEY, uri TEXT UNIQUE, path TEXT, size INT, digest TEXT, etag TEXT,"
            " stamp INT)"
        )
        define(self._database, "folded", folded)
        define(self._database, "apart", apart)
        define(self._database, "laid", self._laid)

    async def build(
        self,
        found: AsyncIterator[Wanted | Missing | Unclear],
        past: Iterable[Outcome],
        directory: Directory | None,
        *,
        missing: Path | None = None,
        verify: bool = False,
        retry_failed: bool = False,
    ) -> None:
        """Reads what is wanted, and holds it against what earlier runs did (`past`).

        A file is done when it is there with the size, and the digest, that the ledger says; the digest is computed
        where the file's date is another than then, or with `verify` always. All that no object answers to is written
        to `missing`, a CSV. Raises what `found` raises.
        """
        await asyncio.to_thread(self._remember, past)
        with _Lost(missing, self.counts) as lost:
            batch: list[Wanted] = []
            async for item in found:
                if isinstance(item, Wanted):
                    batch.append(item)
                    if len(batch) == BATCH:
                        await asyncio.to_thread(self._take, batch)
                        batch = []
                else:
                    lost.add(item)
            await asyncio.to_thread(self._take, batch)
        await asyncio.to_thread(self._settle, directory, verify, retry_failed)

    def things(self, after: int = 0) -> list[tuple[int, Thing]]:
        """The next objects to do behind a number, with theirs. Blocks for a millisecond."""
        rows = self._database.execute(
            "SELECT id, uri, below, path, own, size, etag, modified FROM things"
            " WHERE id > ? AND state = 0 ORDER BY id LIMIT ?",
            (after, BATCH),
        )
        return [
            (number, Thing(uri, _below(uri, below), path, bool(own), self._stat(uri, size, etag, modified)))
            for number, uri, below, path, own, size, etag, modified in rows
        ]

    def gone(self) -> Iterator[tuple[str, str, int, str, int]]:
        """URI, path, size, digest and stamp of earlier runs' files whose objects are gone from the prefix.

        None where the plan is not that of a whole prefix.
        """
        return self._database.execute(
            "SELECT uri, path, size, digest, stamp FROM past WHERE path IS NOT NULL"
            " AND substr(uri, 1, length(:prefix)) = :prefix"
            " AND NOT EXISTS (SELECT 1 FROM things WHERE things.uri = past.uri)",
            {"prefix": self._mirrored},
        )

    def close(self) -> None:
        """Lets the temporary file go."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remember(self, past: Iterable[Outcome]) -> None:
        self._database.execute("BEGIN")
        for batch in batches(past):
            rows: list[_Past] = []
            for outcome in batch:
                uri, path, size, digest, etag, stamp = outcome[:6]
                if path is None and outcome.error is None:
                    self._keep(rows)
                    rows = []
                    self._database.execute("DELETE FROM past WHERE uri = CAST(? AS TEXT)", (text(uri),))
                else:
                    rows.append((text(uri), None if path is None else text(path), size, digest, etag, stamp))
            self._keep(rows)
        self._database.execute("COMMIT")

    def _keep(self, rows: list[_Past]) -> None:
        self._database.executemany(
            # What failed keeps the file that was there before: its object is gone, or could not be asked.
            "INSERT INTO past(uri, path, size, digest, etag, stamp)"
            " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " path = ifnull(excluded.path, path), size = excluded.size, digest = excluded.digest,"
            " etag = excluded.etag, stamp = excluded.stamp",
            rows,
        )

    def _take(self, batch: list[Wanted]) -> None:
        rows: list[_Thing] = []
        counts, as_of = self.counts, self._as_of
        counts.rows += len(batch)
        for uri, below, _, listed, clashes in batch:
            counts.clashes += clashes > 0
            shown = None
            if "=" in uri and (redact := redacted(uri)) != uri:
                shown = text(redact)
            if listed is None:
                rows.append((text(uri), None, None, None, None, shown))
                continue
            counts.listed += listed.as_of is not None  # and not told by an inventory
            as_of = listed.as_of if as_of is None else min(as_of, listed.as_of or as_of)
            when = listed.last_modified
            moment = None if when is None else when.timestamp()
            rows.append((text(uri), text(below), listed.size, listed.etag, moment, shown))
        self._as_of = as_of
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO things(uri, below, size, etag, modified, shown)"
            " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, CAST(? AS TEXT))",
            rows,
        )
        self._database.execute("COMMIT")

    def _settle(self, directory: Directory | None, verify: bool, retry_failed: bool) -> None:
        database, counts = self._database, self.counts
        database.execute("BEGIN")
        database.execute("CREATE INDEX by_uri ON things(uri)")
        counts.duplicates = database.execute(
            "UPDATE things SET state = ? WHERE id IN (SELECT id FROM"
            " (SELECT id, lag(uri) OVER (ORDER BY uri, id) = uri AS same FROM things) WHERE same)",
            (_SAME,),
        ).rowcount
        self._compare(directory, verify, retry_failed)
        self._spread()
        for state, count, size, unsized in database.execute(
            "SELECT state, count(*), ifnull(sum(size), 0), count(*) - count(size) FROM things GROUP BY state"
        ):
            if state == _TODO:
                counts.todo, counts.bytes, counts.unsized = count, size, unsized
            elif state == _DONE:
                counts.done = count
            elif state == _FAILED:
                counts.failed_before = count
        counts.gone = sum(1 for _ in self.gone())
        database.execute("COMMIT")

    def _compare(self, directory: Directory | None, verify: bool, retry_failed: bool) -> None:
        """Holds what is wanted against what earlier runs did, and that against what is there."""
        self._database.execute(
            # An object is another where both ETags are known; no digest is that of what failed, last.
            "UPDATE things SET past = past.id, path = past.path, own = past.path IS NOT NULL,"
            " state = CASE WHEN past.digest IS NULL THEN ? WHEN past.etag <> things.etag THEN ? ELSE ? END"
            " FROM past WHERE past.uri = ifnull(things.shown, things.uri) AND things.state = ?",
            (_TODO if retry_failed else _FAILED, _TODO, _DONE, _TODO),
        )
        after = 0
        while rows := self._database.execute(
            "SELECT things.id, past, past.path, past.size, past.stamp FROM things JOIN past ON past.id = past"
            " WHERE things.id > ? AND state = ? ORDER BY things.id LIMIT ?",
            (after, _DONE, BATCH),
        ).fetchall():
            lost = [
                (_TODO, number)
                for number, past, path, size, stamp in rows
                if not self._is_there(directory, past, path, size, stamp, verify)
            ]
            self._database.executemany("UPDATE things SET state = ? WHERE id = ?", lost)
            after = rows[-1][0]

    def _is_there(self, directory: Directory | None, past: int, path: str, size: int, stamp: int, verify: bool) -> bool:
        found = None if directory is None else directory.look(path)
        if directory is None or found is None or found.size != size:
            return False
        if found.stamp == stamp and not verify:
            return True
        digest: str
        [digest] = self._database.execute("SELECT digest FROM past WHERE id = ?", (past,)).fetchone()
        return directory.digest(path, digest) == digest

    def _spread(self) -> None:
        """Gives what has no file yet a path, and each of several objects that would have one path its own.

        What an earlier run wrote, or else the first, keeps it.
        """
        if self._layout.needs_digest:
            return
        laid = self._database.execute(
            "UPDATE things SET path = CAST(laid(CAST(uri AS BLOB), CAST(below AS BLOB)) AS TEXT)"
            " WHERE path IS NULL AND state IN (?, ?)",
            (_TODO, _FAILED),
        ).rowcount
        if laid:
            self._database.execute(
                "UPDATE things SET path = CAST(apart(CAST(path AS BLOB), CAST(uri AS BLOB)) AS TEXT)"
                " WHERE id IN (SELECT id FROM (SELECT id, own,"
                " row_number() OVER (PARTITION BY folded(CAST(path AS BLOB)) ORDER BY own DESC, id) AS place"
                " FROM things WHERE state <> ? AND path IS NOT NULL) WHERE place > 1 AND NOT own)",
                (_SAME,),
            )

    def _laid(self, uri: str, below: str | None) -> str | None:
        name = below if below is not None else _key(uri)
        return None if name is None else self._layout.path(name)

    def _stat(self, uri: str, size: int | None, etag: str | None, modified: float | None) -> ObjectStat | None:
        if size is None:
            return None
        when = None if modified is None else datetime.fromtimestamp(modified, UTC)
        return ObjectStat(uri, size, etag, last_modified=when, as_of=self._as_of)


def _place(prefix: str) -> str:
    """What the URIs of all objects under a prefix begin with."""
    location = parse(prefix)
    whole = location.scheme == "file" and not location.key.endswith("/")
    return str(location._replace(key=location.key + "/")) if whole else str(location)


def _below(uri: str, below: str | None) -> str:
    """What names an object under its prefix, or where none was listed, by itself."""
    return below if below is not None else _key(uri) or ""


def _key(uri: str) -> str | None:
    """What names an object that no listing told of, None for what is no URI: its fetch will say so."""
    try:
        location = parse(uri)
    except AsyncfetchError:
        return None
    key = location.key
    if location.scheme in ("http", "https"):
        key = key.partition("?")[0]
    return key.removeprefix("/") if location.scheme != "s3" else key


class _Lost:
    """The rows that no object, or several, answer to: counted, and written to a CSV, which is made for the first."""

    def __init__(self, path: Path | None, counts: Counts) -> None:
        self._path, self._counts = path, counts
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, item: Missing | Unclear) -> None:
        """Counts one."""
        counts, row = self._counts, item.row
        counts.rows += 1
        uris = item.uris if isinstance(item, Unclear) else []
        if uris:
            counts.unclear += 1
            names = counts.unclear_names
        else:
            counts.missing += 1
            names = counts.missing_names
        if len(names) < SHOWN:
            names.append(row.name)
        if self._path is not None:
            if self._file is None:
                self._file = self._path.open("w", newline="", encoding="utf-8", errors="surrogateescape")
                self._rows = csv.writer(self._file)
                self._rows.writerow(("name", "line", "objects", "first"))
            self._rows.writerow((row.name, row.line, len(uris), uris[0] if uris else ""))
