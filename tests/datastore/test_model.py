"""A store beside a dictionary: whatever is stored, retrieved, named by runs and collected, both say the same."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asyncfetch import Fetcher
from asyncfetch.datastore import DataNotFound, DataReference, DataStore, RunExists, RunNotFound
from tests.datastore.conftest import settings_for
from tests.soak import examples

OBJECTS = st.sampled_from([b"", b"x", b"yy", {"a": 1}, {"a": 1.0}, [], [None]])
RUNS = st.sampled_from(["r", "R", "a/b"])


class Model(RuleBasedStateMachine):
    """Data by digest, runs by id; what no run names goes with a collection."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = tempfile.TemporaryDirectory()
        root = Path(self.place.name)
        self.fetcher = self.loop.run_until_complete(Fetcher(settings_for(None, root / "cache")).__aenter__())
        self.store = self.loop.run_until_complete(DataStore.at(root / "store", fetcher=self.fetcher).__aenter__())
        self.data: dict[str, Any] = {}
        self.references: dict[str, DataReference] = {}  # all that there ever were
        self.runs: dict[str, dict[str, str]] = {}

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @rule(obj=OBJECTS)
    def stores(self, obj: Any) -> None:
        reference = self.run(self.store.store_data(obj))
        self.data[reference.digest] = obj
        self.references[reference.digest] = reference

    @rule(run_id=RUNS, objects=st.dictionaries(st.sampled_from(["p", "q/ü"]), OBJECTS))
    def stores_a_run(self, run_id: str, objects: dict[str, Any]) -> None:
        try:
            run = self.run(self.store.store_run(run_id, "train", data=objects))
        except RunExists:
            assert run_id in self.runs
            for reference in [self.run(self.store.store_data(obj)) for obj in objects.values()]:
                self.references[reference.digest] = reference
            self.data |= {self.run(self.store.store_data(obj)).digest: obj for obj in objects.values()}
            return
        digests = {name: reference.digest for name, reference in run.data.items()}
        assert self.runs.setdefault(run_id, digests) == digests
        self.references |= {reference.digest: reference for reference in run.data.values()}
        self.data |= {run.data[name].digest: obj for name, obj in objects.items()}

    @rule(run_id=RUNS)
    def deletes_a_run(self, run_id: str) -> None:
        try:
            self.run(self.store.delete_run(run_id))
        except RunNotFound:
            assert run_id not in self.runs
            return
        del self.runs[run_id]

    @rule()
    def collects(self) -> None:
        named = {digest for digests in self.runs.values() for digest in digests.values()}
        collected = self.run(self.store.gc(grace=timedelta(0), dry_run=False))
        assert (collected.removed, collected.kept) == (len(self.data.keys() - named), len(named))
        self.data = {digest: obj for digest, obj in self.data.items() if digest in named}

    @rule()
    def retrieves_all(self) -> None:
        for digest, reference in self.references.items():
            try:
                found = self.run(self.store.retrieve_data(reference))
            except DataNotFound:
                assert digest not in self.data
                continue
            assert (found, type(found)) == (self.data[digest], type(self.data[digest]))

    @invariant()
    def says_the_same(self) -> None:
        async def listed() -> list[str]:
            return [stored.digest async for stored in self.store.list()]

        assert self.run(listed()) == sorted(self.data)
        runs = {run.run_id: run for run in self.run(self.store.list_runs())}
        assert {name: {key: ref.digest for key, ref in run.data.items()} for name, run in runs.items()} == self.runs

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.run(self.fetcher.aclose())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.place.cleanup()


TestStoreBesideADictionary = Model.TestCase
TestStoreBesideADictionary.settings = settings(
    max_examples=examples(8), stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
