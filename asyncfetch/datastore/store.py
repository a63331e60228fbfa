"""A content-addressed store of data on S3, or in a directory: the object that a user opens."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncfetch.cache.scratch import make_scratch
from asyncfetch.datastore import runs, trees
from asyncfetch.datastore.canonical import plain_metadata
from asyncfetch.datastore.dedup import DedupReport, dedup_report
from asyncfetch.datastore.digests import read_digest
from asyncfetch.datastore.encoding import decode, encode, held, kind_of
from asyncfetch.datastore.errors import DataNotFound, NotStorable
from asyncfetch.datastore.gc import Collected, collect
from asyncfetch.datastore.keeping import keep
from asyncfetch.datastore.layout import MARKER, METADATA, data_folder
from asyncfetch.datastore.lifecycle import lifecycle_rules
from asyncfetch.datastore.migrate import Migrated, migrate
from asyncfetch.datastore.places import BucketPlace, DirectoryPlace
from asyncfetch.datastore.query import query
from asyncfetch.datastore.references import DataReference, StoredData
from asyncfetch.datastore.restoring import link_file, read_tree, restore_directory, restore_file
from asyncfetch.datastore.storage import Storage, folder_of, for_each
from asyncfetch.datastore.threads import on_thread
from asyncfetch.datastore.verify import Verified, verify
from asyncfetch.errors import FetcherClosed, UsageError
from asyncfetch.fetcher import Fetcher
from asyncfetch.uris import parse, s3

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
    from datetime import date, datetime
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from asyncfetch.datastore.encoding import Encoded
    from asyncfetch.datastore.runs import Run
    from asyncfetch.datastore.storage import Folder, Listed
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
    ) -> Self:
        """A store by where it is: `s3://bucket`, `s3://bucket/team`, or a directory, which is made if need be.

        `prefix` is that of its data, below there. Raises `UsageError` for other URIs.
        """
        root = parse(place)
        if root.scheme not in ("s3", "file") or root.version is not None:
            raise UsageError(f"{root} is no place for a store", remedy="Use s3://bucket/prefix or a directory.")
        store = cls.__new__(cls)
        store._begin(root, prefix, extra_args, fetcher, settings)
        return store

    def _begin(
        self,
        root: Location,
        prefix: str,
        extra_args: Mapping[str, Any] | None,
        fetcher: Fetcher | None,
        settings: Settings | None,
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
        self._opened: AsyncExitStack | None = None
        self._open: Storage | None = None
        self._scratch = Path()
        self._marked = False

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
            self._scratch = Path(scratch.path)
            place = (
                BucketPlace(fetcher.settings, self._root.container, self._root.key, self._extra_args)
                if self._root.scheme == "s3"
                else DirectoryPlace(Path(self._root.key))
            )
            opened.push_async_callback(place.aclose)
            self._open = Storage(fetcher, place, self._data)
            opened.callback(self._closed)
            await self._check_marker()
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
        self, obj: object, name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> DataReference:
        """Stores an object, unless its bytes are there already, and gives what names them.

        - an array of NumPy as npy: any dtype but such as need a pickle, in C or Fortran order;
        - a DataFrame of pandas or a table of Arrow as Parquet (extra `parquet`);
        - a dict or list as canonical JSON, without NaN and infinities;
        - bytes as they are;
        - a path: the file's bytes, read piece by piece, or a directory as a tree of references to its files.

        `metadata`, a dict of JSON, and `name` are kept in the reference, and beside the bytes if nobody stored these
        before. Raises `NotStorable` before anything is sent for what would not come back as it is, `SourceChanged` for
        a file that is written meanwhile, and what reaching S3 raises.
        """
        said = plain_metadata(metadata, "metadata")
        if name is not None and (not isinstance(name, str) or not name.isprintable()):
            raise NotStorable(f"The name {name!r} of data is not printable text")
        storage = self.storage
        if isinstance(obj, os.PathLike):
            path = Path(os.fspath(obj))
            name = path.name if name is None else name
            if await on_thread(path.is_dir):
                return await self._store_directory(path, name, said)
        encoded = await on_thread(encode, obj, self._scratch)
        try:
            await self.mark()
            return await self._keep(storage, encoded, name, said)
        finally:
            if isinstance(encoded.body, Path) and encoded.body.parent == self._scratch:
                encoded.body.unlink(missing_ok=True)

    async def retrieve_data(self, data: DataReference | str, into: str | os.PathLike[str] | None = None) -> Any:
        """The object that was stored, by its reference or digest, read through the cache and held against its digest.

        Arrays, DataFrames, tables, dicts, lists and bytes come back as they were. A file is the
        path of a link into the cache, under the name that it was stored with, and must not be written; a directory is
        one of such links. `into` copies either to where
        it says, which must not be there or be an empty directory; it appears whole or not at all.

        Raises `InvalidDigest`, `DataNotFound`, and `DataDamaged` when other bytes lie in the store.
        """
        reference = await self._find(data)
        storage = self.storage
        if reference.kind == "directory":
            tree = await read_tree(storage, reference)
            return await restore_directory(storage, tree, self._scratch, None if into is None else Path(into))
        entry = await storage.fetch(reference)
        if into is not None:
            return await restore_file(entry.path, Path(into), reference)
        if reference.kind == "file":
            return await on_thread(link_file, entry.path, self._scratch, reference)
        return await on_thread(decode, reference.kind, entry.path, storage.uri(storage.data_key(reference)))

    async def exists(self, data: DataReference | str) -> bool:
        """Whether the store has data. Raises `InvalidDigest` for what can be none."""
        if isinstance(data, DataReference):
            return (await self.storage.folder(data.digest)).data.get(data.extension) == data.size
        return bool((await self.storage.folder(read_digest(data))).data)

    async def stat(self, data: DataReference | str) -> StoredData:
        """What the store says of data. Raises `InvalidDigest` and `DataNotFound`."""
        digest = data.digest if isinstance(data, DataReference) else read_digest(data)
        folder = await self.storage.folder(digest)
        return await self._told(digest, folder, described=folder.described)

    async def list(self, *, described: bool = False) -> AsyncIterator[StoredData]:
        """Yields all data in the store, by digest. With `described` also what was said of them, a request for each."""
        gathered: builtins.list[Listed] = []
        storage = self.storage
        async for listed in storage.list(self._data):
            if gathered and _folder(gathered[0].key) != _folder(listed.key):
                for stored in await self._gathered(gathered, described=described):
                    yield stored
                gathered = []
            gathered.append(listed)
        for stored in await self._gathered(gathered, described=described):
            yield stored

    async def mark(self) -> None:
        """Says in the store what layout it has, if nobody did. Called before anything is written."""
        if not self._marked:
            await self.storage.put_document(MARKER, {"digest": "sha256", "data": self._data.rstrip("/")})
            await self._check_marker()

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
            self, run_id, run_type, storage_modes, project, data or {}, tags, metrics, list(models)
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
        reference = await self._find(data)
        if reference.extension != "parquet":
            raise UsageError(f"{reference.digest} is no table, but {reference.kind}", remedy="Query a Parquet file.")
        entry = await self.storage.fetch(reference)
        return await query(entry.path, sql)

    def lifecycle(self, *, tier_after_days: int = 30, keep_versions_days: int = 30) -> dict[str, Any]:
        """Rules for the bucket, to be applied by who owns it (PutBucketLifecycleConfiguration), as a dict of JSON.

        Uploads that were left unfinished end after a week, data goes into Intelligent-Tiering after `tier_after_days`,
        and in a bucket with versions what was deleted goes after `keep_versions_days`.
        """
        return lifecycle_rules(
            self._root.key, self._data, tier_after_days=tier_after_days, keep_versions_days=keep_versions_days
        )

    # Inside

    async def _check_marker(self) -> None:
        told = await self.storage.document(MARKER)
        if told is None:
            return
        if told.get("data") != self._data.rstrip("/"):
            raise UsageError(
                f"{self.uri} has a store whose data lies under {told.get('data')!r}, not under {self._data!r}",
                remedy="Use that prefix, or another place.",
            )
        self._marked = True

    async def _store_directory(self, path: Path, name: str | None, said: dict[str, Any] | None) -> DataReference:
        found = await on_thread(trees.scan, path)
        references: dict[str, DataReference] = {}
        storage = self.storage
        await self.mark()

        async def one(relative: str) -> None:
            encoded = await on_thread(encode, path / relative, self._scratch)
            references[relative] = await self._keep(storage, encoded, os.path.basename(relative), None)  # noqa: PTH119

        await for_each(found.files, one)
        return await self._keep(storage, held("directory", trees.encode_tree(found, references)), name, said)

    async def _keep(
        self, storage: Storage, encoded: Encoded, name: str | None, said: dict[str, Any] | None
    ) -> DataReference:
        reference = DataReference(encoded.digest, encoded.size, encoded.kind, encoded.extension, name, said)
        extension = await keep(storage, encoded, reference.to_json(), self._scratch)
        return DataReference(encoded.digest, encoded.size, encoded.kind, extension, name, said)

    async def _find(self, data: DataReference | str) -> DataReference:
        return data if isinstance(data, DataReference) else (await self.stat(data)).reference

    async def _gathered(self, gathered: builtins.list[Listed], *, described: bool) -> builtins.list[StoredData]:
        folder = folder_of(gathered, len(self._data))
        if not folder.data:
            return []
        digest = _folder(gathered[0].key)
        return [await self._told(digest, folder, described=described and folder.described)]

    async def _told(self, digest: str, folder: Folder, *, described: bool) -> StoredData:
        storage = self.storage
        told = await storage.document(self._data + data_folder(digest) + METADATA) if described else None
        reference: DataReference | None = None
        if told is not None:
            reference = DataReference.from_json(told, uri=storage.uri(self._data + data_folder(digest) + METADATA))
        if reference is None or reference.extension not in folder.data:
            if not folder.data:
                raise DataNotFound(
                    f"{storage.uri(self._data + data_folder(digest))}: there is no such data in the store"
                )
            extension, size = next(iter(folder.data.items()))
            reference = DataReference(digest, size, kind_of(extension), extension)
        return StoredData(reference, storage.uri(storage.data_key(reference)), folder.used)


def _folder(key: str) -> str:
    """The digest in whose folder a key of data lies."""
    return key.rsplit("/", 2)[-2] if key.count("/") > 1 else ""
