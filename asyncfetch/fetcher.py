"""The one object a user opens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from asyncfetch.cache import digest_file
from asyncfetch.checks import count_of
from asyncfetch.decode import DecodeOptions
from asyncfetch.engine import Pages, decode, land, read_blob, read_part, read_range, stat
from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.objects import Entry, Image
from asyncfetch.origins import ByteRange
from asyncfetch.settings import Settings, parse_size
from asyncfetch.streams import (
    BodyRun,
    Branches,
    EntryRun,
    ImageRun,
    Listing,
    PagesAhead,
    Stream,
    StreamKeywords,
    open_stream,
    read_name,
    split,
)
from asyncfetch.supervisor import Supervisor

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self, Unpack

    from asyncfetch.decode import ImageOptions
    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import Body, Failure, Name, ObjectStat, Report, Source, Sources, Stats
    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Access, CachePolicy, DecodePolicy, NetworkPolicy, Revalidate
    from asyncfetch.streams import FailureLimit, ImageKeywords, OnError, Order, Substitute

S = TypeVar("S")
T = TypeVar("T")


class Fetcher:
    """Fetches objects through the cache, and decodes images.

    Everything is said by keywords; the groups `access`, `cache`, `network` and `decode` hold the rest of what can be
    said, and a keyword that is also given wins over its group. `buckets` gives single buckets an access of their own.

    - `cache_dir`: where blobs are kept; else `ASYNCFETCH_CACHE_DIR`, else the platform's cache directory.
    - `concurrency`: objects read from origins at once, at most.
    - `memory_budget`: bytes, or text such as `"512MiB"`, for bodies in flight and pixels not yet let go.
    - `endpoint_url`, `region`, `profile`, `anonymous`, `requester_pays`: how S3 is reached; else the standard AWS
      chain.
    - `revalidate`: when a cached object is checked against its origin: `"once"` a job, `"always"`, `"never"`, or so
      many seconds after the last check.
    - `max_bytes`: the most that the cache may hold, in bytes or text; else there is no limit.
    - `ephemeral`: the cache is a temporary directory, below `cache_dir` if that is given, and goes with the fetcher.
    - `workers`: decode workers; else one a core.

    Opened by `async with`, which may be entered and left in different tasks. Leaving it cancels what is under way and
    frees every socket, worker, buffer and temporary file; pixels that the user still holds stay valid until they are
    let go. It belongs to the loop and the process that opened it, and refuses others with `ForeignUse`; `settings`
    can be pickled and opened anew there, while it is open as a part of the same job (`settings.job`): what one of them
    has checked the others do not check again. Raises `UsageError` for settings that mean nothing, and on entering
    `CacheUnusable` when the cache directory cannot serve.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        concurrency: int | None = None,
        memory_budget: int | str | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        anonymous: bool | None = None,
        requester_pays: bool | None = None,
        revalidate: Revalidate | None = None,
        max_bytes: int | str | None = None,
        ephemeral: bool | None = None,
        workers: int | None = None,
        access: Access | None = None,
        buckets: Mapping[str, Access] | None = None,
        cache: CachePolicy | None = None,
        network: NetworkPolicy | None = None,
        decode: DecodePolicy | None = None,
    ) -> None:
        if settings is not None and not isinstance(settings, Settings):
            raise UsageError(
                f"settings must be of the type Settings, not {type(settings).__name__}",
                remedy="All else goes by keyword, such as cache_dir=.",
            )
        base = settings or Settings()
        whole = Settings(
            access=_override(
                access or base.access,
                endpoint_url=endpoint_url,
                region=region,
                profile=profile,
                anonymous=anonymous,
                requester_pays=requester_pays,
            ),
            buckets=dict(base.buckets if buckets is None else buckets),
            cache=_override(
                cache or base.cache,
                cache_dir=cache_dir,
                revalidate=revalidate,
                max_bytes=max_bytes,
                ephemeral=ephemeral,
            ),
            network=_override(network or base.network, concurrency=concurrency),
            decode=_override(decode or base.decode, workers=workers),
            memory_budget=base.memory_budget
            if memory_budget is None
            else parse_size(memory_budget, name="memory_budget"),
            job=base.job,
        )
        self._supervisor = Supervisor(whole)

    @property
    def settings(self) -> Settings:
        """What it was made with; while it is open, as a part of its job."""
        return self._supervisor.settings

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Fetcher holds sockets and workers, and cannot be pickled. "
            "Pickle fetcher.settings, and open Fetcher(settings) where they are unpickled."
        )

    @property
    def identities(self) -> Identities:
        """The credentials it signs by, for those who sign beside it: found once, and refreshed once for all of them.

        Raises `FetcherClosed` while it is not open, and `ForeignUse`.
        """
        return self._supervisor.identities()

    async def __aenter__(self) -> Self:
        await self._supervisor.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends everything under way and frees what is held; cancelled, it does so all the same."""
        await self._supervisor.aclose()

    # Single objects

    async def fetch(self, source: Source, *, cache: bool = True) -> Entry:
        """Brings an object to local disk, or finds it there.

        With `cache=False` the cache is neither asked nor filled; the file is the fetcher's own. The entry's path is
        valid until the fetcher closes. Raises an `OriginError` when the object cannot be had, `StorageFull` or
        `CacheUnusable` when it cannot be kept. Cancelled, the transfer ends unless somebody else waits for the same
        object, and leaves nothing.
        """
        entry, _ = await self._fetch(source, cache=cache)
        return entry

    async def image(self, source: Source, *, cache: bool = True, **options: Unpack[ImageOptions]) -> Image:
        """Fetches an object and decodes it, as `images` does. Raises a `DecodeError` when it is no whole image."""
        wanted = DecodeOptions(**options)
        entry, landed = await self._fetch(source, cache=cache)
        try:
            pixels = await decode(self._engine(), entry.uri, landed, wanted)
        except ObjectNotFound:  # its blob was cleared by another process meanwhile
            entry, landed = await self._fetch(source, cache=cache)
            pixels = await decode(self._engine(), entry.uri, landed, wanted)
        return Image(entry.uri, pixels, entry, entry.index, entry.payload)

    async def read_bytes(
        self, source: Source, start: int | None = None, stop: int | None = None, *, cache: bool = True
    ) -> bytes:
        """Reads an object, or its bytes from `start` to before `stop`, into memory.

        The whole object goes through the cache. A range is read from the cache when the object is there and fresh,
        else it alone is asked of the origin and not kept. A range that ends behind the object is cut; one that begins
        behind it raises `RangeNotSatisfiable`. The bytes are the caller's and no longer count against the memory
        budget.
        """
        engine = self._engine()
        name, _ = split(source)
        uri, location, listed = read_name(name)
        start = 0 if start is None else start
        if start < 0 or (stop is not None and stop < start):
            raise UsageError(f"{uri}: bytes {start} to {stop} are no range", remedy="Use 0 <= start <= stop.")
        if stop == start:
            return b""
        whole = start == 0 and stop is None
        span = None if whole else ByteRange(start, stop)
        if location.scheme == "file" or not cache:
            return await read_range(engine, location, span, listed)
        if span is not None:
            return await read_part(engine, uri, location, listed, span)
        data = await engine.flights.looks.read_cached(location, listed)
        if data is not None:
            return data
        landed = await land(engine, uri, location, listed)
        try:
            return await read_blob(engine, uri, landed.path, landed.size, None)
        except FileNotFoundError:  # cleared by another process meanwhile
            return await read_range(engine, location, None, listed)
        finally:
            if landed.private:
                engine.discard(landed)

    async def stat(self, name: Name) -> ObjectStat:
        """Asks the origin for an object's size, ETag, version and date. Raises an `OriginError`, as `fetch` does.

        Offline, they are what the cache remembers.
        """
        engine = self._engine()
        uri, location, _ = read_name(name)
        return (await stat(engine, location))._replace(uri=uri)

    async def digest(self, entry: Entry) -> str:
        """The digest of an entry's bytes: known for cached objects, read and hashed on a thread for local files."""
        engine = self._engine()
        if entry.digest is not None:
            return entry.digest
        return await engine.loop.run_in_executor(None, digest_file, entry.filename, self.settings.cache.digest)

    def list(self, prefix: Name, *, recursive: bool = True, parallel: int = 1) -> Listing:
        """Lists the objects whose keys begin with a prefix, as an async iterator of `ObjectStat`.

        Not recursive, what lies behind the next `/` is one stat whose URI ends with `/` and whose size is 0. A prefix
        without objects gives nothing. The listing can itself be the sources of a stream, and then spares its objects
        their revalidation.

        `parallel` is how many requests an S3 prefix is listed by at once, where what lies under it is spread over
        slashes; the order stays that of the keys. Up to three pages of 1,000 objects for each are held, and small
        branches cost requests that a plain listing does not need. It changes nothing for directories, for listings that
        are not recursive, and for prefixes without slashes.
        """
        engine = self._engine()
        branches = count_of(parallel, 1, 1_000)
        if branches is None:
            raise UsageError(f"parallel must be a whole number from 1 to 1000, not {parallel!r}")
        location = read_name(prefix)[1]
        origin = engine.origin(location)
        if branches > 1 and recursive and location.scheme == "s3":
            return Listing(Branches(engine, origin, location, branches))
        return Listing(PagesAhead(engine, Pages(origin, location, recursive=recursive)))

    # Many objects

    @overload
    def entries(
        self,
        sources: Sources,
        *,
        on_error: Literal["raise", "skip"] | FailureLimit = ...,
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Entry]: ...
    @overload
    def entries(
        self, sources: Sources, *, on_error: Literal["yield"], **rest: Unpack[StreamKeywords]
    ) -> Stream[Entry | Failure]: ...
    @overload
    def entries(
        self, sources: Sources, *, on_error: Substitute[S], **rest: Unpack[StreamKeywords]
    ) -> Stream[Entry | S]: ...
    def entries(
        self,
        sources: Sources,
        *,
        order: Order = "input",
        on_error: OnError = "raise",
        failures: str | os.PathLike[str] | None = None,
        cache: bool = True,
        look_ahead: int | None = None,
    ) -> Stream[Any]:
        """Streams objects as entries on local disk, prefetching ahead of the consumer.

        `sources` is an iterable or async iterable of URIs, paths, locations or listed objects, alone or as `(name,
        payload)`; it is read lazily, no further than `look_ahead` items beyond the consumer. By default these are four
        for each of `concurrency`, and at least 256, with two batches more where it takes such; of sources with an index
        as many as the memory budget has room for, made or on disk, while the consumer is busy. `order="completion"`
        yields what is there first. `on_error`: `"raise"` ends the stream with the item's own exception, `"skip"` leaves
        failures out (the report counts them), `"yield"` puts a `Failure` in the item's place, `Substitute(make)` what
        `make(failure)` returns, and `FailureLimit(rate=, count=)` leaves them out until there are too many. Every
        failure is also appended to the file `failures`, if that is given; `asyncfetch.ledger.read_ledger` makes sources
        of it again. With `cache=False` the cache is neither asked nor filled, as in `fetch`. A path is valid until the
        stream moves on.
        """
        rest = StreamKeywords(order=order, failures=failures, cache=cache, look_ahead=look_ahead)
        return open_stream(self._engine(), sources, EntryRun, "path", on_error, **rest)

    @overload
    def bytes(
        self,
        sources: Sources,
        *,
        on_error: Literal["raise", "skip"] | FailureLimit = ...,
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Body]: ...
    @overload
    def bytes(
        self,
        sources: Sources,
        *,
        on_error: Literal["yield"],
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Body | Failure]: ...
    @overload
    def bytes(
        self,
        sources: Sources,
        *,
        on_error: Substitute[S],
        **rest: Unpack[StreamKeywords],
    ) -> Stream[Body | S]: ...
    def bytes(
        self,
        sources: Sources,
        *,
        order: Order = "input",
        on_error: OnError = "raise",
        failures: str | os.PathLike[str] | None = None,
        cache: bool = True,
        look_ahead: int | None = None,
    ) -> Stream[Any]:
        """Streams objects as their bytes, whole and in memory; everything `entries` says holds here too.

        Each item is a `Body`, whose `data` is a bytearray that counts against the memory budget until the last view of
        it is gone: a consumer that keeps bodies keeps their share, and reading ahead slows down to one body at a time.
        An object larger than the budget is read alone, and exceeds it.
        """
        rest = StreamKeywords(order=order, failures=failures, cache=cache, look_ahead=look_ahead)
        return open_stream(self._engine(), sources, BodyRun, "bytes", on_error, **rest)

    @overload
    def images(
        self,
        sources: Sources,
        *,
        on_error: Literal["raise", "skip"] | FailureLimit = ...,
        **rest: Unpack[ImageKeywords],
    ) -> Stream[Image]: ...
    @overload
    def images(
        self, sources: Sources, *, on_error: Literal["yield"], **rest: Unpack[ImageKeywords]
    ) -> Stream[Image | Failure]: ...
    @overload
    def images(
        self, sources: Sources, *, on_error: Substitute[S], **rest: Unpack[ImageKeywords]
    ) -> Stream[Image | S]: ...
    def images(
        self,
        sources: Sources,
        *,
        order: Order = "input",
        on_error: OnError = "raise",
        failures: str | os.PathLike[str] | None = None,
        cache: bool = True,
        look_ahead: int | None = None,
        **options: Unpack[ImageOptions],
    ) -> Stream[Any]:
        """Streams objects as decoded images; everything `entries` says holds here too.

        The options are those of `DecodeOptions`: pixels are (H, W, 3) uint8 in RGB unless `color`, `dtype` and
        `layout` say otherwise, upright; `page` chooses one of a TIFF file; `crop`, `max_size`, `size` and `fit` say
        which part of it and how large; `transform` is called with them in the worker. The array is a view of shared
        memory, whose slot goes back when its last view is gone: a consumer that keeps images keeps their share of the
        memory budget, and prefetching slows down to one image at a time.
        """
        wanted = DecodeOptions(**options)
        rest = StreamKeywords(order=order, failures=failures, cache=cache, look_ahead=look_ahead)
        make_run = partial(ImageRun, options=wanted)
        return open_stream(self._engine(), sources, make_run, "pixels", on_error, wanted, **rest)

    async def prefetch(self, sources: Sources, *, failures: str | os.PathLike[str] | None = None) -> Report:
        """Fills the cache with objects, whatever fails, and reports; `failures` is a ledger as in `entries`.

        Cancelled, what is in the cache stays there, and calling it again goes on from there.
        """
        async with self.entries(sources, order="completion", on_error="yield", failures=failures) as stream:
            async for _ in stream:
                pass
        return stream.report()

    def stats(self) -> Stats:
        """Counts and levels since the fetcher was opened."""
        return self._engine().stats()

    def _engine(self) -> Engine:
        return self._supervisor.engine()

    async def _fetch(self, source: Source, *, cache: bool) -> tuple[Entry, Landed]:
        engine = self._engine()
        name, payload = split(source)
        uri, location, listed = read_name(name)
        landed = await land(engine, uri, location, listed, private=not cache and location.scheme != "file")
        entry = Entry(uri, landed.path, landed.size, landed.digest, landed.etag, landed.from_cache, 0, payload)
        return entry, landed


def _override(group: T, **keywords: Any) -> T:
    given = {name: value for name, value in keywords.items() if value is not None}
    return replace(group, **given) if given else group  # type: ignore[type-var]
