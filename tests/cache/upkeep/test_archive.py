"""Exports and imports: what goes over, and what hostile or broken archives cannot do."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import Ref, RefKey, files
from asyncfetch.cache.upkeep import Carried, Objects, Refused, copy, export, import_, pin, select
from asyncfetch.cache.upkeep.catalog import Pin
from asyncfetch.cache.upkeep.lines import read_line, write_line
from asyncfetch.cache.upkeep.tar import END, header, padding
from asyncfetch.errors import StorageFull, UsageError
from tests.cache.helpers import blobs, check_blobs, key, leftovers, look_up, opened, publish
from tests.cache.upkeep.helpers import BODIES, BUCKET, ENDPOINT, blob, fill, keeping


def exported(cache_dir: Path, text: str | None = None) -> bytes:
    sink = io.BytesIO()
    with keeping(cache_dir) as one:
        told = list(export(one, sink, select(text)))
    assert not [step for step in told if isinstance(step, Refused)]
    return sink.getvalue()


def imported(cache_dir: Path, archive: bytes) -> list[Carried | Objects | Refused]:
    with keeping(cache_dir) as one:
        told = list(import_(one, io.BytesIO(archive)))
    assert leftovers(cache_dir) == []
    check_blobs(cache_dir)
    return told


def refusals(told: list[Carried | Objects | Refused]) -> dict[str, str]:
    return {step.name: step.reason for step in told if isinstance(step, Refused)}


def packed(members: dict[str, bytes]) -> bytes:
    return b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in members.items()) + END


def an_export(
    *bodies: bytes, lines: list[bytes] | None = None, more: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """The members of an archive, made by hand, of blobs and lines of objects."""
    names = {f"blobs/blake3/{blake3(body).hexdigest()}": body for body in bodies}
    told = [line(body) for body in bodies] if lines is None else lines
    counts = json.dumps({"blobs": len(names), "objects": len(told)}).encode()
    head = {"asyncfetch-cache.json": b'{"format": 1}'}
    return {**head, **names, "refs/1.jsonl": b"".join(told), **(more or {}), "end.json": counts}


def line(body: bytes, name: str = "k", **changes: Any) -> bytes:
    told = json.loads(write_line(key(name), Ref(len(body), "e", f"blake3:{blake3(body).hexdigest()}", 5.0)))
    return json.dumps(told | changes).encode() + b"\n"


@pytest.mark.parametrize("digest", ["blake3", "sha256"])
async def test_what_was_exported_is_found_in_the_other_cache(cache_dir: Path, tmp_path: Path, digest: Any) -> None:
    await fill(cache_dir, digest, {**BODIES, "same": BODIES["one"], "empty": b""})
    archive = exported(cache_dir)
    told = imported(tmp_path / "other", archive)
    assert told[-1] == Objects(5, 5)
    assert sorted(step.size for step in told if isinstance(step, Carried)) == [0, 3000, 4000, 5000]
    assert exported(tmp_path / "other") == archive, "the same cache gives the same bytes"
    async with opened(tmp_path / "other", digest) as cache:
        one, same, empty = await look_up(cache, key("one"), key("same"), key("empty"))
        assert one is not None
        assert same is not None
        assert empty is not None
        assert one.ref == Ref(3000, '"one"', one.ref.digest, 100.0)
        assert one.path == same.path
        assert Path(one.path).read_bytes() == BODIES["one"]
        assert not (await publish(cache, BODIES["two"], key("two"))).stored
    with keeping(tmp_path / "other") as other:
        assert other.index.totals() == (5, 15_000, 4, 12_000, 0, 0)


async def test_a_prefix_is_exported_alone(cache_dir: Path, tmp_path: Path) -> None:
    await fill(cache_dir, bodies={"a/1": b"1", "a/2": b"2", "b/1": b"3"})
    assert imported(tmp_path / "other", exported(cache_dir, f"s3://{BUCKET}/a/")) == [
        Carried(1),
        Carried(1),
        Objects(2, 2),
    ]


async def test_a_second_import_passes_over_what_is_there(cache_dir: Path, tmp_path: Path) -> None:
    await fill(cache_dir)
    archive = exported(cache_dir)
    imported(tmp_path / "other", archive)
    before = {path: path.stat().st_ino for path in blobs(tmp_path / "other").values()}
    told = imported(tmp_path / "other", archive)
    assert told[-1] == Objects(3, 0)
    assert not any(step.new for step in told if isinstance(step, Carried))
    assert {path: path.stat().st_ino for path in blobs(tmp_path / "other").values()} == before


async def test_what_was_checked_later_is_not_replaced(cache_dir: Path, tmp_path: Path) -> None:
    await fill(cache_dir, bodies={"k": b"old", "l": b"new"})
    async with opened(tmp_path / "other") as cache:
        await publish(cache, b"newer", key("k"), validated=500.0)
        await publish(cache, b"older", key("l"), validated=50.0)
    assert imported(tmp_path / "other", exported(cache_dir))[-1] == Objects(2, 1)
    async with opened(tmp_path / "other") as cache:
        found = await look_up(cache, key("k"), key("l"))
    assert [one and Path(one.path).read_bytes() for one in found] == [b"newer", b"new"]


async def test_what_comes_under_a_pin_is_pinned(cache_dir: Path, tmp_path: Path) -> None:
    await fill(cache_dir)
    with keeping(tmp_path / "other") as other:
        pin(other, Pin(ENDPOINT, BUCKET, "t"))
    imported(tmp_path / "other", exported(cache_dir))
    with keeping(tmp_path / "other") as other:
        found = [listed for page in other.catalog.refs(select(None)) for listed in page]
    assert {one.key.key: one.known.pinned for one in found} == {"one": 0, "two": 1, "three": 1}


async def test_an_archive_that_broke_off_gives_what_came_and_can_be_taken_again(
    cache_dir: Path, tmp_path: Path
) -> None:
    await fill(cache_dir)
    archive = exported(cache_dir)
    for length in range(1024, len(archive) - 1024, 700):
        told = imported(tmp_path / "other", archive[:length])
        assert list(refusals(told)) == ["the archive"]
    assert imported(tmp_path / "other", archive)[-1] == Objects(3, 0), "all but the end had come"


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"no tar at all" * 100,
        packed({"blobs/blake3/" + "a" * 64: b""}),
        packed({"asyncfetch-cache.json": b'{"format": 2}'}),
        packed({"asyncfetch-cache.json": b"[" * 100_000}),
        packed({"asyncfetch-cache.json": b'{"format": 1'}),
    ],
)
def test_what_is_no_export_is_wrong_use(cache_dir: Path, archive: bytes) -> None:
    with pytest.raises(UsageError, match="cache export"):
        imported(cache_dir, archive)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "blobs/blake3/../../../evil",
        "blobs/blake3/" + "A" * 64,
        "blobs/md5/" + "a" * 32,
        "blobs/blake3/" + "a" * 64 + "/x",
        "blobs/blake3/" + "a" * 63 + "\n",
        "refs/1.jsonl/../../x",
        "index/CURRENT",
    ],
)
def test_a_member_with_another_name_is_refused_by_it_and_the_rest_goes_on(
    cache_dir: Path, tmp_path: Path, name: str
) -> None:
    told = imported(cache_dir, packed(an_export(b"good", more={name: b"evil"})))
    assert refusals(told) == {ascii(name)[1:-1]: "is no part of an export"}
    assert Objects(1, 1) in told
    assert not list(tmp_path.rglob("evil"))
    assert len(blobs(cache_dir)) == 1


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.XHDTYPE])
def test_a_link_or_device_is_refused_by_its_name(cache_dir: Path, kind: bytes) -> None:
    item = tarfile.TarInfo("blobs/blake3/" + blake3(b"good").hexdigest())
    item.type, item.linkname = kind, "/etc/passwd"
    head = packed({"asyncfetch-cache.json": b'{"format": 1}'})[: -len(END)]
    rest = packed(an_export(b"good"))[len(head) :]
    told = imported(cache_dir, head + item.tobuf(tarfile.USTAR_FORMAT) + rest)
    assert list(refusals(told).values()) == ["is no plain file"]
    assert [path.is_symlink() for path in blobs(cache_dir).values()] == [False]


def test_other_bytes_than_the_name_says_are_not_admitted(cache_dir: Path) -> None:
    members = an_export(b"good", b"bad!", lines=[line(b"good", "g"), line(b"bad!", "b")])
    name = f"blobs/blake3/{blake3(b'bad!').hexdigest()}"
    told = imported(cache_dir, packed(members | {name: b"evil"}))
    assert list(refusals(told)) == [name, "refs/1.jsonl:2"]
    assert "did not come" in refusals(told)["refs/1.jsonl:2"]
    assert Objects(1, 1) in told
    assert len(blobs(cache_dir)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "blake3:../../x"},
        {"digest": None},
        {"size": -1},
        {"size": True},
        {"size": 4.0},
        {"size": 5},
        {"size": 1 << 70},
        {"validated": None},
        {"validated": float("inf")},
        {"validated": 10**400},
        {"last_modified": "yesterday"},
        {"etag": 7},
        {"etag": "\ud800"},
        {"key": "k" * 1025},
        {"key": 5},
        {"container": ""},
        {"container": "a/b"},
        {"version": "a b"},
        {"endpoint": "file://"},
        {"endpoint": "https://"},
        {"endpoint": "x" * 20_000},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_line_that_no_export_writes_is_refused_by_its_number(cache_dir: Path, changes: dict[str, Any]) -> None:
    lines = [line(b"good", "first"), line(b"good", "second", **changes), b"[" * 50_000 + b"\n", line(b"good", "last")]
    told = imported(cache_dir, packed(an_export(b"good", lines=lines)))
    assert set(refusals(told)) == {"refs/1.jsonl:2", "refs/1.jsonl:3"}
    assert Objects(2, 2) in told


def test_members_with_objects_that_are_too_large_are_not_read(cache_dir: Path) -> None:
    archive = packed(an_export(b"good"))
    end = archive.index(b"end.json")
    size = 65 << 20
    hostile = header("refs/2.jsonl", size) + bytes(size) + archive[end:]
    assert refusals(imported(cache_dir, archive[:end] + hostile)) == {"refs/2.jsonl": "is too large"}


def test_an_end_that_counts_otherwise_is_told(cache_dir: Path) -> None:
    members = an_export(b"good") | {"end.json": b'{"blobs": 2, "objects": 1}'}
    assert list(refusals(imported(cache_dir, packed(members)))) == ["end.json"]
    del members["end.json"]
    assert refusals(imported(cache_dir, packed(members))) == {"the archive": "has no end.json: a part of it is missing"}


async def test_what_goes_or_is_cut_while_it_is_exported_is_left_out(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache_dir)
    blob(cache_dir, "one").unlink()
    with blob(cache_dir, "two").open("ab") as file:
        file.write(b"more")
    three, read = str(blob(cache_dir, "three")), files.read_some
    monkeypatch.setattr(files, "read_some", lambda descriptor, room: read(descriptor, room[:100]) and 0)
    sink = io.BytesIO()
    with keeping(cache_dir) as one:
        told = list(export(one, sink, select(None)))
    monkeypatch.undo()
    assert [step.reason for step in told if isinstance(step, Refused)] == [
        "was cut while it was read",
        "does not have 4000 bytes",
    ]
    told = imported(tmp_path / "other", sink.getvalue())
    assert len(refusals(told)) == 2, "the zeros in its place, and the count of the end"
    assert blobs(tmp_path / "other") == {}
    assert three.rpartition("/")[2] in next(iter(refusals(told)))


async def test_a_full_disk_ends_an_import_and_leaves_nothing_half_made(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache_dir)
    archive = exported(cache_dir)
    write, left = files.write, [2]

    def fill_up(descriptor: int, data: memoryview) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write(descriptor, data)

    with keeping(tmp_path / "other") as other:
        monkeypatch.setattr(files, "write", fill_up)
        with pytest.raises(StorageFull):
            list(import_(other, io.BytesIO(archive)))
        monkeypatch.undo()
        assert leftovers(tmp_path / "other") == []
        assert other.index.totals().blobs == len(blobs(tmp_path / "other")) == 2, "what came is known, and stays"
    assert imported(tmp_path / "other", archive)[-1] == Objects(3, 3)


async def test_a_copy_that_cannot_go_on_says_why_and_leaves_no_thread(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache_dir, bodies={str(number): os.urandom(100_000) for number in range(5)})

    def full(descriptor: int, data: memoryview) -> None:
        raise OSError(28, "No space left on device")

    with keeping(cache_dir) as one, keeping(tmp_path / "other") as other:
        assert list(copy(one, other, select(None)))[-1] == Objects(5, 5)
        copying = copy(one, other, select(None))
        next(copying)
        copying.close()  # type: ignore[attr-defined]  # an iterator here, a generator in fact
        with monkeypatch.context() as patch, keeping(tmp_path / "third") as third:
            patch.setattr(files, "write", full)
            with pytest.raises(StorageFull):
                list(copy(one, third, select(None)))
    assert [thread for thread in threading.enumerate() if thread.name == "asyncfetch-export"] == []


keys = st.builds(
    RefKey,
    st.sampled_from(["", "http://127.0.0.1:9000", "https://s3.example.com/base"]),
    st.just("bucket"),
    st.text(min_size=1, max_size=50),
    st.sampled_from(["", "v.1"]),
)
times = st.floats(0, 1e10)


@given(
    keys,
    st.builds(
        Ref,
        st.integers(0, 1 << 50),
        st.none() | st.text(max_size=50),
        st.just("blake3:" + "ab" * 32),
        times,
        st.none() | times,
    ),
)
def test_every_object_that_can_be_cached_is_read_again_from_its_line(key: RefKey, ref: Ref) -> None:
    written = write_line(key, ref)
    assert written.count(b"\n") == 1
    assert read_line(written) == (key, ref)
