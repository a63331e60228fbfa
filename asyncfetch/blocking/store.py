"""The store for programs without an event loop: the calls of `asyncfetch.datastore`, each of which waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from asyncfetch.blocking.bridge import bridge
from asyncfetch.blocking.fetcher import Fetcher
from asyncfetch.errors import FetcherClosed, UsageError

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    import asyncfetch.datastore
    import asyncfetch.fetcher
    from asyncfetch.datastore import (
        Collected,
        DataReference,
        DedupReport,
        Migrated,
        ModelVersion,
        Run,
        Stage,
        StoredData,
        Verified,
    )
    from asyncfetch.settings import Settings

T = TypeVar("T")

_PAGE = 256  # pieces of data that are listed in one step on the loop


class DataStore:
    """`asyncfetch.datastore.DataStore` for programs without an event loop, with the same options.

    `fetcher` is one of this package, which stays open; else the store has one of its own, made of `settings`. It can
    be used by several threads at once, and by the process that opened it. Ctrl-C ends the call that waits, and the work
    behind it with it. Closed by `with`, by `close`, or at the end of the program. Raises what the asynchronous calls
    raise.
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
        self._begin(f"s3://{bucket}", prefix, extra_args, fetcher, settings)

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
        """A store by where it is. See `asyncfetch.datastore.DataStore.at`."""
        store = cls.__new__(cls)
        store._begin(place, prefix, extra_args, fetcher, settings, must_exist=must_exist)
        return store

    def _begin(
        self,
        place: str | os.PathLike[str],
        prefix: str,
        extra_args: Mapping[str, Any] | None,
        fetcher: Fetcher | None,
        settings: Settings | None,
        *,
        must_exist: bool = False,
    ) -> None:
        if fetcher is not None and settings is not None:
            raise UsageError("fetcher and settings each say how S3 is reached", remedy="Give one of them.")
        _store_at(place, prefix)  # which refuses what means nothing
        self._place, self._prefix, self._extra_args, self._must_exist = place, prefix, extra_args, must_exist
        self._own = Fetcher(settings) if fetcher is None else None
        self._fetcher = fetcher or self._own
        self._home = bridge()
        self._opened: asyncfetch.datastore.DataStore | None = None

    # Life

    def __enter__(self) -> Self:
        """Opens it. Raises `NewerLayout`, `StoreNotFound` where it must exist, and `UsageError` when opened before."""
        if self._opened is not None:
            raise UsageError("A store is opened once", remedy="Make another one.")
        fetcher = self._fetcher
        assert fetcher is not None
        try:
            self._opened = fetcher._run(self._open)
        finally:
            if self._opened is None and self._own is not None:
                self._own.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes what it has opened. Closing twice does nothing."""
        try:
            if self._opened is not None:
                self._home.end(self._close)
        finally:
            if self._own is not None:
                self._own.close()

    async def _open(self, fetcher: asyncfetch.fetcher.Fetcher) -> asyncfetch.datastore.DataStore:
        at = _store_at(self._place, self._prefix, self._extra_args, fetcher, must_exist=self._must_exist)
        store = await at.__aenter__()
        self._home = bridge()
        self._home.keep(store, store.aclose)
        return store

    async def _close(self) -> None:
        assert self._opened is not None
        try:
            await self._opened.aclose()
        finally:
            self._home.let_go(self._opened)

    def _run(self, work: Callable[[asyncfetch.datastore.DataStore], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine function of the asynchronous store, and waits. Raises `FetcherClosed` outside of `with`."""
        store = self._opened
        if store is None:
            raise FetcherClosed("This store is not open", remedy="Use it inside `with`.")
        return self._home.run(lambda: work(store))

    @property
    def uri(self) -> str:
        """Where the store is."""
        return _store_at(self._place, self._prefix).uri

    # Data

    def store_data(
        self, obj: object, name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> DataReference:
        """Stores an object, unless its bytes are there. See `asyncfetch.datastore.DataStore.store_data`."""
        return self._run(lambda store: store.store_data(obj, name, metadata))

    def retrieve_data(self, data: DataReference | str, into: str | os.PathLike[str] | None = None) -> Any:
        """The object that was stored. See `asyncfetch.datastore.DataStore.retrieve_data`."""
        return self._run(lambda store: store.retrieve_data(data, into))

    def exists(self, data: DataReference | str) -> bool:
        """Whether the store has data."""
        return self._run(lambda store: store.exists(data))

    def stat(self, data: DataReference | str) -> StoredData:
        """What the store says of data. See `asyncfetch.datastore.DataStore.stat`."""
        return self._run(lambda store: store.stat(data))

    def list(self, *, described: bool = False) -> Iterator[StoredData]:
        """Yields all data in the store, by digest. See `asyncfetch.datastore.DataStore.list`."""

        async def begin(store: asyncfetch.datastore.DataStore) -> AsyncIterator[StoredData]:
            return store.list(described=described)

        return self._pages(self._run(begin))

    def _pages(self, listing: AsyncIterator[StoredData]) -> Iterator[StoredData]:
        async def step(store: asyncfetch.datastore.DataStore) -> builtins.list[StoredData]:
            page: builtins.list[StoredData] = []
            async for stored in listing:
                page.append(stored)
                if len(page) == _PAGE:
                    break
            return page

        async def close() -> None:
            await listing.aclose()  # type: ignore[attr-defined]  # it is a generator

        try:
            while page := self._run(step):
                yield from page
        finally:
            self._home.end(close)

    # Runs

    def store_run(
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
        """Stores a run, whole or not at all. See `asyncfetch.datastore.DataStore.store_run`."""
        return self._run(
            lambda store: store.store_run(
                run_id,
                run_type,
                storage_modes,
                project=project,
                data=data,
                tags=tags,
                metrics=metrics,
                models=models,
            )
        )

    def get_run(self, run_id: str) -> Run:
        """A run by its id. Raises `RunNotFound`."""
        return self._run(lambda store: store.get_run(run_id))

    def list_runs(
        self,
        *,
        project: str | None = None,
        type: str | None = None,
        since: datetime | date | timedelta | None = None,
        tags: Mapping[str, Any] | Sequence[str] | None = None,
        model: str | None = None,
    ) -> builtins.list[Run]:
        """The runs of which all that is given holds. See `asyncfetch.datastore.DataStore.list_runs`."""
        return self._run(lambda store: store.list_runs(project=project, type=type, since=since, tags=tags, model=model))

    def delete_run(self, run_id: str) -> None:
        """Removes a run; its data is left to `gc`. Raises `RunNotFound`."""
        self._run(lambda store: store.delete_run(run_id))

    # Care

    def verify(self, *, quick: bool = False) -> Verified:
        """Holds all data against its digests. See `asyncfetch.datastore.DataStore.verify`."""
        return self._run(lambda store: store.verify(quick=quick))

    def gc(self, *, grace: timedelta = timedelta(days=7), dry_run: bool = True) -> Collected:
        """Removes what nothing refers to, unless dry. See `asyncfetch.datastore.DataStore.gc`."""
        return self._run(lambda store: store.gc(grace=grace, dry_run=dry_run))

    def migrate(
        self, target: DataStore, *, run_ids: Collection[str] | None = None, delete_source: bool = False
    ) -> Migrated:
        """Copies or moves into another open store. See `asyncfetch.datastore.DataStore.migrate`."""

        async def itself(store: asyncfetch.datastore.DataStore) -> asyncfetch.datastore.DataStore:
            return store

        there = target._run(itself)
        return self._run(lambda store: store.migrate(there, run_ids=run_ids, delete_source=delete_source))

    def dedup_report(self) -> DedupReport:
        """How much is stored, and how much the runs and models refer to."""
        return self._run(lambda store: store.dedup_report())

    def query(self, data: DataReference | str, sql: str) -> pa.Table:
        """What a SELECT gives over a stored table. See `asyncfetch.datastore.DataStore.query`."""
        return self._run(lambda store: store.query(data, sql))


class ModelRegistry:
    """`asyncfetch.datastore.ModelRegistry` of a blocking store, which must be open."""

    def __init__(self, store: DataStore) -> None:
        self._store = store

    def register_model(
        self,
        name: str,
        path: object,
        *,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        stage: Stage = "registry",
        run_id: str | None = None,
    ) -> ModelVersion:
        """Stores the files of a model as a version. See `asyncfetch.datastore.ModelRegistry.register_model`."""
        return self._run(
            lambda registry: registry.register_model(
                name, path, description=description, metadata=metadata, stage=stage, run_id=run_id
            )
        )

    def get_model(
        self,
        name: str,
        version: str = "latest",
        *,
        stage: Stage = "registry",
        into: str | os.PathLike[str] | None = None,
    ) -> Path:
        """The files of a version on the local disk. See `asyncfetch.datastore.ModelRegistry.get_model`."""
        return self._run(lambda registry: registry.get_model(name, version, stage=stage, into=into))

    def find(self, name: str, version: str = "latest", *, stage: Stage = "registry") -> ModelVersion:
        """What is said of a version. Raises `ModelNotFound`."""
        return self._run(lambda registry: registry.find(name, version, stage=stage))

    def list_models(self, name: str | None = None, *, stage: Stage | None = None) -> list[ModelVersion]:
        """All versions of all models, or of one, by name and the earliest first."""
        return self._run(lambda registry: registry.list_models(name, stage=stage))

    def promote(self, name: str, version: str) -> ModelVersion:
        """Takes a version from development into the registry. Raises `ModelNotFound`."""
        return self._run(lambda registry: registry.promote(name, version))

    def delete(self, name: str, version: str) -> None:
        """Removes a version; its files are left to `gc`. Raises `ModelNotFound`."""
        self._run(lambda registry: registry.delete(name, version))

    def _run(self, work: Callable[[asyncfetch.datastore.ModelRegistry], Coroutine[Any, Any, T]]) -> T:
        from asyncfetch.datastore import ModelRegistry

        return self._store._run(lambda store: work(ModelRegistry(store)))


def _store_at(
    place: str | os.PathLike[str],
    prefix: str,
    extra_args: Mapping[str, Any] | None = None,
    fetcher: asyncfetch.fetcher.Fetcher | None = None,
    *,
    must_exist: bool = False,
) -> asyncfetch.datastore.DataStore:
    """The asynchronous store. Its room is loaded with the first one."""
    from asyncfetch.datastore import DataStore

    return DataStore.at(place, prefix=prefix, extra_args=extra_args, fetcher=fetcher, must_exist=must_exist)
