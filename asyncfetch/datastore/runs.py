"""Runs: what one was, its data, and how it is found. A run is there from the moment its manifest is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from asyncfetch.datastore.canonical import encode_json, plain_metadata
from asyncfetch.datastore.errors import DocumentDamaged, NotStorable, RunExists, RunNotFound
from asyncfetch.datastore.keeping import rely_on
from asyncfetch.datastore.layout import MANIFESTS, escape, manifest_key, pointed_run, pointer_prefix
from asyncfetch.datastore.references import DataReference
from asyncfetch.datastore.restoring import read_tree
from asyncfetch.datastore.storage import for_each, sound
from asyncfetch.datastore.storing import store
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.datastore.storage import Storage


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run. `created` is when it was stored, aware, in UTC, by the clock of who stored it."""

    run_id: str
    run_type: str
    created: datetime = field(compare=False)
    project: str | None = None
    storage_modes: tuple[str, ...] = ()
    data: Mapping[str, DataReference] = field(default_factory=dict)
    tags: Mapping[str, Any] | tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {
            "run_id": self.run_id,
            "run_type": self.run_type,
            "created": self.created.isoformat(),
            "project": self.project,
            "storage_modes": list(self.storage_modes),
            "data": {name: reference.to_json() for name, reference in self.data.items()},
            "tags": list(self.tags) if isinstance(self.tags, tuple) else dict(self.tags),
            "metrics": dict(self.metrics),
            "models": list(self.models),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any], *, uri: str = "a manifest") -> Run:
        """Reads a manifest. Raises `DocumentDamaged`, which names `uri`."""
        try:
            tags = told["tags"]
            return cls(
                run_id=_text(told["run_id"]),
                run_type=_text(told["run_type"]),
                created=read_moment(told["created"]),
                project=None if told["project"] is None else _text(told["project"]),
                storage_modes=_texts(told["storage_modes"]),
                data={name: DataReference.from_json(item, uri=uri) for name, item in told["data"].items()},
                tags=_texts(tags) if isinstance(tags, list) else dict(tags),
                metrics=dict(told["metrics"]),
                models=_texts(told["models"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DocumentDamaged):
                raise
            raise DocumentDamaged(uri, f"it is no manifest of a run ({type(error).__name__}: {error})") from None


async def store_run(
    storage: Storage,
    run_id: str,
    run_type: str,
    storage_modes: str | Iterable[str],
    project: str | None,
    data: Mapping[str, object],
    tags: Mapping[str, Any] | Sequence[str] | None,
    metrics: Mapping[str, Any] | None,
    models: list[str],
) -> Run:
    """Stores a run; see `DataStore.store_run`."""
    run = Run(
        run_id=run_id,
        run_type=run_type,
        created=datetime.now(UTC),
        project=project,
        storage_modes=_words(storage_modes, "storage_modes"),
        tags=_tags(tags),
        metrics=plain_metadata(dict(metrics or {}), "metrics") or {},
        models=_words(models, "models"),
    )
    pointers_of(run)  # which refuses names that no key can be made of
    for name in data:
        escape(name, "data")
    there = await _read(storage, run_id)
    if there is not None and replace(there, data={}) != run:
        raise _exists(run_id)
    await storage.mark()
    references: dict[str, DataReference] = {}

    async def one(name: str) -> None:
        given = data[name]
        if isinstance(given, DataReference):
            await _rely_on_all(storage, given)
            references[name] = given
        else:
            references[name] = await store(storage, given, name=name)

    await for_each(data, one)
    run = replace(run, data={name: references[name] for name in data})
    if there is None:
        if await publish(storage, run):
            return run
        there = await get_run(storage, run_id)  # another was first
    if there != run:
        raise _exists(run_id)
    return there


async def get_run(storage: Storage, run_id: str) -> Run:
    """A run by its id; see `DataStore.get_run`."""
    run = await _read(storage, run_id)
    if run is None:
        raise RunNotFound(f"{storage.uri(manifest_key(run_id))}: there is no run {run_id!r}")
    return run


async def all_runs(storage: Storage) -> list[Run]:
    """All runs, of which those that the cache has are not read again."""
    return [read_run(storage, key, sound(told)) async for key, told in storage.documents(MANIFESTS)]


def read_run(storage: Storage, key: str, told: Mapping[str, Any]) -> Run:
    """The run of a manifest. Raises `DocumentDamaged`, also for one that lies in the place of another run's."""
    run = Run.from_json(told, uri=storage.uri(key))
    if key != manifest_key(run.run_id):
        raise DocumentDamaged(storage.uri(key), f"it is the manifest of the run {run.run_id!r}")
    return run


async def list_runs(
    storage: Storage,
    project: str | None,
    run_type: str | None,
    since: datetime | date | timedelta | None,
    tags: Mapping[str, Any] | Sequence[str] | None,
    model: str | None,
) -> list[Run]:
    """Runs for which all holds; see `DataStore.list_runs`."""
    start = None if since is None else _moment(since)
    wanted = _tags(tags)
    runs: list[Run]
    if project is None and run_type is None and model is None and start is None:
        runs = await all_runs(storage)
    else:
        runs = []
        ids = await _pointed(storage, project, run_type, start, model)

        async def one(run_id: str) -> None:
            run = await _read(storage, run_id)
            if run is not None:  # else it was never finished, or has been deleted
                runs.append(run)

        await for_each(ids, one)
    return sorted(
        (
            run
            for run in runs
            if (project is None or run.project == project)
            and (run_type is None or run.run_type == run_type)
            and (start is None or run.created >= start)
            and _has(run, wanted)
        ),
        key=lambda run: (run.created, run.run_id),
    )


def pointers_of(run: Run) -> list[str]:
    """The keys of the pointers to a run. Raises `InvalidName` for names that no key can be made of."""
    name = f"{escape(run.run_id, 'a run')}.json"
    day = run.created.astimezone(UTC).date().isoformat()
    prefixes = [pointer_prefix("date", day), pointer_prefix("type", run.run_type)]
    if run.project is not None:
        prefixes.append(pointer_prefix("project", run.project))
    prefixes += [pointer_prefix("model", model) for model in run.models]
    return [prefix + name for prefix in prefixes]


async def publish(storage: Storage, run: Run) -> bool:
    """Writes the pointers to a run, and then its manifest, unless there is one: then False is returned."""
    pointer = {"run_id": run.run_id, "created": run.created.isoformat()}
    await for_each(pointers_of(run), lambda key: storage.put_document(key, pointer))
    return await storage.put_document(manifest_key(run.run_id), run.to_json())


async def delete_run(storage: Storage, run_id: str) -> None:
    """Removes a run; see `DataStore.delete_run`."""
    run = await get_run(storage, run_id)
    await storage.place.delete([manifest_key(run_id)])
    await storage.place.delete(pointers_of(run))


async def link_model(storage: Storage, run_id: str, model: str) -> None:
    """Leaves a pointer from a model to a run."""
    key = f"{pointer_prefix('model', model)}{escape(run_id, 'a run')}.json"
    await storage.put_document(key, {"run_id": run_id, "created": datetime.now(UTC).isoformat()})


async def _read(storage: Storage, run_id: str) -> Run | None:
    key = manifest_key(run_id)
    told = await storage.document(key)
    return None if told is None else read_run(storage, key, told)


async def _rely_on_all(storage: Storage, reference: DataReference) -> None:
    """Sees that data is there and stays, the files of a directory too."""
    await rely_on(storage, reference)
    if reference.kind == "directory":
        tree = await read_tree(storage, reference)
        await for_each(tree.files, lambda file: rely_on(storage, file.reference))


async def _pointed(
    storage: Storage, project: str | None, run_type: str | None, start: datetime | None, model: str | None
) -> set[str]:
    """The ids of the runs that pointers show: those of a model, of which there may be some from its versions alone.

    Else those of a project, a type or the days since a moment, whichever comes first: the manifests tell the rest.
    """
    oldest = ""
    if model is not None:
        prefix = pointer_prefix("model", model)
    elif project is not None:
        prefix = pointer_prefix("project", project)
    elif run_type is not None:
        prefix = pointer_prefix("type", run_type)
    else:
        prefix = pointer_prefix("date")
        oldest = "" if start is None else start.astimezone(UTC).date().isoformat()
    return {
        pointed_run(listed.key)
        async for listed in storage.list(prefix)
        if listed.key.endswith(".json") and listed.key.removeprefix(prefix) >= oldest
    }


def _has(run: Run, wanted: Mapping[str, Any] | tuple[str, ...]) -> bool:
    if isinstance(wanted, tuple):
        return all(word in run.tags for word in wanted)
    tags = run.tags if not isinstance(run.tags, tuple) else {}
    return all(name in tags and tags[name] == value for name, value in wanted.items())


def _tags(given: Mapping[str, Any] | Sequence[str] | None) -> Mapping[str, Any] | tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return plain_metadata(given, "tags") or {}
    return tuple(sorted(set(_words(given, "tags"))))


def _words(given: str | Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise NotStorable(f"{what} must be texts, not {type(given).__name__}")
    words = tuple(given)
    for word in words:
        if not isinstance(word, str):
            raise NotStorable(f"{what} must be texts, and {word!r} is {type(word).__name__}")
    encode_json(list(words), what)
    return words


def _moment(since: datetime | date | timedelta) -> datetime:
    if isinstance(since, timedelta):
        return datetime.now(UTC) - since
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise UsageError(f"since {since.isoformat()} has no time zone", remedy="Add one, such as tzinfo=UTC.")
        return since
    return datetime(since.year, since.month, since.day, tzinfo=UTC)


def read_moment(text: str) -> datetime:
    """A moment as documents have it. Raises `ValueError` for one without a time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(map(_text, values))


def _exists(run_id: str) -> RunExists:
    return RunExists(f"The run {run_id!r} is there already, and is not equal to this one")
