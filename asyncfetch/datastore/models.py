"""Models: named, in versions, their files content-addressed. Nothing of them is ever loaded or unpickled here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from asyncfetch.datastore.canonical import plain_metadata
from asyncfetch.datastore.errors import DocumentDamaged, ModelExists, ModelNotFound, NotStorable
from asyncfetch.datastore.layout import escape, model_key, model_prefix
from asyncfetch.datastore.mlflow import artifacts_of, is_mlflow
from asyncfetch.datastore.references import DataReference
from asyncfetch.datastore.runs import get_run, link_model, read_moment
from asyncfetch.datastore.storage import sound
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.datastore.storage import Storage
    from asyncfetch.datastore.store import DataStore

Stage = Literal["registry", "development"]

# A promoted version is written to the registry before it goes from development: who reads in this order misses none.
STAGES: tuple[Stage, ...] = ("development", "registry")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model. `created` is when it was registered, aware, in UTC, by the clock of who did it."""

    name: str
    version: str
    stage: Stage
    files: DataReference
    created: datetime = field(compare=False)
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    run_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the record has it."""
        return {
            "name": self.name,
            "version": self.version,
            "stage": self.stage,
            "files": self.files.to_json(),
            "created": self.created.isoformat(),
            "description": self.description,
            "metadata": None if self.metadata is None else dict(self.metadata),
            "run_id": self.run_id,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any], *, uri: str = "a record") -> ModelVersion:
        """Reads a record. Raises `DocumentDamaged`, which names `uri`."""
        try:
            if told["stage"] not in STAGES or not all(isinstance(told[key], str) for key in ("name", "version")):
                raise ValueError("not what a record says")
            return cls(
                told["name"],
                told["version"],
                told["stage"],
                DataReference.from_json(told["files"], uri=uri),
                read_moment(told["created"]),
                told["description"],
                told["metadata"],
                told["run_id"],
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DocumentDamaged):
                raise
            raise DocumentDamaged(uri, f"it is no record of a model ({type(error).__name__}: {error})") from None


class ModelRegistry:
    """The models of a store, which must be open. It holds nothing itself.

    A version is `v<day>_<digest>`: the day, in UTC, on which it was registered, and six digits of the digest of its
    files. It is in the stage `"development"` or in the stage `"registry"`.
    """

    def __init__(self, store: DataStore) -> None:
        self._store = store

    async def register_model(
        self,
        name: str,
        path: object,
        *,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        stage: Stage = "registry",
        run_id: str | None = None,
    ) -> ModelVersion:
        """Stores the files of a model, a file or a directory, and registers them as a version.

        `path` may also be a run of MLflow, or a URI of its artifacts (`runs:/<id>/model`), where mlflow is installed.
        `run_id` is the run of this store that made it, which must be there; it is then found by `list_runs(model=)`.

        What is registered again on one day gives the version that is there, or raises `ModelExists` where it was said
        to be something else. Raises `NotStorable` for metadata that is not JSON, and `RunNotFound`, before anything is
        sent, and what storing raises. Failing or cancelled, there is no such version.
        """
        _check_stage(stage)
        escape(name, "a model")
        said = plain_metadata(metadata, "metadata")
        if description is not None and not isinstance(description, str):
            raise NotStorable(f"description must be text, not {type(description).__name__}")
        if run_id is not None:
            await get_run(self._storage, run_id)
        if not is_mlflow(path) and not isinstance(path, str | os.PathLike):
            raise NotStorable(f"A model is a file or a directory, not {type(path).__name__}", remedy="Save it first.")
        if is_mlflow(path):
            async with artifacts_of(path) as local:
                files = await self._store.store_data(local, name=name)
        else:
            files = await self._store.store_data(Path(path))  # type: ignore[arg-type]  # it is one
        now = datetime.now(UTC)
        model = ModelVersion(name, f"v{now:%Y%m%d}_{files.digest[:6]}", stage, files, now, description, said, run_id)
        return await self._record(model)

    async def get_model(
        self,
        name: str,
        version: str = "latest",
        *,
        stage: Stage = "registry",
        into: str | os.PathLike[str] | None = None,
    ) -> Path:
        """The files of a version on the local disk, through the cache: the path of a file or a directory.

        It must not be written, and is valid until the store closes; `into` makes a copy of one's own, as in
        `retrieve_data`. `"latest"` is the one that was registered last in `stage`. Raises `ModelNotFound`.
        """
        model = await self.find(name, version, stage=stage)
        path: Path = await self._store.retrieve_data(model.files, into=into)
        return path

    async def find(self, name: str, version: str = "latest", *, stage: Stage = "registry") -> ModelVersion:
        """What is said of a version, which may be of any stage where it is named. Raises `ModelNotFound`."""
        _check_stage(stage)
        if version != "latest":
            for other in STAGES:
                found = await self._read(other, name, version)
                if found is not None:
                    return found
            raise ModelNotFound(f"There is no version {version!r} of a model {name!r} in {self._store.uri}")
        found_last = max(await self._list(stage, name), key=lambda model: (model.created, model.version), default=None)
        if found_last is None:
            others = [other for other in STAGES if other != stage and await self._list(other, name)]
            raise ModelNotFound(
                f"There is no model {name!r} in the stage {stage!r} of {self._store.uri}",
                remedy=f"There is one in {others[0]!r}." if others else "",
            )
        return found_last

    async def list_models(self, name: str | None = None, *, stage: Stage | None = None) -> list[ModelVersion]:
        """All versions of all models, or of one, by name and the earliest first."""
        if stage is not None:
            _check_stage(stage)
        found: dict[tuple[str, str], ModelVersion] = {}
        for other in STAGES if stage is None else (stage,):
            found |= {(model.name, model.version): model for model in await self._list(other, name)}
        return sorted(found.values(), key=lambda model: (model.name, model.created, model.version))

    async def promote(self, name: str, version: str) -> ModelVersion:
        """Takes a version from development into the registry; one that is there stays. Raises `ModelNotFound`."""
        if version == "latest":
            version = (await self.find(name, stage="development")).version
        model = await self.find(name, version)
        promoted = await self._record(replace(model, stage="registry"))
        await self._storage.place.delete([model_key("development", name, version)])
        return promoted

    async def delete(self, name: str, version: str) -> None:
        """Removes a version, which must be named. Its files are left to `gc`. Raises `ModelNotFound`."""
        await self.find(name, _named(version))
        await self._storage.place.delete([model_key(stage, name, version) for stage in STAGES])

    async def restore(self, model: ModelVersion) -> ModelVersion:
        """Writes a version as it was registered elsewhere; its files must be in this store. Raises `ModelExists`."""
        return await self._record(model)

    @property
    def _storage(self) -> Storage:
        return self._store.storage

    async def _record(self, model: ModelVersion) -> ModelVersion:
        """Writes a record, unless an equal one is there."""
        if model.stage == "development":
            there = await self._read("registry", model.name, model.version)
            if there is not None:
                return _equal(there, replace(model, stage="registry"))
        if model.run_id is not None:
            await link_model(self._storage, model.run_id, model.name)
        if await self._storage.put_document(model_key(model.stage, model.name, model.version), model.to_json()):
            return model
        there = await self._read(model.stage, model.name, model.version)
        if there is None:
            raise ModelExists(f"The model {model.name!r} {model.version} was deleted while it was registered")
        return _equal(there, model)

    async def _read(self, stage: Stage, name: str, version: str) -> ModelVersion | None:
        key = model_key(stage, name, version)
        told = await self._storage.document(key)
        return None if told is None else read_model(self._storage, key, told)

    async def _list(self, stage: Stage, name: str | None) -> list[ModelVersion]:
        return [
            read_model(self._storage, key, sound(told))
            async for key, told in self._storage.documents(model_prefix(stage, name))
        ]


def read_model(storage: Storage, key: str, told: Mapping[str, Any]) -> ModelVersion:
    """The version of a record. Raises `DocumentDamaged`, also for one that lies in the place of another's."""
    model = ModelVersion.from_json(told, uri=storage.uri(key))
    if key != model_key(model.stage, model.name, model.version):
        raise DocumentDamaged(storage.uri(key), f"it is the record of {model.name!r} {model.version}, {model.stage}")
    return model


def _equal(there: ModelVersion, given: ModelVersion) -> ModelVersion:
    if there != given:
        raise ModelExists(f"The model {given.name!r} has a version {given.version} already, of which other is said")
    return there


def _check_stage(stage: object) -> None:
    if stage not in get_args(Stage):
        raise UsageError(f"stage must be 'registry' or 'development', not {stage!r}")


def _named(version: str) -> str:
    if not re.match(r"v\d{8}_[0-9a-f]{6}\Z", version):
        raise UsageError(f"{version!r} names no one version", remedy="Such are v20260131_0a1b2c.")
    return version
