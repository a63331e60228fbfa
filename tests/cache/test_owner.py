"""Owners: what the living have is left alone, what the dead left is removed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from asyncfetch.cache import files
from asyncfetch.cache.owner import Owner


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def forsake(owner: Owner) -> Path:
    """Ends an owner as a kill does: the lock goes, the files stay."""
    path = Path(owner.directory)
    for descriptor in files.names("/dev/fd"):
        try:
            same = Path(f"/dev/fd/{descriptor}").samefile(path / "lock")
        except OSError:
            continue
        if same:
            files.close(int(descriptor))
    return path


def test_only_the_dead_are_swept(root: str) -> None:
    living, dead, sweeper = Owner(root), Owner(root), Owner(root)
    for owner in (living, dead):
        Path(owner.new_path()).write_bytes(b"unfinished")
    left = forsake(dead)
    assert sweeper.sweep() is False
    assert not left.exists()
    assert len(list(Path(living.directory).iterdir())) == 2
    living.close()
    assert sweeper.sweep() is True
    sweeper.close()
    assert list(Path(root).iterdir()) == []


def test_sweep_that_was_itself_interrupted_is_finished(root: str) -> None:
    (Path(root) / "without-lock").mkdir()
    (Path(root) / "without-lock" / "7").write_bytes(b"unfinished")
    (Path(root) / "empty").mkdir()
    (Path(root) / "stray").write_bytes(b"")
    owner = Owner(root)
    assert owner.sweep() is True
    assert [path.name for path in Path(root).iterdir()] == [Path(owner.directory).name]
    owner.close()


def test_paths_are_given_once_and_known_again(root: str) -> None:
    owner, other = Owner(root), Owner(root)
    paths = [owner.new_path() for _ in range(100)]
    assert len(set(paths)) == 100
    assert all(owner.owns(path) and not other.owns(path) for path in paths)
    for path in (f"{owner.directory}/lock", f"{root}/7", f"{owner.directory}/../7", f"{owner.directory}/1/2", "", "/7"):
        assert not owner.owns(path)
    owner.close()
    other.close()


def test_owner_swept_by_mistake_begins_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks may fail (a file system without them): correctness does not rest on them."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    owner, sweeper = Owner(root), Owner(root)
    before = owner.new_path()
    sweeper.sweep()
    assert not Path(owner.directory).exists()
    owner.renew(before)
    after = owner.new_path()
    Path(after).write_bytes(b"")
    owner.renew(before)
    assert owner.new_path().startswith(after.rpartition("/")[0])
    assert owner.owns(before)
    assert owner.owns(after)
    owner.close()
    sweeper.close()


def test_directory_swept_between_its_making_and_its_lock_is_left_for_another(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, lock = Owner(root), files.lock
    moments = iter(["before the lock is made", "while the sweeper has the lock"])

    def beset(path: str, *, create: bool = False) -> int | None:
        monkeypatch.setattr(files, "lock", lock)
        try:
            moment = next(moments)
        except StopIteration:
            return lock(path, create=create)
        if moment == "before the lock is made":
            assert sweeper.sweep() is True
            held = None
        else:
            held = lock(path, create=True)
        try:
            monkeypatch.setattr(files, "lock", beset)
            return lock(path, create=create)
        finally:
            if held is not None:
                files.close(held)

    monkeypatch.setattr(files, "lock", beset)
    owner = Owner(root)
    assert next(moments, None) is None
    assert lock(f"{owner.directory}/lock") is None
    sweeper.sweep()
    assert Path(owner.directory).exists()
    owner.close()
    sweeper.close()


def test_lock_that_lost_its_name_is_none(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeper may remove a lock that was opened and not yet locked: to hold that would guard nothing."""
    path, flock = f"{root}/lock", fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        files.remove(path)
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    descriptors = len(files.names("/dev/fd"))
    with pytest.raises(FileNotFoundError):
        files.lock(path, create=True)
    assert len(files.names("/dev/fd")) == descriptors


def test_claims_beside_sweepers_all_succeed(root: str) -> None:
    """A directory is looked at between its making and its lock again and again; its maker goes on to another."""
    stop = threading.Event()
    sweeper = Owner(root)

    def sweep() -> None:
        while not stop.is_set():
            sweeper.sweep()

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        claimed = [Owner(root) for _ in range(200)]
    finally:
        stop.set()
        thread.join()
    for owner in claimed:
        assert (Path(owner.directory) / "lock").exists()
        owner.close()
    sweeper.close()
    assert list(Path(root).iterdir()) == []


def test_owner_that_was_held_up_before_its_lock_is_seen_when_it_has_it(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, lock = Owner(root), files.lock
    made, seen = threading.Event(), threading.Event()

    def held_up(path: str, *, create: bool = False) -> int | None:
        if create:
            made.set()
            seen.wait()
        return lock(path, create=create)

    monkeypatch.setattr(files, "lock", held_up)
    others: list[Owner] = []
    making = threading.Thread(target=lambda: others.append(Owner(root)))
    making.start()
    made.wait()
    os.utime(root, (time.time() - 10, time.time() - 10))  # so long ago it came
    assert not mine.in_company()
    seen.set()
    making.join()
    assert mine.in_company()
    mine.close()
    others[0].close()
