"""Streams and listings of a fetcher as plain generators, each item a step on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from asyncfetch.streams import take_back

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from asyncfetch.blocking.bridge import Bridge
    from asyncfetch.blocking.supply import Supply
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams import Batches, Listing, Stream

T = TypeVar("T")


class UndeliveredError(Exception):
    """What was yielded did not reach the consumer: an interrupt came in between."""


_PAGE = 1000  # what a LIST request of S3 gives: a step on the loop for each object would cost ten times the listing


def items(
    owner: object, bridge: Bridge, stream: Stream[Any] | Batches[Any], supply: Supply | None
) -> Generator[Any, None, None]:
    """Yields what a stream does, and closes it at the end, also an early one. `owner` is held until then.

    An item that the loop handed out and an interrupt kept from the caller does not count as handed out. Whoever is
    interrupted between this and its own caller throws `UndeliveredError` in.
    """
    astray = False  # an item has left the stream, and is not yielded yet

    async def step() -> Any:
        nonlocal astray
        item = await anext(stream, _END)
        astray = item is not _END
        return item

    async def close() -> None:
        await stream.aclose()
        if astray:
            take_back(stream)

    attend = bridge.run if supply is None else supply.attend
    try:
        while (item := attend(step)) is not _END:
            astray = False  # Python looks for signals when a call has returned, and not from there to `yield`
            yield item
            del item  # its pixels are the user's to let go
    except UndeliveredError:
        astray = True
    finally:
        bridge.end(close)


def objects(owner: object, bridge: Bridge, listing: Listing) -> Iterator[ObjectStat]:
    """Yields what a listing does, a page in a step; closes it at the end. `owner` is held until then."""

    async def step() -> tuple[list[ObjectStat], Exception | None]:
        page: list[ObjectStat] = []
        try:
            while len(page) < _PAGE:
                page.append(await anext(listing))
        except StopAsyncIteration:
            pass
        except Exception as error:  # behind the objects that came before it
            return page, error
        return page, None

    try:
        while True:
            page, error = bridge.run(step)
            yield from page
            if error is not None:
                raise error
            if len(page) < _PAGE:
                return
    finally:
        bridge.end(listing.aclose)


_END = object()
