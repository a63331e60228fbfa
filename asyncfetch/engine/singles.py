"""Single calls: one object to local disk, bytes of it, its facts, one image to pixels, awaited by one caller."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.decode import DecodeJob
from asyncfetch.engine.calls import RangeCall, StatCall
from asyncfetch.engine.tickets import Ticket
from asyncfetch.errors import FetcherClosed, OriginError, RangeNotSatisfiable
from asyncfetch.objects import ObjectStat

if TYPE_CHECKING:
    from asyncfetch.decode import DecodeOptions, Pixels, Settled
    from asyncfetch.engine.engine import Engine
    from asyncfetch.engine.tickets import Crash, Landed
    from asyncfetch.origins import ByteRange
    from asyncfetch.uris import Location


class _Wish(Ticket):
    """A ticket whose holder awaits it."""

    __slots__ = ("result",)

    def __init__(self, uri: str, location: Location, listed: ObjectStat | None, *, private: bool) -> None:
        super().__init__(uri, location, listed, private=private, urgent=True)
        self.result: asyncio.Future[Landed] = asyncio.get_running_loop().create_future()

    def land(self, landed: Landed) -> None:
        if not self.result.done():
            self.result.set_result(landed)

    def crash(self, crash: Crash) -> None:
        if not self.result.done():
            self.result.set_exception(crash.exception)


async def land(
    engine: Engine, uri: str, location: Location, listed: ObjectStat | None, *, private: bool = False
) -> Landed:
    """Brings one object to local disk, or raises why not. Cancelled, the read ends unless others wait for it."""
    engine.origin(location)
    wish = _Wish(uri, location, listed, private=private)
    engine.request([wish])
    try:
        landed = await wish.result
    except asyncio.CancelledError:
        engine.flights.abandon(wish)
        raise
    if landed.private and engine.closed:
        raise FetcherClosed("The fetcher was closed, and with it the object's file went")
    return landed


async def decode(engine: Engine, uri: str, landed: Landed, options: DecodeOptions) -> Pixels:
    """Decodes one object on disk, or raises a `DecodeError`. Cancelled, the slot goes back when the worker is done."""
    result: asyncio.Future[Pixels] = engine.loop.create_future()

    def done(settled: list[Settled]) -> None:
        [(_, outcome)] = settled
        if result.done():
            return
        if isinstance(outcome, Exception):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)

    job = DecodeJob(
        uri=uri,
        path=landed.path,
        options=options,
        order=-1,
        done=done,
        urgent=True,
        digest=landed.digest,
        size=landed.size,
        header=landed.header,
        private=landed.private,
    )
    engine.pool.submit(job)
    try:
        return await result
    except asyncio.CancelledError:
        engine.pool.cancel(job)
        raise


async def read_blob(engine: Engine, uri: str, path: str, size: int, span: ByteRange | None) -> bytes:
    """Reads a blob, or a range of it, on a thread. Raises `RangeNotSatisfiable` for a range behind its end."""
    if span is not None and span.start >= size:
        raise RangeNotSatisfiable(uri, f"byte {span.start} lies behind its end, {size}")
    start, stop = (0, None) if span is None else span
    # Memory is taken for what is asked for: no more than there is.
    stop = size if stop is None else min(stop, size)
    return await engine.loop.run_in_executor(None, _pread, path, start, stop)


async def read_range(engine: Engine, location: Location, span: ByteRange | None, listed: ObjectStat | None) -> bytes:
    """Reads a range of an object, or all of it, from its origin past the cache."""
    return await RangeCall(engine.origin(location), location, span, listed).through(engine.lanes)


async def read_part(engine: Engine, uri: str, location: Location, listed: ObjectStat | None, span: ByteRange) -> bytes:
    """Reads a range from the cache where the object is there and fresh, else from its origin."""
    found, fresh = await engine.flights.looks.peek(location, listed)
    if found is not None and fresh:
        with contextlib.suppress(FileNotFoundError):  # cleared by another process meanwhile
            return await read_blob(engine, uri, found.path, found.ref.size, span)
    try:
        return await read_range(engine, location, span, listed)
    except OriginError as error:
        if found is not None and not fresh and engine.flights.stands_in(location, error):
            with contextlib.suppress(FileNotFoundError):
                return await read_blob(engine, uri, found.path, found.ref.size, span)
        raise


async def stat(engine: Engine, location: Location) -> ObjectStat:
    """Asks an origin for an object's facts; offline they are what the cache remembers."""
    if engine.settings.cache.offline and location.scheme != "file":
        found, _ = await engine.flights.looks.peek(location, None)
        if found is not None:
            ref = found.ref
            modified = None if ref.last_modified is None else datetime.fromtimestamp(ref.last_modified, UTC)
            return ObjectStat(str(location), ref.size, ref.etag, location.version, modified)
    return await StatCall(engine.origin(location), location).through(engine.lanes)


def _pread(path: str, start: int, stop: int) -> bytes:
    with Path(path).open("rb") as file:  # buffered, so that it reads on where Linux ends a call, at 2 GiB
        file.seek(start)
        return file.read(stop - start)
