"""The fetcher of programs without an event loop: the calls of `asyncfetch.Fetcher`, each of which waits."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

import asyncfetch.fetcher
from asyncfetch.blocking.bridge import bridge
from asyncfetch.blocking.iterating import objects
from asyncfetch.blocking.stream import Stream
from asyncfetch.blocking.supply import supply
from asyncfetch.errors import FetcherClosed, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self, Unpack

    from asyncfetch.decode import ImageOptions
    from asyncfetch.objects import Body, Entry, Failure, Image, Name, ObjectStat, Report, Source, Stats
    from asyncfetch.settings import Access, CachePolicy, DecodePolicy, NetworkPolicy, Revalidate, Settings
    from asyncfetch.streams import FailureLimit, ImageKeywords, StreamKeywords, Substitute
    from asyncfetch.streams import Stream as AwaitedStream

T = TypeVar("T")
S = TypeVar("S")


class Options(TypedDict, total=False):
    """The keywords of `asyncfetch.Fetcher`, which tells what they mean."""

    cache_dir: str | os.PathLike[str] | None
    concurrency: int | None
    memory_budget: int | str | None
    endpoint_url: str | None
    region: str | None
    profile: str | None
    anonymous: bool | None
    requester_pays: bool | None
    revalidate: Revalidate | None
    max_bytes: int | str | None
    ephemeral: bool | None
    workers: int | None
    access: Access | None
    buckets: Mapping[str, Access] | None
    cache: CachePolicy | None
    network: NetworkPolicy | None
    decode: DecodePolicy | None


class Fetcher:
    """`asyncfetch.Fetcher` for programs without an event loop, with the same options.

    It can be used by several threads at once, from inside a running event loop, which waits meanwhile, and in child
    processes: it opens where it is first used, once a process, and all of them are one job, which begins when it is
    first used or pickled. Closed by `with`, by `close`, at the end of the program, or when it is dropped. Ctrl-C ends
    the call that waits, and the work behind it with it.

    Raises what the asynchronous calls raise. Sources without an index are read by the thread that asks for items, and
    streams that are left early free what they hold when they are closed or dropped. In a stream made before a fork
    the child finds `ForeignUse`.
    """

    def __init__(self, settings: Settings | None = None, **options: Unpack[Options]) -> None:
        self._given = asyncfetch.fetcher.Fetcher(settings, **options).settings
        # Each of them is set once, in one step. The second is the loop's own, and another loop's after a fork.
        self._pinned: list[Settings] = []
        self._home: tuple[asyncio.AbstractEventLoop, asyncio.Task[asyncfetch.fetcher.Fetcher]] | None = None
        self._closed = False

    # Life

    @property
    def settings(self) -> Settings:
        """What it is made of, with the job that it is, for fetchers elsewhere to belong to."""
        if not self._pinned:
            self._pinned.append(replace(self._given, job=self._given.current_job))
        return self._pinned[0]

    def open(self) -> Self:
        """Opens it now, which the first call does otherwise. Raises `CacheUnusable`, and `UsageError` when closed."""
        if self._closed:
            raise UsageError("A fetcher is opened once", remedy="Make another with the same settings.")
        self._run(_itself)
        return self

    def close(self) -> None:
        """Ends everything under way in this process, and frees what is held. Closing twice does nothing."""
        self._closed = True
        if self._home is not None:
            bridge().end(self._aclose)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)

    # Single objects

    def fetch(self, source: Source, *, cache: bool = True) -> Entry:
        """Brings an object to local disk, or finds it there. See `asyncfetch.Fetcher.fetch`."""
        return self._run(lambda fetcher: fetcher.fetch(source, cache=cache))

    def image(self, source: Source, *, cache: bool = True, **options: Unpack[ImageOptions]) -> Image:
        """Fetches an object and decodes it. See `asyncfetch.Fetcher.image`."""
        return self._run(lambda fetcher: fetcher.image(source, cache=cache, **options))

    def read_bytes(
        self, source: Source, start: int | None = None, stop: int | None = None, *, cache: bool = True
    ) -> bytes:
        """Reads an object, or its bytes from `start` to before `stop`. See `asyncfetch.Fetcher.read_bytes`."""
        return self._run(lambda fetcher: fetcher.read_bytes(source, start, stop, cache=cache))

    def stat(self, name: Name) -> ObjectStat:
        """Asks the origin for an object's size, ETag, version and date. See `asyncfetch.Fetcher.stat`."""
        return self._run(lambda fetcher: fetcher.stat(name))

    def digest(self, entry: Entry) -> str:
        """The digest of an entry's bytes. See `asyncfetch.Fetcher.digest`."""
        return self._run(lambda fetcher: fetcher.digest(entry))

    def stats(self) -> Stats:
        """Counts and levels since it was opened in this process."""

        async def ask(fetcher: asyncfetch.fetcher.Fetcher) -> Stats:
            return fetcher.stats()

        return self._run(ask)

    # Many objects

    def list(self, prefix: Name, *, recursive: bool = True, parallel: int = 1) -> Iterator[ObjectStat]:
        """Yields the objects whose keys begin with a prefix. See `asyncfetch.Fetcher.list`."""
        here = bridge()

        async def ask(fetcher: asyncfetch.fetcher.Fetcher) -> Any:
            return fetcher.list(prefix, recursive=recursive, parallel=parallel)

        return objects(self, here, self._run(ask))

    @overload
    def entries(
        self,
        sources: Iterable[Source],
        *,
        on_error: Literal["raise", "skip"] | FailureLimit = ...,
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Entry]: ...
    @overload
    def entries(
        self,
        sources: Iterable[Source],
        *,
        on_error: Literal["yield"],
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Entry | Failure]: ...
    @overload
    def entries(
        self,
        sources: Iterable[Source],
        *,
        on_error: Substitute[S],
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Entry | S]: ...
    def entries(self, sources: Iterable[Source], **rest: Any) -> Stream[Any]:
        """Yields objects as entries on local disk, prefetching ahead. See `asyncfetch.Fetcher.entries`."""
        return self._items(sources, lambda fetcher, given: fetcher.entries(given, **rest))

    @overload
    def bytes(
        self,
        sources: Iterable[Source],
        *,
        on_error: Literal["raise", "skip"] | FailureLimit = ...,
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Body]: ...
    @overload
    def bytes(
        self,
        sources: Iterable[Source],
        *,
        on_error: Literal["yield"],
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Body | Failure]: ...
    @overload
    def bytes(
        self,
        sources: Iterable[Source],
        *,
        on_error: Substitute[S],
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Body | S]: ...
    def bytes(self, sources: Iterable[Source], **rest: Any) -> Stream[Any]:
        """Yields objects as their bytes, prefetching ahead. See `asyncfetch.Fetcher.bytes`."""
        return self._items(sources, lambda fetcher, given: fetcher.bytes(given, **rest))

    @overload
    def images(
        self,
        sources: Iterable[Source],
        *,
        on_error: Literal["raise", "skip"] | FailureLimit = ...,
        **rest: Unpack[ImageKeywords],
    ) -> Stream[Image]: ...
    @overload
    def images(
        self,
        sources: Iterable[Source],
        *,
        on_error: Literal["yield"],
        **rest: Unpack[ImageKeywords],
    ) -> Stream[Image | Failure]: ...
    @overload
    def images(
        self,
        sources: Iterable[Source],
        *,
        on_error: Substitute[S],
        **rest: Unpack[ImageKeywords],
    ) -> Stream[Image | S]: ...
    def images(self, sources: Iterable[Source], **rest: Any) -> Stream[Any]:
        """Yields decoded images, prefetching ahead. See `asyncfetch.Fetcher.images`."""
        return self._items(sources, lambda fetcher, given: fetcher.images(given, **rest))

    def prefetch(self, sources: Iterable[Source], *, failures: str | os.PathLike[str] | None = None) -> Report:
        """Fills the cache with objects, whatever fails, and reports. See `asyncfetch.Fetcher.prefetch`."""
        here = bridge()
        given = supply(sources, here)

        async def work() -> Report:
            return await (await self._opened()).prefetch(given or sources, failures=failures)

        return here.run(work) if given is None else given.attend(work)

    def _items(
        self, sources: Iterable[Source], make: Callable[[asyncfetch.fetcher.Fetcher, Any], AwaitedStream[T]]
    ) -> Stream[T]:
        here = bridge()
        given = supply(sources, here)

        async def ask(fetcher: asyncfetch.fetcher.Fetcher) -> AwaitedStream[T]:
            return make(fetcher, given or sources)

        return Stream(self, here, self._run(ask), sources, given)

    def _run(self, work: Callable[[asyncfetch.fetcher.Fetcher], Coroutine[Any, Any, T]]) -> T:
        async def run() -> T:
            return await work(await self._opened())

        return bridge().run(run)

    # On the loop

    async def _opened(self) -> asyncfetch.fetcher.Fetcher:
        if self._closed:
            raise FetcherClosed("This fetcher is closed", remedy="Make another with the same settings.")
        loop = asyncio.get_running_loop()
        home = self._home
        if home is None or home[0] is not loop or _has_failed(home[1]):
            home = self._home = (loop, loop.create_task(_open(self.settings, weakref.ref(self))))
        opening = home[1]
        return opening.result() if opening.done() else await asyncio.shield(opening)

    async def _aclose(self) -> None:
        home = self._home
        if home is None or home[0] is not asyncio.get_running_loop():
            return  # it was opened before a fork, and not here
        await asyncio.wait([home[1]])
        if not _has_failed(home[1]):
            fetcher = home[1].result()
            try:
                await fetcher.aclose()
            finally:  # not before: a program that ends meanwhile waits for what is kept
                bridge().let_go(fetcher)


async def _open(settings: Settings, user: weakref.ref[Fetcher]) -> asyncfetch.fetcher.Fetcher:
    """Opens a fetcher that is closed at the end of the program, or when who uses it has gone."""
    here = bridge()
    fetcher = await asyncfetch.fetcher.Fetcher(settings).__aenter__()
    here.keep(fetcher, fetcher.aclose)

    async def close() -> None:
        try:
            await fetcher.aclose()
        finally:
            here.let_go(fetcher)

    def drop() -> None:
        here.post(lambda: asyncio.ensure_future(close()))

    if (living := user()) is None:
        drop()
    else:
        weakref.finalize(living, drop).atexit = False
    return fetcher


def _has_failed(opening: asyncio.Task[Any]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


async def _itself(fetcher: T) -> T:
    return fetcher
