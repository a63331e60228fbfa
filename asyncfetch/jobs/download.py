"""A download under way: what the plan says is fetched through the cache, and put in the directory as it comes."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache.digests import digest_of
from asyncfetch.errors import AsyncfetchError, CredentialsError, StorageFull, UsageError
from asyncfetch.jobs.directory import Source
from asyncfetch.jobs.layout import STATE
from asyncfetch.jobs.record import Outcome
from asyncfetch.objects import Entry, Failure, Image
from asyncfetch.presigned import redacted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs.directory import Directory
    from asyncfetch.jobs.layout import Layout
    from asyncfetch.jobs.pictures import Convert
    from asyncfetch.jobs.plan import Plan, Thing
    from asyncfetch.jobs.record import Record
    from asyncfetch.ledger import Ledger
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams import Stream

_WAITING = 128  # files taken and not yet in place, each with an open descriptor; macOS allows a process 256
_MADE = 16  # the same of files that were made, which are in memory
TOO_MANY = "More objects failed than --max-failures allows"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_EARLY = 100  # from so many outcomes on a share of failures means something


@dataclass(frozen=True, slots=True)
class Limit:
    """How many failures end a job: more than `count`, or more than a `share` of the outcomes. None: no number does."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, said: str) -> Limit:
        """Reads `"10"` or `"2.5%"`. Raises `UsageError`."""
        try:
            if said.endswith("%"):
                share = float(said[:-1]) / 100
                if 0 <= share <= 1:
                    return cls(share=share)
            elif (count := int(said)) >= 0:
                return cls(count=count)
        except ValueError:
            pass
        raise UsageError(f"--max-failures {said!r} is neither a number nor a share", remedy="Write such as 10 or 2%.")

    def exceeded(self, failed: int, outcomes: int, *, ended: bool) -> bool:
        """Whether so many failures are too many. A share is looked at from the hundredth outcome on, and at the end."""
        if self.count is not None and failed > self.count:
            return True
        return self.share is not None and failed > self.share * outcomes and (ended or outcomes >= _EARLY)


class Event(NamedTuple):
    """One outcome, as it is told while the job goes on; `from_cache` says that no body was transferred for it."""

    outcome: Outcome
    from_cache: bool


@dataclass(slots=True)
class Tally:
    """What a run has done. `stopped` says in a sentence why it ended before its end, None when it did not."""

    files: int = 0
    bytes: int = 0
    downloaded: int = 0
    downloaded_bytes: int = 0
    failed: int = 0
    removed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stopped: str | None = None


class _Taken(NamedTuple):
    """An entry that is to be put in place, as it is or as what was made of it."""

    entry: Entry
    thing: Thing
    asked: float
    source: Source | None
    made: bytes | None = None


class Download:
    """Does a plan. `stop` may be called from the loop at any time; what is in flight then is finished.

    `told` is called on the loop for every outcome, when its line is in the ledger. An `OSError` of its own, such as
    of a pipe that nobody reads any more, stops the job in good order and is raised by `run`.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        plan: Plan,
        directory: Directory,
        record: Record,
        failures: Ledger,
        layout: Layout,
        *,
        limit: Limit | None = None,
        convert: Convert | None = None,
        told: Callable[[Event], None] | None = None,
    ) -> None:
        self.tally = Tally()
        self._fetcher, self._plan, self._directory, self._record = fetcher, plan, directory, record
        self._failures, self._layout = failures, layout
        self._limit = limit or Limit()
        self._convert = convert
        self._told = told
        self._deaf: OSError | None = None  # what `told` raised
        self._stopping = False
        self._pending: deque[_Taken | Outcome] = deque()
        self._placing: asyncio.Future[list[Event | Exception]] | None = None

    def stop(self, why: str) -> None:
        """Asks for no more objects. The first reason is the one that is told."""
        self._stopping = True
        if self.tally.stopped is None:
            self.tally.stopped = why

    async def run(self) -> Tally:
        """Fetches and places until all is done, or it is stopped.

        A problem that no other object would fare better with (credentials, a full disk) stops it, and is no object's
        failure. Cancelled, what is in its place stays and is in the ledger.
        """
        began = time.monotonic()
        # Two for each lane keep them busy, and are soon finished when the job is stopped.
        ahead = max(32, 2 * self._fetcher.settings.network.concurrency)
        stream = self._stream(ahead)
        try:
            async with stream:
                async for item in stream:
                    if isinstance(item, Entry):
                        await self._take(item)
                    elif isinstance(item, Image):
                        thing, asked = item.payload
                        self._add(_Taken(item.entry, thing, asked, None, item.pixels.tobytes()))
                    elif is_its_own(item.exception):
                        self._failed(item)
                    else:
                        self.stop(str(item.exception) or repr(item.exception))
                        break
                    await self._room()
        finally:
            await self._drained()
            self.tally.seconds = time.monotonic() - began
        if self._deaf is not None:
            raise self._deaf
        if self._limit.exceeded(self.tally.failed, self.tally.files + self.tally.failed, ended=True):
            self.stop(TOO_MANY)
        return self.tally

    def remove_gone(self) -> None:
        """Removes what earlier runs wrote and is not wanted any more, unless somebody has written it since. Blocks."""
        done = []
        for uri, path, size, digest, stamp in self._plan.gone():
            found = self._directory.look(path)
            if found is None or found.size != size:
                continue
            if found.stamp != stamp and self._directory.digest(path, digest) != digest:
                continue
            self._directory.remove(path)
            done.append(Outcome(uri))
        self._record.add(done)
        self.tally.removed += len(done)

    async def _sources(self) -> AsyncIterator[tuple[str | ObjectStat, tuple[Thing, float]]]:
        after = 0
        while page := await asyncio.to_thread(self._plan.things, after):
            for number, thing in page:
                if self._stopping:
                    return
                after = number
                yield thing.listed or thing.uri, (thing, time.monotonic())

    def _stream(self, ahead: int) -> Stream[Entry | Failure] | Stream[Image | Failure]:
        if self._convert is None:
            return self._fetcher.entries(self._sources(), order="completion", on_error="yield", look_ahead=ahead)
        return self._fetcher.images(
            self._sources(), order="completion", on_error="yield", look_ahead=ahead, **self._convert.options
        )

    async def _take(self, entry: Entry) -> None:
        """Takes an entry over from the stream: it is open, so it stays, wherever its name goes."""
        thing, asked = entry.payload
        try:
            descriptor = os.open(entry.filename, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # cleared by another process meanwhile
            entry = await self._fetcher.fetch((thing.uri, entry.payload))
            descriptor = os.open(entry.filename, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest = entry.digest or await self._fetcher.digest(entry)
        except BaseException:
            os.close(descriptor)
            raise
        source = Source(entry.filename, descriptor, digest, entry.digest is not None)
        self._add(_Taken(entry, thing, asked, source))

    def _failed(self, failure: Failure) -> None:
        thing, asked = failure.payload
        error = failure.exception
        full = self._keep(Failure(thing.uri, failure.index, None, failure.stage, failure.attempts, error))
        if full is not None:
            self.stop(str(full))
            return
        self._add(_failure(thing, error, asked))

    def _keep(self, failure: Failure) -> StorageFull | None:
        """Writes a failure where it can be run again from; where that cannot be written, the object is still to do."""
        try:
            self._failures.write(failure)
        except OSError as error:
            return _full(self._directory.root, error)
        return None

    # Placing: on a thread, all that has come since the last time at once

    def _add(self, what: _Taken | Outcome) -> None:
        self._pending.append(what)
        self._kick()

    def _kick(self) -> None:
        if self._placing is None and self._pending:
            batch, self._pending = self._pending, deque()
            self._placing = asyncio.get_running_loop().run_in_executor(None, self._work, batch)
            self._placing.add_done_callback(self._placed)

    def _work(self, batch: deque[_Taken | Outcome]) -> list[Event | Exception]:
        """Puts files in place, and then writes what became of them."""
        results: list[Event | Exception] = []
        while batch:
            what = batch.popleft()
            if isinstance(what, Outcome):
                results.append(Event(what, False))
                continue
            try:
                results.append(Event(self._place(what), what.entry.from_cache))
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    results.append(_full(self._directory.root, error))
                else:
                    full = self._keep(Failure(what.thing.uri, what.entry.index, None, "cache", 0, error))
                    results.append(full or Event(_failure(what.thing, error, what.asked), False))
            finally:
                if what.source is not None:
                    os.close(what.source.descriptor)
        try:
            self._record.add([event.outcome for event in results if isinstance(event, Event)])
        except OSError as error:
            return [_full(self._record.path, error)]
        return results

    def _place(self, taken: _Taken) -> Outcome:
        if taken.source is not None:
            return self._put(taken, taken.source)
        assert taken.made is not None
        with TemporaryFile(dir=self._directory.root / STATE) as file:
            file.write(taken.made)
            file.flush()
            digest = digest_of(memoryview(taken.made), "blake3")
            return self._put(taken, Source("", file.fileno(), digest, shared=False))

    def _put(self, taken: _Taken, source: Source) -> Outcome:
        thing = taken.thing
        path = thing.path or self._layout.path(thing.below, source.digest.partition(":")[2])
        placed = self._directory.place(source, path, thing.uri, own=thing.own and thing.path is not None)
        seconds = round(time.monotonic() - taken.asked, 4)
        return Outcome(
            redacted(thing.uri), placed.path, placed.size, source.digest, taken.entry.etag, placed.stamp, seconds
        )

    def _placed(self, placing: asyncio.Future[list[Event | Exception]]) -> None:
        self._placing = None
        for result in placing.result():
            if isinstance(result, Exception):
                self.stop(str(result))
                continue
            self._count(result)
            self._tell(result)
        if self._limit.exceeded(self.tally.failed, self.tally.files + self.tally.failed, ended=False):
            self.stop(TOO_MANY)
        self._kick()

    def _tell(self, event: Event) -> None:
        if self._told is None:
            return
        try:
            self._told(event)
        except OSError as error:
            self._told, self._deaf = None, error
            self.stop(str(error))

    def _count(self, event: Event) -> None:
        tally, outcome = self.tally, event.outcome
        if outcome.error is not None:
            tally.failed += 1
            tally.kinds[outcome.error] += 1
            return
        tally.files += 1
        tally.bytes += outcome.size
        if not event.from_cache:
            tally.downloaded += 1
            tally.downloaded_bytes += outcome.size

    async def _room(self) -> None:
        most = _WAITING if self._convert is None else _MADE
        while self._placing is not None and len(self._pending) >= most:
            await asyncio.wait([self._placing])

    async def _drained(self) -> None:
        while self._placing is not None:
            await asyncio.wait([self._placing])


def _full(path: Path, error: OSError) -> StorageFull:
    """What stops a job whose own disk is full, and not that of the cache."""
    return StorageFull(f"{path}: {error.strerror}", remedy="Free space there, and run it again.")


def is_its_own(error: Exception) -> bool:
    """Whether a failure is that of its object, and others may fare better: not so credentials, or a full disk."""
    if isinstance(error, AsyncfetchError):
        return not isinstance(error, CredentialsError | StorageFull)
    return isinstance(error, OSError) and error.errno not in FULL


def _failure(thing: Thing, error: Exception, asked: float) -> Outcome:
    seconds = round(time.monotonic() - asked, 4)
    return Outcome(redacted(thing.uri), seconds=seconds, error=type(error).__name__, message=str(error))
