"""The protocol that every origin speaks.

An origin pushes an object's bytes into buffers that its caller owns, so that bytes are copied once at most and memory
is reused. Libraries that hand out chunks adapt with `deliver`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable

    from asyncfetch.objects import NotModified, ObjectStat
    from asyncfetch.uris import Location


class ByteRange(NamedTuple):
    """Bytes `start` to before `stop`, counted from 0; `stop` None is the end of the object."""

    start: int
    stop: int | None = None

    def __str__(self) -> str:
        """The value of a Range header (RFC 9110, section 14.1.2), whose last position is inclusive."""
        return f"bytes={self.start}-{'' if self.stop is None else self.stop - 1}"


class Sink(Protocol):
    """Where an origin puts the bytes of one body, in order.

    A sink serves one attempt: an origin that fails in mid-body raises, and the caller comes again with a new sink.
    """

    def get_buffer(self, hint: int) -> memoryview:
        """Gives room for the next bytes, never empty. `hint` is how many are still to come, -1 where nobody knows."""
        ...

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of the room given last as written."""
        ...


class PacedSink(Sink, Protocol):
    """A sink that can fall behind, as one that writes to a disk. Origins ask `drain` before each `get_buffer`."""

    def drain(self) -> asyncio.Future[None] | None:
        """None when the sink can take more at once; else a future to await, and then to ask again.

        Raises what writing failed with.
        """
        ...


class InformedSink(Sink, Protocol):
    """A sink that wants to know what comes. Origins that know it before the first byte say it by `introduce`."""

    def begin(self, stat: ObjectStat, start: int) -> Sink:
        """Takes what is known of the object, and at which of its bytes the body begins; gives the sink for the body.

        The beginning is that of the range that was asked for, or 0 where a server does not know ranges and the rest of
        the body will be dropped on its way. Called at most once a read. What it raises ends the read.
        """
        ...


def introduce(sink: Sink, stat: ObjectStat, start: int) -> Sink:
    """Tells a sink that wants to know it what comes. The body goes to the sink that this gives."""
    begin: Callable[[ObjectStat, int], Sink] | None = getattr(sink, "begin", None)
    return sink if begin is None else begin(stat, start)


def pacing(sink: Sink) -> Callable[[], asyncio.Future[None] | None]:
    """The sink's `drain`, or one that never asks to wait."""
    drain: Callable[[], asyncio.Future[None] | None] = getattr(sink, "drain", _never_full)
    return drain


def _never_full() -> None:
    return None


class Origin(Protocol):
    """Reads objects of one kind. One instance serves one fetcher, many reads at once.

    Every method raises the errors of `asyncfetch.errors` only, with the object's URI, and never retries: whoever calls
    decides that. Cancelling a call closes what it had open; bytes already in the sink stay there.
    """

    @property
    def requests(self) -> int:
        """How many requests it has sent to whoever has the objects: each of them may have its price."""
        ...

    async def stat(self, location: Location) -> ObjectStat:
        """Asks for an object's size, ETag, version and date. Raises `ObjectNotFound` where there is none."""
        ...

    async def read(
        self,
        location: Location,
        sink: Sink,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectStat | NotModified:
        """Puts an object, or a range of it, into a sink, and returns what the origin said of it.

        `ObjectStat.size` is the size of the whole object, also for a range. ETags are given and returned without
        quotes. With `if_none_match` the answer is `NotModified` and the sink untouched when the object still has that
        ETag; with `if_match` another ETag raises `PreconditionFailed`. A range that begins behind the end raises
        `RangeNotSatisfiable`; one that ends behind it gives what there is. A body shorter or longer than announced
        raises `TransferInterrupted`.
        """
        ...

    def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        """Yields the objects whose keys begin with a prefix, in the origin's order (for S3 the UTF-8 order of keys).

        With `start_after`, only those whose keys come after it: how a listing that broke is taken up again.

        Not recursive, what lies behind the next `/` is given as one stat whose URI ends with `/` and whose size is 0.
        A prefix without objects yields nothing; a missing bucket raises.
        """
        ...

    async def aclose(self) -> None:
        """Closes every connection. A call under way raises."""
        ...


async def deliver(chunk: bytes | memoryview, sink: Sink, left: int) -> None:
    """Copies a chunk into a sink. `left` is the bytes still to come with this chunk, or -1."""
    view, drain = memoryview(chunk), pacing(sink)
    while view:
        while (pause := drain()) is not None:
            await pause
        room = sink.get_buffer(left)
        count = min(len(room), len(view))
        room[:count] = view[:count]
        sink.advance(count)
        view = view[count:]
        if left > 0:
            left -= count
