"""A content-addressed store of data on S3, or in a directory: the object that a user opens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncfetch.cache.scratch import make_scratch
from asyncfetch.datastore import lookup, runs
from asyncfetch.datastore.dedup import DedupReport, dedup_report
from asyncfetch.datastore.errors import StoreNotFound
from asyncfetch.datastore.gc import Collected, collect
from asyncfetch.datastore.lifecycle import lifecycle_rules
from asyncfetch.datastore.migrate import Migrated, migrate
from asyncfetch.datastore.places import BucketPlace, DirectoryPlace
from asyncfetch.datastore.query import query
from asyncfetch.datastore.restoring import retrieve
from asyncfetch.datastore.storage import Storage
from asyncfetch.datastore.storing import store
from asyncfetch.datastore.verify import Verified, verify
from asyncfetch.errors import FetcherClosed, UsageError
from asyncfetch.fetcher import Fetcher
from asyncfetch.uris import parse, s3

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
    from datetime import date, datetime
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from asyncfetch.datastore.references import DataReference, StoredData
    from asyncfetch.datastore.runs import Run
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location


def _ignore(*_: object) -> None:
    pass


class DataStore:
    """Data, runs and models in a bucket, each piece of data named by the SHA-256 of its bytes and stored once.

    Data lies under `prefix`, everything else beside it: with `prefix="team/data"` manifests are at `team/manifests/`.
    `extra_args` go with each object that is written, by boto3's names for them, such as `{"ServerSideEncryption":
    "aws:kms"}`. `DataStore.at` opens one by a URI, which may be a directory.

    An async context manager. It reads through `fetcher`, which must be open and stays so, else through one of its own,
    made of `settings`; what it writes goes by the control plane with the same settings. Paths that it gives are valid
    until it, or the fetcher that was given, closes. Opening it raises `NewerLayout` for a store that a later version
    has made, and `UsageError` where one lies that keeps its data under another prefix.

    Writers may be many, in as many processes. A call that is cancelled or fails has stored its object whole or not at
    all, and can be made again.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "data",
        extra_args: Mapping[str, Any] | None = None,
        *,
        fetcher: Fetcher | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._begin(s3(bucket, ""), prefix, extra_args, fetcher, settings)

    @classmethod
    def at(
        cls,
        place: str | os.PathLike[str],
        *,
        prefix: str = "data",
        extra_args: Mapping[str, Any] | None = None,
        fetcher: Fetcher | None = None,
        settings: Settings | None = None,
        must_exist: bool = False,
    ) -> Self:
        """A store by where it is: `s3://bucket`, `s3://bucket/team`, or a directory, which is made if need be.

        `prefix` is that of its data, below there. Raises `UsageError` for other URIs. With `must_exist` opening it
        raises `StoreNotFound` where nobody has stored anything yet.
        """
        root = parse(place)
        if root.scheme not in ("s3", "file") or root.version is not None:
            raise UsageError(f"{root} is no place for a store", remedy="Use s3://bucket/prefix or a directory.")
        store = cls.__new__(cls)
        store._begin(root, prefix, extra_args, fetcher, settings, must_exist=must_exist)
        return store

    def _begin(
        self,
        root: Location,
        prefix: str,
        extra_args: Mapping[str, Any] | None,
        fetcher: Fetcher | None,
        settings: Settings | None,
        *,
        must_exist: bool = False,
    ) -> None:
        parts = prefix.strip("/").split("/")
        if not all(parts) or {".", ".."} & set(parts):
            raise UsageError(
                f"prefix {prefix!r} is no prefix for data", remedy='Write it such as "data" or "team/data".'
            )
        if fetcher is not None and settings is not None:
            raise UsageError("fetcher and settings each say how S3 is reached", remedy="Give one of them.")
        above = "".join(f"{part}/" for part in parts[:-1])
        if root.key and not root.key.endswith("/"):
            root = root._replace(key=f"{root.key}/")
        self._root = root._replace(key=root.key + above)
        self._data = f"{parts[-1]}/"
        self._extra_args = extra_args
        self._given = fetcher
        self._settings = settings
        self._must_exist = must_exist
        self._opened: AsyncExitStack | None = None
        self._open: Storage | None = None

    # Life

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise UsageError("A store is opened once", remedy="Make another one.")
        self._opened = AsyncExitStack()
        async with AsyncExitStack() as opened:
            fetcher = self._given
            if fetcher is None:
                fetcher = await opened.enter_async_context(Fetcher(self._settings))
            scratch = make_scratch(None)
            opened.callback(scratch.close)
            place = (
                BucketPlace(fetcher, self._root.container, self._root.key, self._extra_args)
                if self._root.scheme == "s3"
                else DirectoryPlace(Path(self._root.key))
            )
            opened.push_async_callback(place.aclose)
            self._open = Storage(fetcher, place, self._data, Path(scratch.path))
            opened.callback(self._closed)
            await self._open.check_marker()
            if self._must_exist and not await self._open.is_there():
                raise StoreNotFound(self.uri)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes what it has opened: a fetcher of its own, connections, temporary files. Twice does nothing."""
        if self._opened is not None:
            await self._opened.aclose()

    def _closed(self) -> None:
        self._open = None

    @property
    def storage(self) -> Storage:
        """What the functions of this room work with. Raises `FetcherClosed` outside of `async with`."""
        if self._open is None:
            raise FetcherClosed("This store is not open")
        return self._open

    @property
    def uri(self) -> str:
        """Where the store is."""
        return str(self._root)

    # Data

    async def store_data(
        self,
        obj: object,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        seen: Callable[[int], object] = _ignore,
    ) -> DataReference:
        """Stores an object, unless its bytes are there already, and gives what names them.

        - an array of NumPy as npy: any dtype but such as need a pickle, in C or Fortran order;
        - a DataFrame of pandas or a table of Arrow as Parquet (extra `parquet`);
        - a dict or list as canonical JSON, without NaN and infinities;
        - bytes as they are;
        - a path: the file's bytes, read piece by piece, or a directory as a tree of references to its files.

        `metadata`, a dict of JSON, and `name` are kept in the reference, and beside the bytes if nobody stored these
        before. `seen` is called with the bytes of each object that is in the store, also each file of a directory.

        Raises `NotStorable` before anything is sent for what would not come back as it is, `SourceChanged` for
        a file that is written meanwhile, and what reaching S3 raises.
        """
        return await store(self.storage, obj, name, metadata, seen=seen)

    async def retrieve_data(self, data: DataReference | str, into: str | os.PathLike[str] | None = None) -> Any:
        """The object that was stored, by its reference or digest, read through the cache and held against its digest.

        Arrays, DataFrames, tables, dicts, lists and bytes come back as they were. A file is the
        path of a link into the cache, under the name that it was stored with, and must not be written; a directory is
        one of such links. `into` copies either to where
        it says, which must not be there or be an empty directory; it appears whole or not at all.

        Raises `InvalidDigest`, `DataNotFound`, and `DataDamaged` when other bytes lie in the store.
        """
        return await retrieve(self.storage, await lookup.find(self.storage, data), into)

    async def exists(self, data: DataReference | str) -> bool:
        """Whether the store has data. Raises `InvalidDigest` for what can be none."""
        return await lookup.exists(self.storage, data)

    async def stat(self, data: DataReference | str) -> StoredData:
        """What the store says of data. Raises `InvalidDigest` and `DataNotFound`."""
        return await lookup.stat(self.storage, data)

    async def list(self, *, described: bool = False) -> AsyncIterator[StoredData]:
        """Yields all data in the store, by digest. With `described` also what was said of them, a request for each."""
        async for stored in lookup.all_data(self.storage, described=described):
            yield stored

    # Runs

    async def store_run(
        self,
        run_id: str,
        run_type: str,
        storage_modes: str | Iterable[str] = (),
        *,
        project: str | None = None,
        data: Mapping[str, object] | None = None,
        tags: Mapping[str, Any] | Sequence[str] | None = None,
        metrics: Mapping[str, Any] | None = None,
        models: Iterable[str] = (),
    ) -> Run:
        """Stores a run: its data first, then the pointers to it, and last the manifest, with which it is there.

        `data` names objects as `store_data` takes them, or references to what is stored. `storage_modes` are words for
        how else its results are kept, such as `"mlflow"`, and are written down as they are. `tags` are words, or a dict
        of JSON, `metrics` a dict of JSON, `models` the names of models that it is about.

        An id that is used again gives the run that is there where all but the time is equal, and raises `RunExists`
        where it is not. (Where the server ignores conditions of writes, two runs stored in the same instant under one
        id are not told apart: the later stays.) Raises what `store_data` raises, and `DataNotFound` for a reference to
        what is not in the store. Failing or cancelled, there is no such run.
        """
        return await runs.store_run(
            self.storage, run_id, run_type, storage_modes, project, data or {}, tags, metrics, list(models)
        )

    async def get_run(self, run_id: str) -> Run:
        """A run by its id. Raises `RunNotFound`."""
        return await runs.get_run(self.storage, run_id)

    async def list_runs(
        self,
        *,
        project: str | None = None,
        type: str | None = None,
        since: datetime | date | timedelta | None = None,
        tags: Mapping[str, Any] | Sequence[str] | None = None,
        model: str | None = None,
    ) -> builtins.list[Run]:
        """The runs of a project, a type or a model, the earliest first, of which all that is given holds.

        `since` is a moment with its time zone, a day (UTC), or so long ago; `tags` are words that all must be there, or
        a dict whose values must be equal.
        """
        return await runs.list_runs(self.storage, project, type, since, tags, model)

    async def delete_run(self, run_id: str) -> None:
        """Removes a run: its manifest first, with which it is gone, then the pointers. Its data is left to `gc`.

        Raises `RunNotFound`.
        """
        await runs.delete_run(self.storage, run_id)

    # Care

    async def verify(self, *, quick: bool = False, seen: Callable[[int], object] = _ignore) -> Verified:
        """Reads all data and holds it against its digests, then sees that all that is referred to is there.

        `quick` reads no data, and compares sizes. Nothing is changed, and nothing goes into the cache. `seen` is called
        with the bytes of each piece of data that was looked at.
        """
        return await verify(self.storage, quick=quick, seen=seen)

    async def gc(
        self,
        *,
        grace: timedelta = timedelta(days=7),
        dry_run: bool = True,
        seen: Callable[[str, int], object] = _ignore,
    ) -> Collected:
        """Removes the data that no run and no model refers to, and that nobody has stored or used within `grace`.

        Dry unless told otherwise. Safe beside writers that name what they store in a run or model within `grace` less
        an hour; a grace of less than two hours is for a store to which nobody writes. Raises `DataStoreError` when a
        manifest, a record or a directory cannot be read, before anything is removed. `seen` is called with the digest
        and size of each piece that is removed. Cancelled, no piece is half removed.
        """
        return await collect(self.storage, grace, dry_run=dry_run, seen=seen)

    async def migrate(
        self,
        target: DataStore,
        *,
        run_ids: Collection[str] | None = None,
        delete_source: bool = False,
        seen: Callable[[int], object] = _ignore,
    ) -> Migrated:
        """Copies everything, or the runs of `run_ids` with their data and models, into another open store.

        Run again it goes on from where it was. With `delete_source` all that was copied is read back from the target
        and hashed, and only then removed here, but for data that other runs need; nobody may write here meanwhile.
        Raises `MigrationIncomplete` for what cannot be copied or is not the same there, and then removes nothing.
        `seen` is called with the bytes of each piece of data that was sent, or 0 for one that was not.
        """
        return await migrate(self, target, run_ids=run_ids, delete_source=delete_source, seen=seen)

    async def dedup_report(self) -> DedupReport:
        """How much is stored, and how much the runs and models refer to."""
        return await dedup_report(self.storage)

    async def query(self, data: DataReference | str, sql: str) -> pa.Table:
        """What a SELECT gives over a stored table, called `data`: a table of Arrow, by DuckDB (extra `query`).

        It reads the cached Parquet file, and no other file or address. Raises `UsageError` with DuckDB's own words for
        a statement that fails, and for data that is no table. Cancelled, the statement is interrupted.
        """
        reference = await lookup.find(self.storage, data)
        if reference.extension != "parquet":
            raise UsageError(f"{reference.digest} is no table, but {reference.kind}", remedy="Query a Parquet file.")
        entry = await self.storage.fetch(reference)
        return await query(entry.path, sql)

    def lifecycle(self, *, tier_after_days: int = 30, keep_versions_days: int = 30) -> dict[str, Any]:
        """Rules for the bucket, to be applied by who owns it (PutBucketLifecycleConfiguration), as a dict of JSON.

        Uploads that were left unfinished end after a week, data goes into Intelligent-Tiering after `tier_after_days`,
        and in a bucket with versions what was deleted goes after `keep_versions_days`. Raises `UsageError` where the
        store lies in a directory, for which there are no such rules.
        """
        if self._root.scheme != "s3":
            raise UsageError(f"{self.uri} lies in no bucket, and only buckets have lifecycle rules")
        return lifecycle_rules(
            self._root.key, self._data, tier_after_days=tier_after_days, keep_versions_days=keep_versions_days
        )
