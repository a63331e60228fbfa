"""Directories: what is in them comes back, and what a document says never leads out of where it is laid out."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.datastore import DataStore, DocumentDamaged, NewerLayout, NotStorable
from asyncfetch.datastore.trees import decode_tree, scan
from asyncfetch.errors import UsageError

FILE = {"digest": "sha256:" + "0a" * 32, "size": 1, "extension": "bin"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with everything in it that one can hold and keep."""
    root = tmp_path / "folder ü"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty" / "inner").mkdir(parents=True)
    (root / "deep" / "er" / "a").write_bytes(b"a")
    for name in ("no extension", ".hidden", "new\nline", "\u00fc", "u\u0308", "x.TAR.GZ", "%2F?versionId=1"):
        (root / name).write_bytes(name.encode())
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "to file").symlink_to("deep/er/a")
    (root / "to folder").symlink_to("deep")
    (root / "to nothing").symlink_to("not/there")
    (root / "deep" / "up").symlink_to("../run.sh")
    (root / "loop").symlink_to("loop")
    return root


def seen(root: Path) -> dict[str, object]:
    """All that is in a directory: files with their bytes and whether they can be executed, links, empty directories."""
    found: dict[str, object] = {}
    for at, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(at, name)
            relative = str(path.relative_to(root))
            if path.is_symlink():
                found[relative] = path.readlink()
            elif path.is_file():
                found[relative] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
            elif not list(path.iterdir()):
                found[relative] = "empty"
    return found


async def test_a_directory_comes_back_with_links_empty_folders_and_odd_names(
    store: DataStore, folder: Path, tmp_path: Path
) -> None:
    reference = await store.store_data(folder)
    assert reference.name == "folder ü"
    copy = tmp_path / "copy" / "here"
    assert await store.retrieve_data(reference, into=copy) == copy
    assert seen(copy) == seen(folder)
    assert await store.store_data(copy) == reference
    linked = await store.retrieve_data(reference.digest)
    assert (linked / "to folder" / "er" / "a").read_bytes() == b"a"
    assert os.access(linked / "deep" / "up", os.X_OK)
    with pytest.raises(UsageError, match="there already"):
        await store.retrieve_data(reference, into=copy)
    assert sorted(path.name for path in copy.parent.iterdir()) == ["here"]


async def test_an_empty_directory_comes_back(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    reference = await store.store_data(tmp_path / "empty")
    assert list((await store.retrieve_data(reference)).iterdir()) == []


@pytest.mark.parametrize(
    "links",
    [
        {"out": "/etc/passwd"},
        {"out": "../x"},
        {"deep/out": "../../x"},
        {"out": "deep/../../x"},
        # Each leads nowhere bad by its letters: here/er is deep, above which x is.
        {"here": ".", "out": "here/deep/../../x"},
        {"deep/here": "..", "out": "deep/here/../x"},
    ],
)
def test_links_that_lead_out_are_refused(tmp_path: Path, links: dict[str, str]) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    for path, target in links.items():
        (root / path).symlink_to(target)
    with pytest.raises(NotStorable, match="out"):
        scan(root)
    with pytest.raises(DocumentDamaged, match="leads out"):
        decode_tree({"layout": 1, "files": {}, "links": links, "empty": ["deep/er"]}, "there")


@pytest.mark.parametrize(
    "told",
    [
        {"files": {"/etc/x": FILE}},
        {"files": {"../x": FILE}},
        {"files": {"a/../../x": FILE}},
        {"files": {"a//x": FILE}},
        {"files": {"": FILE}},
        {"files": {"a\0": FILE}},
        {"files": {"a": FILE, "a/b": FILE}},
        {"files": {"a/b": FILE}, "links": {"a": "."}},
        {"files": {"a": FILE}, "empty": ["a"]},
        {"files": {"a": FILE | {"extension": "x/../../../y"}}},
        {"files": {"a": FILE | {"size": -1}}},
        {"files": {"a": FILE | {"size": True}}},
        {"files": {"a": FILE | {"digest": "sha256:0a"}}},
        {"files": {"a": None}},
        {"files": ["a"]},
        {"links": {"a": 3}},
        {"links": {"a": ""}},
        {"empty": [3]},
    ],
)
def test_a_document_that_would_be_laid_out_wrongly_is_damaged(told: dict[str, Any]) -> None:
    with pytest.raises(DocumentDamaged, match="^there"):
        decode_tree({"layout": 1, "files": {}, "links": {}, "empty": []} | told, "there")


@pytest.mark.parametrize("told", [None, [], {}, {"layout": 1}, "x"])
def test_what_describes_no_directory_is_damaged(told: Any) -> None:
    with pytest.raises(DocumentDamaged):
        decode_tree(told, "there")


def test_a_directory_of_a_newer_layout_is_not_laid_out() -> None:
    with pytest.raises(NewerLayout):
        decode_tree({"layout": 2, "files": {}, "links": {}, "empty": []}, "there")


PARTS = st.sampled_from(["a", "b", "..", ".", "c"])


@given(st.dictionaries(st.sampled_from(["a", "b", "c/a", "c/b"]), st.lists(PARTS, min_size=1, max_size=5)))
def test_no_set_of_links_leads_out_when_the_system_follows_it(links: dict[str, list[str]]) -> None:
    """Held against the system's own way of following links."""
    import tempfile

    told = {path: "/".join(parts) for path, parts in links.items()}
    try:
        decode_tree({"layout": 1, "files": {}, "links": told, "empty": ["c"] if not told else []}, "there")
    except DocumentDamaged:
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve() / "root"
        (root / "c").mkdir(parents=True)
        for path, target in told.items():
            (root / path).symlink_to(target)
        for path in told:
            try:
                at = (root / path).resolve(strict=True)
            except (OSError, RuntimeError):  # it leads nowhere
                continue
            assert at.is_relative_to(root)


def test_sockets_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotStorable, match="pipe"):
        scan(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket has at most 108 bytes
        try:
            listening.bind("socket")
        finally:
            os.chdir(before)
        with pytest.raises(NotStorable, match="socket"):
            scan(tmp_path)


def test_names_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"")
    with pytest.raises(NotStorable, match="not valid Unicode"):
        scan(tmp_path)


async def test_a_file_with_an_odd_name_is_stored_without_it(store: DataStore, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt"))
    path.write_bytes(b"x")
    reference = await store.store_data(path)
    assert reference.name is None
    assert (await store.retrieve_data(reference)).read_bytes() == b"x"
    with pytest.raises(NotStorable, match="control"):
        await store.store_data(b"x", name="a\x1b[31m")
