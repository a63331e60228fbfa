"""A large object in parts, several at once: which bytes are still nobody's, and who brings them.

The first read of an object asks for all of it, and its answer shows whether the object is large. From there on it takes
part after part as long as the next is nobody's, while helpers bring others by ranges. All of them see that what comes
is of one and the same object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import PART_MEMORY, PartsLost, missing
from asyncfetch.engine.errand import Errand
from asyncfetch.errors import (
    IntegrityError,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    TransferInterrupted,
)
from asyncfetch.objects import ObjectStat
from asyncfetch.origins import ByteRange, check_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from asyncfetch.cache import Begun, Body, Cache, Intake, PartedBody, PartSink
    from asyncfetch.engine.lanes import Lanes
    from asyncfetch.engine.slack import Slack
    from asyncfetch.origins import Origin, Sink
    from asyncfetch.settings import NetworkPolicy
    from asyncfetch.uris import Location

# Helpers join only while fewer lanes than this are at work. AWS gives a connection 85-90 MB/s ("Performance Guidelines
# for Amazon S3"), so 16 bring 1.4 GB/s, about what one loop takes in with digest and disk: more would only cost.
STREAMS = 16

MOST_PARTS = 1024  # of an object; one of 50 GiB has parts of 50 MiB, or it would take thousands of requests


class Plan:
    """The parts of an object that are still nobody's: whole ones, the lowest first, so that the digest keeps up."""

    __slots__ = ("_gaps", "_step")

    def __init__(self, size: int, part_size: int, present: Iterable[tuple[int, int]] = ()) -> None:
        """`present` are the bytes that are there already, in order: each the first, and the one behind the last."""
        self._step = max(part_size, -(-size // MOST_PARTS))
        self._gaps = missing(present, size)[::-1]

    @property
    def over(self) -> bool:
        """Whether every part is somebody's."""
        return not self._gaps

    def claim(self) -> tuple[int, int] | None:
        """Takes the next part: its first byte and the one behind its last. None when every part is somebody's."""
        if not self._gaps:
            return None
        start, end = self._gaps.pop()
        stop = min(start + self._step, end)
        if stop < end:
            self._gaps.append((stop, end))
        return start, stop

    def extend(self, stop: int) -> int | None:
        """Takes the part that begins at `stop` if it is the next; gives its end, None when it is somebody's."""
        if not self._gaps or stop != self._gaps[-1][0]:
            return None
        claimed = self.claim()
        return claimed and claimed[1]


class Enough(Exception):
    """Raised by the first read's sink where the bytes that follow are somebody else's."""


class Changed(Exception):
    """Raised by a sink when what is about to come is not the next of the object that was begun."""


class Unranged(Changed):
    """Raised by a sink when the origin begins somewhere else than it was asked to."""


# How it shows that the parts are not of the object that was begun, that its origin cannot do ranges, or that what was
# on the disk is not any more.
STALE = (Changed, PreconditionFailed, RangeNotSatisfiable, ObjectNotFound, IntegrityError, PartsLost)


class Outcome(NamedTuple):
    """How the parts of an object ended: `body` when it is whole, else the error that stands."""

    body: Body | None = None
    error: Exception | None = None


def in_parts(stat: ObjectStat, policy: NetworkPolicy) -> bool:
    """Whether an object is to be read in parts: a large one, with an ETag that pins it (a weak one does not)."""
    if policy.parts_from is None or stat.size < policy.parts_from or stat.size <= policy.part_size:
        return False
    return bool(stat.etag) and not str(stat.etag).startswith("W/")


class Parts:
    """One object on its way in parts.

    There is the first stream, which is its owner's errand, and helpers, each for one part and with credits of its own;
    nobody holds credits while waiting for others. One stream is always there, if only in line; others join while the
    network is waited for, lanes would idle and credits are to be had at once. What is left when no helper joins the
    first stream brings alone. The last to end names the body. `ended` is called once, unless `abort` came before.

    With `begun` what came of that object in an earlier attempt is not brought again. The answer to the first read,
    which has said that this is the object, waits until it is known what came, and is left if that is the beginning.
    """

    def __init__(
        self,
        location: Location,
        origin: Origin,
        stat: ObjectStat,
        *,
        cache: Cache,
        lanes: Lanes,
        slack: Slack,
        part_size: int,
        begun: Begun | None,
        urgent: bool,
        due: float | None,
        ended: Callable[[Outcome], None],
    ) -> None:
        self._location = location
        self.stat = stat
        self._origin = origin
        self._lanes = lanes
        self._slack = slack
        self._urgent = urgent
        self._due = due
        self._ended = ended
        self._part_size = part_size
        self._plan: Plan | None = None  # until it is known what is there already
        self._body: PartedBody = cache.parted(stat.size, check=check_of(stat), begun=begun)
        self._first: PartSink | None = None  # until then, or where nothing is missing
        self._first_flies = True
        self._helpers: set[_Helper] = set()
        self._most = 0  # streams to have helpers join up to, as of the last look
        self._over = False

    def first_sink(self) -> Sink:
        """The sink for the answer that has shown the object to be large."""
        return _Sequel(self)

    def begin_first(self) -> asyncio.Future[None] | None:
        """None when the first stream may go on, with `first`, else a future to await first."""
        pause = self._body.opening()
        if pause is None and self._plan is None:
            self._plan = Plan(self.stat.size, self._part_size, self._body.present)
            self._first = self._next_part()
            if not self._plan.over:
                self._slack.watch(self)
        return pause

    @property
    def first(self) -> PartSink | None:
        """The first stream's part; None where nothing is missing."""
        return self._first

    def extend(self, stop: int) -> int | None:
        """Lets the first stream go on with the part that begins at `stop`. None where that is somebody else's."""
        assert self._plan is not None
        further = self._plan.extend(stop)
        self._recruit()
        return further

    async def flush_first(self) -> None:
        """Brings to the disk what the first read has left in memory, after it returned or raised."""
        if self._first is not None:
            await self._first.flush()

    def close_first(self) -> None:
        """Drops what it left there, after it was cancelled."""
        if self._first is not None:
            self._first.close()

    async def resume_first(self) -> None:
        """Goes on with the first stream's part where its last attempt has ended, if anything of it is missing."""
        while (pause := self.begin_first()) is not None:
            await pause
        if self._first is not None:
            await self.bring(self._first)

    async def end_first(self) -> None:
        """Ends the first stream, which has brought its part: the rest is for helpers. Cancelled, nothing changes."""
        self._first_flies = False
        await self._go_on()

    @property
    def writing(self) -> bool:
        """Whether what came is still on its way to the disk."""
        return self._body.writing

    def look(self, waiting: bool) -> bool:
        """Has helpers join while the network is waited for, twice as many streams at each look.

        Where it is not, those there are bring their parts, and nobody takes their place.
        """
        self._most = 2 * self._streams if waiting else 0
        if waiting:
            self._recruit()
        return not (self._over or self._plan is None or self._plan.over)

    def urge(self) -> None:
        """Says that a consumer waits for just this object."""
        self._urgent = True
        for helper in list(self._helpers):
            self._lanes.urge(helper)

    def abort(self, *, of_use: bool = True) -> None:
        """Ends all helpers; the first stream is its owner's to end. May be called twice.

        What there is is left to the next attempt, in this process or another, if it may be `of_use`.
        """
        self._over = True
        self._slack.forget(self)
        helpers, self._helpers = self._helpers, set()
        for helper in helpers:
            self._lanes.give_up(helper)
        self._body.abort(of_use=of_use)

    def fail(self, error: Exception) -> None:
        """Takes the error that stands after the last attempt of a stream: none is left, and `ended` is called."""
        if not self._over:
            self.abort(of_use=not isinstance(error, STALE))
            self._ended(Outcome(error=error))

    async def bring(self, sink: PartSink) -> None:
        """Reads what a part still lacks, and returns when it is on the disk.

        After an error what came of it is there too, and another attempt goes on behind that.
        """
        if sink.at == sink.stop:
            return
        span = ByteRange(sink.at, sink.stop)
        try:
            answer = await self._origin.read(
                self._location, _Entry(sink, self.stat), range=span, if_match=self.stat.etag
            )
        except Exception:
            await sink.flush()
            raise
        except BaseException:
            sink.close()
            raise
        await sink.flush()
        if not isinstance(answer, ObjectStat) or not _same(answer, self.stat):
            raise Changed
        if sink.at != sink.stop:
            raise TransferInterrupted(str(self._location), f"{span} ended at byte {sink.at}")

    async def helped(self, helper: _Helper) -> None:
        """A helper's part is there."""
        self._helpers.discard(helper)
        await self._go_on()

    async def _go_on(self) -> None:
        """A stream has ended, and its lane is about to."""
        if self._plan is not None and not self._plan.over:
            self._recruit(leaving=1)
        elif not (self._first_flies or self._helpers or self._over):
            try:
                body = await self._body.finish()
            except (IntegrityError, PartsLost) as error:  # no part is known to be the wrong one
                self.fail(error)
                return
            self._over = True
            self._ended(Outcome(body))

    @property
    def _streams(self) -> int:
        return self._first_flies + len(self._helpers)

    def _recruit(self, *, leaving: int = 0) -> None:
        """Has helpers join: where network and lanes would idle, and where nobody else would go on with this object."""
        lanes, plan = self._lanes, self._plan
        while plan is not None and not (plan.over or self._over):
            alone = self._streams == 0
            if not alone and self._streams >= self._most:
                return
            if not alone and lanes.busy - leaving >= STREAMS:
                return
            if not alone and not lanes.would_fly(PART_MEMORY, self._location, leaving=leaving):
                return
            sink = self._next_part()
            assert sink is not None
            helper = _Helper(self, self._location, sink, urgent=self._urgent)
            helper.due = self._due
            self._helpers.add(helper)
            lanes.add(helper)
            lanes.pump()

    def _next_part(self) -> PartSink | None:
        claimed = None if self._plan is None else self._plan.claim()
        return None if claimed is None else self._body.part(*claimed)


class _Helper(Errand):
    """One part, brought by a range. What an attempt has brought the next does not bring again."""

    __slots__ = ("_parts", "_sink")

    def __init__(self, parts: Parts, location: Location, sink: PartSink, *, urgent: bool) -> None:
        super().__init__(location, urgent=urgent)
        self._parts = parts
        self._sink = sink

    @property
    def need(self) -> int:
        return PART_MEMORY

    async def fly(self) -> None:
        await self._parts.bring(self._sink)
        self.release()
        await self._parts.helped(self)

    def fail(self, error: Exception) -> None:
        self._parts.fail(error)


class _Entry:
    """The sink of a range: sees that its answer is of the object that was begun, and of the place it was asked for."""

    __slots__ = ("_sink", "_stat", "advance", "drain", "get_buffer")

    def __init__(self, sink: PartSink, stat: ObjectStat) -> None:
        self._sink = sink
        self._stat = stat
        # For an origin that does not say what comes; it is checked when it is there.
        self.get_buffer, self.advance, self.drain = sink.get_buffer, sink.advance, sink.drain

    def begin(self, stat: ObjectStat, start: int) -> Sink:
        if start != self._sink.at:
            raise Unranged
        if not _same(stat, self._stat):
            raise Changed
        return self._sink


class _Sequel:
    """The sink of the first read: goes on from part to part, and raises `Enough` where the next is somebody else's."""

    __slots__ = ("_parts", "_sink")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sink: PartSink | None = None

    def get_buffer(self, hint: int) -> memoryview:
        assert self._sink is not None, "an origin asks drain first"
        return self._sink.get_buffer(hint)

    def advance(self, count: int) -> None:
        assert self._sink is not None
        self._sink.advance(count)

    def intake(self, left: int) -> Intake:
        assert self._sink is not None
        return self._sink.intake(left)

    def drain(self) -> asyncio.Future[None] | None:
        sink = self._sink
        if sink is None:
            pause = self._parts.begin_first()
            if pause is not None:
                return pause
            sink = self._parts.first
            if sink is None or sink.at != 0:
                raise Enough
            self._sink = sink
        if sink.at == sink.stop:
            further = self._parts.extend(sink.stop)
            if further is None:
                raise Enough
            sink.stop = further
        return sink.drain()


def _same(stat: ObjectStat, begun: ObjectStat) -> bool:
    return (stat.etag, stat.size, stat.version) == (begun.etag, begun.size, begun.version)
