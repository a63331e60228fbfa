"""Writers that are killed between two writes: nothing that is not whole is seen, and the next one goes on."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from asyncfetch import Fetcher
from asyncfetch.datastore import DataStore
from tests.cli.terminal import environment
from tests.datastore.conftest import settings_for
from tests.datastore.killed import DATA

NOW = timedelta(0)


async def test_a_run_is_whole_or_not_there_wherever_its_writer_was_killed(
    tmp_path: Path, opened: AsyncExitStack
) -> None:
    subprocess.run([sys.executable, Path(__file__).with_name("killed.py"), tmp_path], env=environment(), check=True)
    left = sorted(tmp_path.iterdir())
    assert len(left) > 10  # the marker, three data and what is said of them, four pointers, the manifest
    runs = []
    fetcher = await opened.enter_async_context(Fetcher(settings_for(None, tmp_path / "cache")))
    for place in left:
        async with DataStore.at(place / "store", fetcher=fetcher) as store:
            runs.append(len(await store.list_runs()))
            assert await store.list_runs(project="p") == await store.list_runs(model="m") == await store.list_runs()
            assert (await store.verify()).findings == []
            run = await store.store_run("r", "train", project="p", data=DATA, models=["m"])
            assert await store.store_run("r", "train", project="p", data=DATA, models=["m"]) == run
            assert [await store.retrieve_data(run.data[name]) for name in DATA] == list(DATA.values())
            for reference in run.data.values():  # also what was killed between the bytes and what is said of them
                assert (await store.stat(reference.digest)).reference.kind == reference.kind
            assert (await store.gc(grace=NOW, dry_run=False)).removed == 0
            assert list((place / "store" / ".partial").iterdir()) == []
            assert (await store.verify()).findings == []
    assert sum(runs) == 1  # that of the writer that came to its end
