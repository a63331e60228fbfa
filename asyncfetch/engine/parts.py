"""A large object in parts, several at once: which bytes are still nobody's, and who brings them.

The first read of an object asks for all of it, and its answer shows whether the object is large. From there on it takes
part after part as long as the next is nobody's, while helpers bring others by ranges. All of them see that what comes
is of one and the same object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import PART_MEMORY
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
    from collections.abc import Callable

    from asyncfetch.cache import Body, Cache, PartedBody, PartSink
    from asyncfetch.engine.lanes import Lanes
    from asyncfetch.origins import Origin, Sink
    from asyncfetch.settings import NetworkPolicy
    from asyncfetch.uris import Location

# Helpers join only while fewer lanes than this are at work. AWS gives a connection 85-90 MB/s ("Performance Guidelines
# for Amazon S3"), so 16 bring 1.4 GB/s, about what one loop takes in with digest and disk: more would only cost.
STREAMS = 16

MOST_PARTS = 1024  # of an object; one of 50 GiB has parts of 50 MiB, or it would take thousands of requests


class Plan:
    """The parts of an object that are still nobody's: whole ones, the lowest first, so that the digest keeps up."""

    __slots__ = ("_next", "_step", "size")

    def __init__(self, size: int, part_size: int) -> None:
        self.size = size
        self._step = max(part_size, -(-size // MOST_PARTS))
        self._next = 0

    @property
    def over(self) -> bool:
        """Whether every part is somebody's."""
        return self._next >= self.size

    def claim(self) -> tuple[int, int] | None:
        """Takes the next part: its first byte and the one behind its last. None when every part is somebody's."""
        start = self._next
        if start >= self.size:
            return None
        self._next = min(start + self._step, self.size)
        return start, self._next

    def extend(self, stop: int) -> int | None:
        """Takes the part that begins at `stop` if it is the next; gives its end, None when it is somebody's."""
        if stop != self._next:
            return None
        claimed = self.claim()
        return claimed and claimed[1]


class Enough(Exception):
    """Raised by the first read's sink where the bytes that follow are somebody else's."""


class Changed(Exception):
    """Raised by a sink when what is about to come is not the next of the object that was begun."""


class Unranged(Changed):
    """Raised by a sink when the origin begins somewhere else than it was asked to."""


# How it shows that the parts are not of the object that was begun, or that its origin cannot do ranges.
STALE = (Changed, PreconditionFailed, RangeNotSatisfiable, ObjectNotFound, IntegrityError)


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
    nobody holds credits while waiting for others. One stream is always there, if only in line; others join while lanes
    would idle and credits are to be had at once. What is left when no helper joins the first stream brings alone. The
    last to end names the body. `ended` is called once, unless `abort` came before.
    """

    def __init__(
        self,
        location: Location,
        origin: Origin,
        stat: ObjectStat,
        *,
        cache: Cache,
        lanes: Lanes,
        part_size: int,
        urgent: bool,
        due: float | None,
        ended: Callable[[Outcome], None],
    ) -> None:
        self._location = location
        self.stat = stat
        self._origin = origin
        self._lanes = lanes
        self._urgent = urgent
        self._due = due
        self._ended = ended
        self._plan = Plan(stat.size, part_size)
        self._body: PartedBody = cache.parted(stat.size, check=check_of(stat))
        self._first = self._part()
        self._first_flies = True
        self._helpers: set[_Helper] = set()
        self._over = False

    def first_sink(self) -> Sink:
        """The sink for the answer that has shown the object to be large. Helpers join from now on."""
        self._recruit()
        return _Sequel(self._first, self._extend)

    async def flush_first(self) -> None:
        """Brings to the disk what the first read has left in memory, after it returned or raised."""
        await self._first.flush()

    def close_first(self) -> None:
        """Drops what it left there, after it was cancelled."""
        self._first.close()

    async def resume_first(self) -> None:
        """Goes on with the first stream's part where its last attempt has ended, if anything of it is missing."""
        await self.bring(self._first)

    async def end_first(self) -> None:
        """Ends the first stream, which has brought its part: the rest is for helpers. Cancelled, nothing changes."""
        self._first_flies = False
        await self._go_on()

    def urge(self) -> None:
        """Says that a consumer waits for just this object."""
        self._urgent = True
        for helper in list(self._helpers):
            self._lanes.urge(helper)

    def abort(self) -> None:
        """Ends all helpers and drops what there is; the first stream is its owner's to end. May be called twice."""
        self._over = True
        helpers, self._helpers = self._helpers, set()
        for helper in helpers:
            self._lanes.give_up(helper)
        self._body.abort()

    def fail(self, error: Exception) -> None:
        """Takes the error that stands after the last attempt of a stream: none is left, and `ended` is called."""
        if not self._over:
            self.abort()
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
        if not self._plan.over:
            self._recruit(leaving=1)
        elif not (self._first_flies or self._helpers or self._over):
            try:
                body = await self._body.finish()
            except IntegrityError as error:  # no part is known to be the wrong one
                self.fail(error)
                return
            self._over = True
            self._ended(Outcome(body))

    def _recruit(self, *, leaving: int = 0) -> None:
        """Has helpers join: where lanes would idle, and where nobody else would go on with this object."""
        lanes = self._lanes
        while not (self._plan.over or self._over):
            alone = not (self._first_flies or self._helpers)
            if not alone and lanes.busy - leaving >= STREAMS:
                return
            if not alone and not lanes.would_fly(PART_MEMORY, self._location, leaving=leaving):
                return
            helper = _Helper(self, self._location, self._part(), urgent=self._urgent)
            helper.due = self._due
            self._helpers.add(helper)
            lanes.add(helper)
            lanes.pump()

    def _part(self) -> PartSink:
        claimed = self._plan.claim()
        assert claimed is not None
        return self._body.part(*claimed)

    def _extend(self, stop: int) -> int | None:
        further = self._plan.extend(stop)
        self._recruit()
        return further


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

    __slots__ = ("_extend", "_sink", "advance")

    def __init__(self, sink: PartSink, extend: Callable[[int], int | None]) -> None:
        self._sink = sink
        self._extend = extend
        self.advance = sink.advance

    def get_buffer(self, hint: int) -> memoryview:
        return self._sink.get_buffer(hint)

    def drain(self) -> asyncio.Future[None] | None:
        sink = self._sink
        if sink.at == sink.stop:
            further = self._extend(sink.stop)
            if further is None:
                raise Enough
            sink.stop = further
        return sink.drain()


def _same(stat: ObjectStat, begun: ObjectStat) -> bool:
    return (stat.etag, stat.size, stat.version) == (begun.etag, begun.size, begun.version)
