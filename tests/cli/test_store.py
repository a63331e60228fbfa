"""The commands of a store: store, runs and models."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from asyncfetch.datastore import DataStore
from tests.cli.terminal import COMMAND, Done, asyncfetch, environment
from tests.objects import Bucket

pytestmark = pytest.mark.timeout(120)  # several commands a test


@pytest.fixture(autouse=True)
def caching(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))


def lines(done: Done) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_data_goes_into_a_store_and_comes_out(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"a")
    (tmp_path / "x.txt").write_bytes(b"text")
    store = tmp_path / "store"
    told = lines(asyncfetch("store", "put", store, tmp_path / "x.txt", tmp_path / "d", "--json"))
    digest = hashlib.sha256(b"text").hexdigest()
    assert (told[0]["digest"], told[0]["kind"], told[0]["name"]) == (f"sha256:{digest}", "file", "x.txt")
    assert asyncfetch("store", "get", store, digest, "-o", "-").out == b"text"
    copied = asyncfetch("store", "get", store, told[1]["digest"], "-o", tmp_path / "copy")
    assert (copied.code, copied.out) == (0, f"{tmp_path / 'copy'}\n".encode())
    assert (tmp_path / "copy" / "a").read_bytes() == b"a"
    again = asyncfetch("store", "get", store, told[1]["digest"], "-o", tmp_path / "copy")
    assert again.code == 2
    assert "there already" in again.err
    listed = asyncfetch("store", "ls", store, "--names")
    assert sorted(line.split()[3] for line in listed.out.decode().splitlines()) == ["a", "d", "x.txt"]


def test_what_is_not_there_or_means_nothing_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    assert asyncfetch("store", "put", tmp_path / "store", tmp_path / "x").code == 0
    for code, arguments in {
        1: ("store", "stat", tmp_path / "store", "0a" * 32),
        2: ("store", "stat", tmp_path / "store", "0a"),
    }.items():
        done = asyncfetch(*arguments)
        assert (done.code, done.out) == (code, b"")
        assert done.err.startswith("asyncfetch: ")
    assert asyncfetch("store", "put", tmp_path / "s", tmp_path / "no", "--metadata", "{").code == 2


async def test_a_store_that_is_not_there_is_no_empty_one(tmp_path: Path, empty_bucket: Bucket) -> None:
    (tmp_path / "empty").mkdir()
    for command, place, uri in (
        (("store", "ls"), tmp_path / "no", f"file://{tmp_path}/no/"),
        (("store", "verify"), tmp_path / "empty", f"file://{tmp_path}/empty/"),
        (("runs", "ls"), f"s3://{empty_bucket.name}/no", f"s3://{empty_bucket.name}/no/"),
    ):
        done = asyncfetch(*command, place)
        assert (done.code, done.out) == (1, b"")
        assert done.err.startswith(f"asyncfetch: {uri}: there is no store. ")
    assert not (tmp_path / "no").exists()


async def test_a_store_with_nothing_in_it_or_without_its_marker_is_one(tmp_path: Path) -> None:
    async with DataStore.at(tmp_path / "store") as store:
        reference = await store.store_data(b"data")
    (tmp_path / "store" / "asyncfetch-store.json").rename(tmp_path / "marker")
    assert len(lines(asyncfetch("store", "ls", tmp_path / "store", "--json"))) == 1
    (tmp_path / "marker").rename(tmp_path / "store" / "asyncfetch-store.json")
    (tmp_path / "store" / "data" / reference.key).unlink()
    assert lines(asyncfetch("store", "ls", tmp_path / "store", "--json")) == []


@pytest.mark.parametrize("command", [["store", "ls"], ["runs", "ls"], ["models", "ls"]])
def test_a_file_is_no_empty_store(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").touch()
    done = asyncfetch(*command, tmp_path / "file")
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith(f"asyncfetch: {tmp_path / 'file'}: a file lies where a directory has to be.")


def test_a_store_is_checked_cleaned_and_moved(empty_bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 10)
    store, there = tmp_path / "store", empty_bucket.uri("team")
    [reference] = lines(asyncfetch("store", "put", store, tmp_path / "x", "--json"))
    dry = lines(asyncfetch("store", "gc", store, "--grace", "0s", "--json"))
    assert dry[0] == {"digest": reference["digest"], "size": 10, "removed": False}
    assert (dry[1]["removed"], dry[1]["dry_run"]) == (1, True)
    refused = asyncfetch("store", "migrate", store, there, "--delete-source")
    assert refused.code == 2
    assert "--yes" in refused.err
    [moved] = lines(asyncfetch("store", "migrate", store, there, "--delete-source", "--yes", "--json"))
    assert (moved["data"], moved["deleted"]) == (1, 1)
    digest = reference["digest"].removeprefix("sha256:")
    assert lines(asyncfetch("store", "verify", there, "--json"))[-1]["findings"] == 0
    empty_bucket.put(f"team/data/{digest[:2]}/{digest}/data.bin", b"y" * 10)
    verified = asyncfetch("store", "verify", there)
    assert (verified.code, verified.out.split(b":")[0]) == (1, b"damaged")
    assert asyncfetch("store", "gc", there, "--grace", "0s", "--delete", "--quiet") == (0, b"", "")
    assert lines(asyncfetch("store", "ls", there, "--json")) == []


def test_a_directory_has_no_lifecycle_rules(tmp_path: Path) -> None:
    done = asyncfetch("store", "lifecycle", tmp_path / "s")
    assert (done.code, done.out) == (2, b"")
    assert f"file://{tmp_path / 's'}/ lies in no bucket" in done.err


def test_models_and_runs_are_shown(tmp_path: Path) -> None:
    store = tmp_path / "s"

    async def fill() -> None:
        async with DataStore.at(store) as there:
            await there.store_run("r/1", "train", project="p", data={"x": b"x"}, tags=["t"], metrics={"loss": 0.5})

    asyncio.run(fill())
    (tmp_path / "net").write_bytes(b"w")
    added = lines(asyncfetch("models", "add", store, "m", tmp_path / "net", "--stage", "development", "--json"))
    assert asyncfetch("models", "get", store, "m", "-o", tmp_path / "out").code == 1  # not in the registry
    promoted = lines(asyncfetch("models", "promote", store, "m", added[0]["version"], "--json"))
    assert promoted == lines(asyncfetch("models", "ls", store, "--json"))
    assert asyncfetch("models", "get", store, "m", "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out").read_bytes() == b"w"
    assert asyncfetch("models", "get", store, "m", "-o", "-").out == b"w"
    [listed] = lines(asyncfetch("runs", "ls", store, "--project", "p", "--since", "1h", "--tag", "t", "--json"))
    assert (listed["run_id"], listed["metrics"]) == ("r/1", {"loss": 0.5})
    shown = asyncfetch("runs", "show", store, "r/1").out.decode()
    assert "loss=0.5" in shown
    assert hashlib.sha256(b"x").hexdigest() in shown
    assert asyncfetch("runs", "show", store, "r").code == 1
    assert asyncfetch("runs", "ls", store, "--since", "soon").code == 2


def test_ctrl_c_ends_a_command_and_says_how_to_go_on(tmp_path: Path) -> None:
    """It comes while a directory is being stored: its first file is there, whole, and the rest comes the next time."""
    folder = tmp_path / "d"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}").write_bytes(number.to_bytes(4, "big") * 1000)
    process = subprocess.Popen(
        [*COMMAND, "store", "put", str(tmp_path / "s"), str(folder)], stderr=subprocess.PIPE, env=environment()
    )
    while not list((tmp_path / "s").glob("data/*/*/data.bin")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, b"to go on: asyncfetch store put" in said) == (130, True), said
    assert lines(asyncfetch("store", "verify", tmp_path / "s", "--json"))[-1]["findings"] == 0
    assert asyncfetch("store", "put", tmp_path / "s", folder, "--quiet").code == 0
    assert len(lines(asyncfetch("store", "ls", tmp_path / "s", "--json"))) == 401
