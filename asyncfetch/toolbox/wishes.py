"""Which thumbnails are to be made: originals and what is there are listed, and asked for where that cannot tell."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import anyio

from asyncfetch.errors import ObjectError
from asyncfetch.jobs.matching import below
from asyncfetch.jobs.sources import Missing, Unclear, find
from asyncfetch.toolbox.kinds import kind_of
from asyncfetch.toolbox.originals import BATCH, Originals, WorkCounts, row
from asyncfetch.toolbox.targets import Beside, Inside
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any, Self

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.jobs import Request
    from asyncfetch.objects import ObjectStat
    from asyncfetch.toolbox.originals import Row, Work

_NAMED = 3  # rows without an object


class Wishes:
    """What a request comes to: the originals to be read, in the order of their keys or rows, each once.

    A context manager. `target` None makes no thumbnails. `named` says that the user named each original, so that one
    that is no image is a failure; under a prefix there may lie other things, which are passed over.
    """

    def __init__(self, target: Beside | Inside | None) -> None:
        self.counts = WorkCounts()
        self.named = False
        self._target = target
        self._originals = Originals(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._originals.close()

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
        target, originals = self._target, self._originals
        self.named = not request.lists
        if request.lists:
            assert request.prefix is not None
            await self._under(fetcher, request, request.prefix)
        else:
            await self._among(fetcher, request)
        await asyncio.to_thread(originals.complete)
        if isinstance(target, Beside):
            if target.to is not None and not (request.lists and target.to.startswith(str(parse(request.prefix or "")))):
                await self._list(fetcher, target.to, lambda stat: None)
            await self._ask_owners(fetcher, target)
        elif target is not None:
            await asyncio.to_thread(originals.look_inside, target)
        if measured is not None:
            await asyncio.to_thread(originals.remember, measured)
        unknown = await asyncio.to_thread(originals.unknown)
        await self._each(fetcher, [partial(self._ask_original, fetcher, uri) for uri in unknown])
        await asyncio.to_thread(originals.settle, self.counts, again=again, measured=measured is not None)

    def works(self, after: int = 0) -> list[tuple[int, Work]]:
        """The next originals to read behind a number, with theirs. Blocks for a millisecond."""
        return self._originals.works(after)

    def place_of(self, uri: str) -> str | None:
        """Where the thumbnail of an original is, which is named as metadata do; None where none is made.

        Raises `KeyError` for one that was not asked for.
        """
        return self._originals.place_of(uri)

    # What was asked for, and what is there

    async def _under(self, fetcher: Fetcher, request: Request, prefix: str) -> None:
        """All under a prefix: one listing tells of originals and, where these lie beside, of thumbnails."""
        cut, target, selection = below(prefix), self._target, request.selection
        if isinstance(target, Beside):
            target.check(prefix)
        start = str(parse(prefix))

        def original(stat: ObjectStat) -> Row | None:
            name = cut(stat.uri)
            if not stat.size and stat.uri.endswith("/"):
                return None
            plain = None if target is None else target.name(stat.uri, name)
            # What is not chosen has its name too, or another would get it once it is left out.
            known = plain is None or not isinstance(target, Beside) or target.to is not None or plain.startswith(start)
            chosen = selection.wants(stat, name)
            if chosen and kind_of(stat.uri) == "other":
                self.counts.others += 1
                chosen = False
            return row(stat, plain, chosen=chosen, listed=known)

        await self._list(fetcher, prefix, original)

    async def _list(self, fetcher: Fetcher, prefix: str, original: Callable[[ObjectStat], Row | None]) -> None:
        batch: list[ObjectStat] = []
        async with fetcher.list(prefix) as listing:
            async for stat in listing:
                batch.append(stat)
                if len(batch) == BATCH:
                    await asyncio.to_thread(self._take, batch, original)
                    batch = []
        await asyncio.to_thread(self._take, batch, original)

    def _take(self, batch: list[ObjectStat], original: Callable[[ObjectStat], Row | None]) -> None:
        target = self._target
        rows: list[Row] = []
        there: list[ObjectStat] = []
        self.counts.listed += len(batch)
        for stat in batch:
            if isinstance(target, Beside) and target.is_made(stat.uri):
                there.append(stat)
            elif (found := original(stat)) is not None:
                self._originals.note(stat)
                rows.append(found)
        self._originals.add(rows, there)

    async def _among(self, fetcher: Fetcher, request: Request) -> None:
        """The rows of a list. Thumbnails among them are no originals."""
        target, counts = self._target, self.counts
        listed = not isinstance(target, Beside) or target.to is not None
        batch: list[Row] = []
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
                    self._originals.note(stat)
                    counts.listed += 1
                batch.append(row(stat or item.uri, plain, chosen=True, listed=listed))
                if len(batch) == BATCH:
                    await asyncio.to_thread(self._originals.add, batch)
                    batch = []
        await asyncio.to_thread(self._originals.add, batch)

    # What a listing does not tell

    async def _ask_owners(self, fetcher: Fetcher, target: Beside) -> None:
        originals = self._originals
        unsure = set(await asyncio.to_thread(originals.unsure))
        sample = await asyncio.to_thread(originals.sample)
        await self._each(fetcher, [partial(self._ask_owner, target, name) for name in unsure.union(sample)])
        if any(map(originals.is_anothers, set(sample) - unsure)):
            await self._each(fetcher, [partial(self._ask_owner, target, name) for name in originals.unasked()])

    async def _ask_owner(self, target: Beside, name: str) -> None:
        try:
            owner = await target.owner(name)
        except ObjectError:  # which the writing will meet again, and tell
            owner = None
        if owner is not None:
            self._originals.add_owner(name, owner)

    async def _ask_original(self, fetcher: Fetcher, uri: str) -> None:
        """Asks for the ETag of an original that no listing told of, where it may be done."""
        try:
            stat = await fetcher.stat(uri)
        except ObjectError:  # reading it will tell
            return
        self._originals.add_facts(uri, stat)

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
