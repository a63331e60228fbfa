"""The index: it remembers, it is followed by all, and it is never worth a failure."""

from __future__ import annotations

import itertools
import logging
import math
import mmap
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.cache import Ref, RefKey, database, files, follower, generations
from asyncfetch.cache.changes import confirm, count, forget, make, met, remember, stored, touch
from asyncfetch.cache.failures import WouldWait
from asyncfetch.cache.index import Index

from .helpers import key

if TYPE_CHECKING:
    from asyncfetch.settings import Digest

REF = Ref(5, "etag", "blake3:" + "ab" * 32, 100.0, 50.0)

OLD, NEW = b"0" * 16, b"b" * 16  # generations

Open = Callable[..., Index]


@pytest.fixture
def open_index(tmp_path: Path) -> Iterator[Open]:
    made: list[Index] = []
    numbers = itertools.count()
    (tmp_path / "tmp").mkdir()

    def scratch() -> str:
        return str(tmp_path / "tmp" / str(next(numbers)))

    def open_index(algorithm: Digest = "blake3", boot: str = "this boot") -> Index:
        made.append(Index(str(tmp_path / "index"), algorithm, scratch, boot=boot))
        return made[-1]

    yield open_index
    for one in made:
        one.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def refs(one: Index, keys: Sequence[RefKey]) -> list[Ref | None]:
    return [known and known.ref for known in one.find(keys)]


def current(directory: Path) -> Path:
    generation = (directory / "index" / "CURRENT").read_text()
    return directory / "index" / f"index-{generation}.sqlite"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_what_is_remembered_is_found_by_all_and_after_closing(open_index: Open) -> None:
    first, second = open_index(), open_index()
    odd = RefKey("", "b", "line\nquote'\"%?\0é😀", "v1")
    bare = Ref(0, None, "blake3:" + "00" * 32, 0.0)
    assert first.apply([remember(key("a"), REF), remember(odd, bare)])
    for one in (first, second, open_index()):
        assert refs(one, [key("a"), key("b"), odd, odd._replace(version="")]) == [REF, None, bare, None]
        assert one.totals() == (2, 5, 0, 0, 0, 0)


def test_changes_are_made_in_their_order(open_index: Open) -> None:
    one = open_index()
    newer = REF._replace(size=6, validated=200.0)
    assert one.apply([remember(key("a"), REF), forget(key("a")), remember(key("a"), newer), forget(key("b"))])
    assert refs(one, [key("a")]) == [newer]
    assert one.apply([remember(key("a"), REF), forget(key("a"))])
    assert refs(one, [key("a")]) == [None]


def test_confirming_touches_only_the_object_that_was_confirmed(open_index: Open) -> None:
    one = open_index()
    other = REF._replace(etag=None)
    one.apply([remember(key("a"), REF), remember(key("b"), other), remember(key("c"), REF)])
    one.apply([confirm(key("a"), REF, 300.0), confirm(key("b"), other, 300.0)])
    one.apply([confirm(key("c"), REF._replace(etag="older"), 300.0)])
    one.apply([confirm(key("c"), REF._replace(digest="blake3:" + "cd" * 32), 300.0)])
    found = refs(one, [key("a"), key("b"), key("c")])
    assert [ref and ref.validated for ref in found] == [300.0, 300.0, 100.0]


def test_algorithms_do_not_see_each_other(open_index: Open) -> None:
    blake3, sha256 = open_index("blake3"), open_index("sha256")
    theirs = REF._replace(digest="sha256:" + "cd" * 32)
    blake3.apply([remember(key("a"), REF)])
    assert refs(sha256, [key("a")]) == [None]
    sha256.apply([remember(key("a"), theirs)])
    assert (refs(blake3, [key("a")]), refs(sha256, [key("a")])) == ([REF], [theirs])
    blake3.apply([forget(key("a"))])
    assert refs(sha256, [key("a")]) == [None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def put(data: bytes, name: str | None = None) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.with_name(name or path.name).write_bytes(data)

    return damage


def overwrite(start: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[start : start + 4096] = b"\xa5" * 4096
        path.write_bytes(data)

    return damage


def set_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {database.SCHEMA + 1}")


def drop(what: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"DROP {what}")

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "empty": put(b""),
    "not a database": put(b"hello" * 1000),
    "cut": cut,
    "its first page": overwrite(0),
    "its second page": overwrite(4096),
    "another schema": set_schema,
    "no table": drop("TABLE refs"),
    "no other table": drop("TABLE claims"),
    "CURRENT deleted": lambda path: (path.parent / "CURRENT").unlink(),
    "CURRENT empty": put(b"", "CURRENT"),
    "CURRENT nonsense": put(b"../../etc/passwd", "CURRENT"),
    "CURRENT unknown": put(b"0123456789abcdef", "CURRENT"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_between_two_openings_a_new_one_is_begun(
    tmp_path: Path, open_index: Open, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    one = open_index()
    one.apply([remember(key(str(number)), REF) for number in range(500)])
    one.close()
    old = current(tmp_path)
    damage(old)
    for path in old.parent.iterdir():
        os.utime(path, (1e9, 1e9))
    one = open_index()
    assert refs(one, [key("1")]) == [None]
    assert current(tmp_path) != old
    assert len(warnings(caplog)) == 1
    assert one.apply([remember(key("1"), REF)])
    assert refs(open_index(), [key("1")]) == [REF]
    one.remove_others(generations.lying(one.directory))
    assert not old.exists()
    assert refs(one, [key("1")]) == [REF]


@pytest.mark.parametrize(("size", "checked"), [(63 << 20, True), (65 << 20, False)])
def test_one_of_up_to_64_mebibytes_is_checked_whole_at_open_and_a_larger_one_where_it_is_read(
    tmp_path: Path, open_index: Open, caplog: pytest.LogCaptureFixture, size: int, checked: bool
) -> None:
    one = open_index()
    one.apply([remember(key(f"key-{number:04}"), REF) for number in range(500)])
    one.close()
    old = current(tmp_path)
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("CREATE TABLE filler (bytes BLOB)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (size - old.stat().st_size,))
    with old.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        page = data.find(b"key-0250") // 4096 * 4096  # which no statement of an opening reads
        data[page : page + 4096] = b"\xa5" * 4096
    one = open_index()
    assert (current(tmp_path) != old) == checked
    assert len(warnings(caplog)) == checked
    assert refs(one, [key("key-0001")]) == [None if checked else REF]
    assert refs(one, [key("key-0250")]) == [None]
    assert current(tmp_path) != old
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_under_its_users_they_go_on_with_a_new_one(
    tmp_path: Path, open_index: Open, damage: Callable[[Path], None]
) -> None:
    """Some damage is not seen by who has the pages in memory; nobody may fail, or be told what is not so."""
    users = [open_index(), open_index()]
    users[0].apply([remember(key(str(number)), REF) for number in range(500)])
    damage(current(tmp_path))
    for round_number in range(3):
        for user in users:
            user.follow()
            assert refs(user, [key("1")])[0] in (None, REF)
            mine = REF._replace(size=round_number)
            if user.apply([remember(key("mine"), mine)]):
                assert refs(user, [key("mine")]) == [mine]
    found = open_index()
    found.apply([remember(key("last"), REF)])
    assert refs(found, [key("last")]) == [REF]


@pytest.mark.parametrize("what", ["deleted", "not a database", "cut", "its first page", "CURRENT deleted"])
def test_users_of_a_damaged_index_agree_on_the_new_one(tmp_path: Path, open_index: Open, what: str) -> None:
    users = [open_index() for _ in range(3)]
    users[0].apply([remember(key(str(number)), REF) for number in range(500)])
    for user in users:
        user.find([key("1")])
    DAMAGES[what](current(tmp_path))
    fresh = open_index()
    for user in users:
        user.follow()
        user.follow()
    fresh.follow()
    assert users[1].apply([remember(key("new"), REF)])
    assert [refs(user, [key("new")]) for user in [*users, fresh]] == [[REF]] * 4
    assert len(list((tmp_path / "index").glob("index-*.sqlite"))) <= 2


def test_new_index_of_another_process_is_not_replaced_by_who_notices_the_damage_last(
    tmp_path: Path, open_index: Open
) -> None:
    late, quick = open_index(), open_index()
    old = current(tmp_path)
    quick.restart()
    quick.apply([remember(key("a"), REF)])
    new = current(tmp_path)
    drop("TABLE refs")(old)
    assert refs(late, [key("a")]) == [None]
    assert current(tmp_path) == new
    assert refs(late, [key("a")]) == [REF]


def test_generation_that_began_since_one_was_alone_is_left_to_its_users(tmp_path: Path, open_index: Open) -> None:
    one = open_index()
    old = current(tmp_path)
    lying = generations.lying(one.directory)  # then it sees that it is alone, and then another comes
    other = open_index()
    other.restart()
    other.apply([remember(key("a"), REF)])
    one.remove_others(lying)
    one.follow()
    one.remove_others(lying)
    assert refs(one, [key("a")]) == refs(open_index(), [key("a")]) == [REF]
    assert not old.exists()


def test_generation_that_goes_while_it_is_opened_is_no_loss(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process clears the cache between the reading of CURRENT and the opening of what it names."""
    one, connect = open_index(), database.connect
    old = current(tmp_path)

    def overtaken(path: str, *, create: bool = False) -> sqlite3.Connection:
        monkeypatch.setattr(database, "connect", connect)
        lying = generations.lying(one.directory)
        one.restart()
        one.remove_others(lying)
        one.apply([remember(key("a"), REF)])
        return connect(path, create=create)

    monkeypatch.setattr(database, "connect", overtaken)
    assert refs(open_index(), [key("a")]) == [REF]
    assert not old.exists()
    assert warnings(caplog) == []


def test_swap_by_another_process_right_after_ours_is_noticed(open_index: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, rename = open_index(), open_index(), files.rename

    def overtaken(source: str, target: str) -> None:
        rename(source, target)
        monkeypatch.setattr(files, "rename", rename)
        other.restart()

    monkeypatch.setattr(files, "rename", overtaken)
    one.restart()
    other.apply([remember(key("a"), REF)])
    one.follow()
    assert refs(one, [key("a")]) == [REF]


def test_what_is_read_amid_a_change_that_moves_to_another_generation_is_of_that_one(
    tmp_path: Path, open_index: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """As eviction does, which asks since when uses are noted."""
    one, other = open_index(), open_index()
    one.limit()
    seen: list[float] = []

    def look(connection: sqlite3.Connection) -> None:
        if not seen:
            other.restart()
        seen.append(one.limited_since())

    assert one.apply((), (look,))
    assert len(seen) == 2
    assert seen[0] < seen[1] == math.inf
    assert warnings(caplog) == []
    assert one.read(lambda connection: connection.execute("PRAGMA database_list").fetchone()[2]) == str(
        current(tmp_path)
    )


def test_restart_forgets_all_for_all(tmp_path: Path, open_index: Open) -> None:
    one, other = open_index(), open_index()
    one.apply([remember(key("a"), REF)])
    old = current(tmp_path)
    one.restart()
    other.follow()
    assert [refs(user, [key("a")]) for user in (one, other)] == [[None], [None]]
    assert current(tmp_path) != old


def test_processes_that_begin_together_agree_on_the_first_generation(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = files.link
    begun: list[Index | None] = []

    def overtaken(source: str, target: str) -> None:
        if not begun:
            begun.append(None)
            begun.append(open_index())
        link(source, target)

    monkeypatch.setattr(files, "link", overtaken)
    slow = open_index()
    fast = begun[1]
    assert fast is not None
    fast.apply([remember(key("a"), REF)])
    assert refs(slow, [key("a")]) == [REF]
    assert len(list((tmp_path / "index").glob("index-*.sqlite"))) == 1


def test_database_removed_while_it_is_made_is_made_again(tmp_path: Path, open_index: Open) -> None:
    """One who was alone a moment ago removes what it takes for an old generation."""
    removed: list[Path] = []
    connect = sqlite3.connect

    def beset(path: str, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **options)
        if not removed:
            connection.execute("PRAGMA user_version")
            removed.extend((tmp_path / "index").glob("index-*"))
            for each in removed:
                each.unlink()
            (tmp_path / "index").rename(tmp_path / "moved")
            (tmp_path / "index").mkdir()
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", beset)
        one = open_index()
    assert removed
    assert one.apply([remember(key("a"), REF)])
    assert refs(open_index(), [key("a")]) == [REF]


def test_file_system_without_links_will_do(open_index: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files, "link", refuse)
    one = open_index()
    one.apply([remember(key("a"), REF)])
    assert refs(open_index(), [key("a")]) == [REF]


def test_locked_by_a_stuck_process_it_forgets_and_says_so_once(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    one = open_index()
    one.apply([remember(key("before"), REF)])
    with closing(sqlite3.connect(current(tmp_path), isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            assert not one.apply([remember(key("meanwhile"), REF)])
            assert refs(one, [key("before"), key("meanwhile")]) == [REF, None]
        stuck.execute("ROLLBACK")
    assert len(warnings(caplog)) == 1
    assert "locked" in warnings(caplog)[0]
    assert one.apply([remember(key("after"), REF)])
    assert refs(one, [key("before"), key("after")]) == [REF, REF]


def test_locked_for_good_its_users_go_on_with_a_copy(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one, other, stuck = open_index(), open_index(), open_index()
    one.apply([remember(key("before"), REF), count("hits", 3)])
    old = current(tmp_path)
    meanwhile: Callable[[], object] = partial(one.apply, [remember(key("meanwhile"), REF)])
    others = iter([meanwhile, meanwhile, other.follow])

    def sleep(_: sqlite3.Connection) -> None:
        """What happens while the process that has the lock does not: it is called again in the copy."""
        for step in others:
            step()

    assert stuck.apply([remember(key("stuck"), REF), count("hits", 1)], [sleep])
    assert current(tmp_path) != old
    for each in (one, other, stuck, open_index()):
        assert refs(each, [key("before"), key("meanwhile"), key("stuck")]) == [REF, REF, REF]
        assert each.totals().objects == 3
        assert each.first_rows("SELECT value FROM counters WHERE name = ?", [("hits",)]) == [(4,)]
    assert len(warnings(caplog)) == 2
    assert "could not write the index (database is locked)" in warnings(caplog)[0]
    assert "(database is locked); a new one was begun" in warnings(caplog)[1]


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "gone on"])
def test_log_that_a_stopped_reader_lets_grow_is_left_with_a_copy(
    tmp_path: Path,
    open_index: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    stopped: bool,
) -> None:
    monkeypatch.setattr(follower, "LOG_BYTES", 500_000)
    monkeypatch.setattr(follower, "LOG_LOOKS", 5)
    one, other = open_index(), open_index()
    old = current(tmp_path)
    with closing(sqlite3.connect(old, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute(database.TOTALS).fetchone() == (0, 0, 0, 0)
        for start in range(0, 4000, 400):
            one.apply([remember(key(str(number)), REF) for number in range(start, start + 400)])
        assert Path(f"{old}-wal").stat().st_size > follower.LOG_BYTES
        if not stopped:
            reader.execute("ROLLBACK")
        one.patient = False
        for _ in range(4):
            one.follow()
        for _ in range(2):  # until one who may wait sees to it
            with pytest.raises(WouldWait):
                one.follow()
        one.patient = True
        one.follow()
        assert (current(tmp_path) != old) == stopped
        assert Path(f"{current(tmp_path)}-wal").stat().st_size > follower.LOG_BYTES or stopped
        one.apply([remember(key("after"), REF)])
        one.follow()  # as long a file as ever, but nothing in it that is not in the database
    other.follow()
    assert refs(other, [key("0"), key("3999"), key("after")]) == [REF, REF, REF]
    assert other.totals().objects == 4001
    assert len(warnings(caplog)) == stopped


_RECOVER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as shared:
    fcntl.lockf(shared, fcntl.LOCK_EX, 8, 120)
    shared.write(bytes(136))
    shared.flush()
    print(flush=True)
    sys.stdin.read()
"""


def test_locked_for_good_by_one_who_keeps_readers_out_too_it_is_begun_anew(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process that has stopped while it makes the log's index anew (sqlite.org/walformat.html, section 2.3)."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one = open_index()
    one.apply([remember(key("before"), REF)])
    arguments = [sys.executable, "-c", _RECOVER, f"{current(tmp_path)}-shm"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stuck:
        assert stuck.stdout is not None
        assert stuck.stdout.readline() == b"\n"
        assert refs(one, [key("before")]) == [None]
        assert one.apply([remember(key("after"), REF)])
        assert refs(one, [key("before"), key("after")]) == [None, REF]


def test_change_made_while_a_locked_index_is_copied_is_not_lost(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was stuck wakes up just then: the copy lacks its change, and it sees no other in force."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one, copy = open_index(), database.copy
    old = current(tmp_path)
    with closing(sqlite3.connect(old, isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        make(stuck, [stored(REF.digest, 5, 1.0), remember(key("stuck"), REF)])

        def overtaken(source: sqlite3.Connection, path: str, scratch: str) -> sqlite3.Connection:
            made = copy(source, path, scratch)
            stuck.execute("COMMIT")
            return made

        monkeypatch.setattr(database, "copy", overtaken)
        assert not one.apply([remember(key("before"), REF)])
        assert one.apply([remember(key("after"), REF)])
    assert refs(one, [key("stuck"), key("after")]) == [REF, REF]
    assert one.totals().blob_bytes == 5
    assert current(tmp_path) == old
    assert len(list((tmp_path / "index").glob("index-*.sqlite"))) == 1


def test_change_made_in_the_instant_before_a_copy_comes_into_force_is_not_lost(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was stuck commits, and sees no other in force, after it was seen that nobody had changed anything."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one, stuck, rename = open_index(), open_index(), files.rename
    locked, awake = threading.Event(), threading.Event()

    def pin(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO pins VALUES ('', 'b', 'kept/')")
        locked.set()
        awake.wait(20)
        connection.execute("COMMIT")

    sleeper = threading.Thread(target=stuck.change, args=[pin])

    def overtaken(source: str, target: str) -> None:
        if target.endswith("/CURRENT"):
            awake.set()
            sleeper.join()
        rename(source, target)

    sleeper.start()
    locked.wait(20)
    monkeypatch.setattr(files, "rename", overtaken)
    for _ in range(2):
        one.apply([remember(key("after"), REF)])
    for each in (one, stuck, open_index()):
        each.follow()
        assert each.first_rows("SELECT prefix FROM pins", [()]) == [("kept/",)]
        assert refs(each, [key("after")]) == [REF]


def test_of_two_copies_of_which_one_lacks_a_change_the_other_comes_into_force(tmp_path: Path) -> None:
    """A change is made behind the look of the one, and the other announces itself before the one goes on."""
    directory = str(tmp_path)
    (tmp_path / "CURRENT").write_bytes(OLD)
    both, over = threading.Event(), threading.Event()
    outcomes: list[bool] = []

    def is_whole_too() -> bool:
        both.set()
        return over.wait(20)

    other = threading.Thread(target=lambda: outcomes.append(generations.succeed(directory, OLD, NEW, is_whole_too)))

    def is_whole() -> bool:
        generations.forestall(directory)
        other.start()
        return both.wait(20)

    assert not generations.succeed(directory, OLD, b"a" * 16, is_whole)
    over.set()
    other.join()
    assert outcomes == [True]
    assert generations.in_force(directory) == NEW
    assert os.listdir(directory) == ["CURRENT"]


def test_none_of_several_copies_that_lack_a_change_comes_into_force(tmp_path: Path) -> None:
    directory = str(tmp_path)
    (tmp_path / "CURRENT").write_bytes(OLD)

    def changed() -> bool:
        generations.forestall(directory)
        return True

    def is_whole() -> bool:
        return not generations.succeed(directory, OLD, NEW, changed)

    assert not generations.succeed(directory, OLD, b"a" * 16, is_whole)
    assert generations.in_force(directory) == OLD
    assert os.listdir(directory) == ["CURRENT"]


@pytest.mark.parametrize("left", ["by one who died", "by an older version"])
def test_copy_that_was_announced_and_left_holds_up_no_other(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one, old = open_index(), current(tmp_path)
    announced = Path(generations.announced(str(tmp_path / "index")))
    if left == "by one who died":
        announced.mkdir()
        (announced / NEW.decode()).write_bytes(NEW)
    else:
        announced.write_bytes(NEW)
    with closing(sqlite3.connect(old, isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        for _ in range(4):
            one.apply([remember(key("a"), REF)])
        assert current(tmp_path) != old
        assert refs(one, [key("a")]) == [REF]
    assert not announced.exists()


@pytest.mark.parametrize("left", ["by one who died", "by an older version"])
def test_what_was_announced_and_left_is_gone_after_the_next_change(tmp_path: Path, open_index: Open, left: str) -> None:
    """Else each change would look at it."""
    one = open_index()
    announced = Path(generations.announced(str(tmp_path / "index")))
    if left == "by one who died":
        announced.mkdir()
        (announced / NEW.decode()).write_bytes(NEW)
    else:
        announced.write_bytes(NEW)
    assert one.apply([remember(key("a"), REF)])
    assert not announced.exists()


def test_kill_amid_the_copy_of_a_locked_index_leaves_nothing_beside_it(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is in a directory of who was killed, which the next who opens the cache removes."""
    open_index().apply([remember(key("a"), REF)])
    with closing(sqlite3.connect(current(tmp_path), isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        if (child := os.fork()) == 0:
            monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
            monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
            monkeypatch.setattr(files, "rename", lambda source, target: os.kill(os.getpid(), signal.SIGKILL))
            one = open_index()
            for _ in range(2):
                one.apply([remember(key("b"), REF)])
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "index").glob("*.sqlite")] == [current(tmp_path).name]
    (left,) = (tmp_path / "tmp").iterdir()
    left.unlink()


def test_change_by_a_command_is_made_in_a_copy_too(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    command, job = open_index(), open_index()
    old = current(tmp_path)
    tries = iter([False, True])

    def work(connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN IMMEDIATE")
        for expected in tries:
            assert job.apply([count("hits", 1)]) == expected
        changed = make(connection, [remember(key("pinned"), REF)])
        connection.execute("COMMIT")
        return changed

    assert command.change(work) == 1
    assert current(tmp_path) != old
    assert refs(job, [key("pinned")]) == refs(command, [key("pinned")]) == [REF]


def test_restart_forgets_what_a_copy_made_meanwhile_has(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is cleared while others give a locked index up: of what is gone nothing may be left in the sums."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one, other, swap = open_index(), open_index(), generations.swap
    one.apply([stored(REF.digest, 5, 1.0), remember(key("a"), REF)])
    with closing(sqlite3.connect(current(tmp_path), isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        assert not other.apply([count("hits", 1)])

        def overtaken(*arguments: Any) -> bool:
            monkeypatch.setattr(generations, "swap", swap)
            assert other.apply([count("hits", 1)])
            assert refs(other, [key("a")]) == [REF]
            return swap(*arguments)

        monkeypatch.setattr(generations, "swap", overtaken)
        one.restart()
    other.follow()
    for each in (one, other):
        assert refs(each, [key("a")]) == [None]
        assert each.totals().blob_bytes == 0


def test_locked_often_is_not_locked_for_good(tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else gets the lock each time, and makes a change: that is a busy cache, however long it lasts."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
    one, busy = open_index(), open_index()
    old = current(tmp_path)
    refused = iter(range(3))

    def work(_: sqlite3.Connection) -> None:
        for _again in refused:
            assert not one.apply([remember(key("a"), REF)])
            return

    for number in range(3):
        busy.apply([count("hits", number + 1)], [work])
    assert next(refused, None) is None
    assert current(tmp_path) == old


def test_copy_of_a_locked_index_that_finds_no_room_is_put_off(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    one, begun, connect = open_index(), [], database.copy
    one.apply([remember(key(str(number)), REF) for number in range(200)])
    old = current(tmp_path)

    def copy(source: sqlite3.Connection, path: str, scratch: str) -> sqlite3.Connection:
        begun.append(path)
        return connect(source, path, scratch)

    monkeypatch.setattr(database, "copy", copy)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(sqlite3.connect(current(tmp_path), isolation_level=None)) as stuck, monkeypatch.context() as patch:
        patch.setattr(follower, "GIVEN_UP_SECONDS", 0.0)
        stuck.execute("BEGIN IMMEDIATE")
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        try:
            for _ in range(2):
                assert not one.apply([remember(key("meanwhile"), REF)])
            one.follow()
            assert refs(one, [key("7")]) == [REF], "what is known there can still be read"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(begun) == 1, "others may wait meanwhile"
    assert current(tmp_path) == old
    assert len(list((tmp_path / "index").glob("index-*.sqlite"))) == 1
    assert refs(one, [key("7"), key("meanwhile")]) == [REF, None]
    assert one.apply([remember(key("after"), REF)])


def test_full_disk_makes_it_forget_and_no_more(open_index: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The limit on file sizes stands for a full disk: the write fails in the system, below SQLite."""
    one = open_index()
    one.apply([remember(key("before"), REF)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        for _ in range(2):
            assert not one.apply([remember(key(str(number)), REF) for number in range(1000)])
            assert refs(one, [key("before"), key("7")]) == [REF, None]
        one.restart()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(warnings(caplog)) == 2  # to write, and to restart
    assert one.apply([remember(key("after"), REF)])
    assert refs(one, [key("before"), key("after")]) == [REF, REF]


def test_two_versions_at_once_do_not_begin_an_index_for_each_batch(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = open_index()
    with monkeypatch.context() as patch:
        patch.setattr(database, "SCHEMA", database.SCHEMA + 1)
        theirs = open_index()
    for _ in range(10):
        ours.follow()
        assert refs(ours, [key("a")]) == [None]
        with monkeypatch.context() as patch:
            patch.setattr(database, "SCHEMA", database.SCHEMA + 1)
            theirs.follow()
    assert len(list((tmp_path / "index").glob("index-*.sqlite"))) <= 5
    assert len(warnings(caplog)) <= 5
    assert theirs.apply([remember(key("a"), REF)]) != ours.apply([remember(key("a"), REF)]), "one of them has it"
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.0)
    assert open_index().apply([remember(key("a"), REF)])


def test_where_no_new_index_can_be_begun_work_goes_on_without(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.0)
    one = open_index()

    def refuse(path: str) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "create", refuse)
        current(tmp_path).unlink()
        one.follow()
        assert refs(one, [key("a")]) == [None]
        assert not one.apply([remember(key("a"), REF)])
        assert one.totals() == (0, 0, 0, 0, 0, 0)
        one.follow()
        assert len(warnings(caplog)) == 1
    one.follow()
    assert one.apply([remember(key("a"), REF)])
    assert refs(one, [key("a")]) == [REF]


def test_key_that_is_no_text_harms_only_its_own_batch(open_index: Open) -> None:
    one = open_index()
    with pytest.raises(ValueError, match="surrogates"):
        one.find([key("\udcff")])
    assert not one.apply([remember(key("a"), REF), remember(key("\udcff"), REF)])
    assert refs(one, [key("a")]) == [None]
    assert one.apply([remember(key("a"), REF)])


def test_file_system_where_wal_does_not_work_is_refused(open_index: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    # A database in memory cannot be in WAL mode; SQLite says so as it does on a file system that cannot share memory.
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: real(":memory:", isolation_level=None))
    with pytest.raises(sqlite3.NotSupportedError, match="journal mode 'memory', not WAL"):
        open_index()


def test_beginning_of_another_process_is_no_loss(
    tmp_path: Path, open_index: Open, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index-0123456789abcdef.sqlite").write_bytes(b"")
    open_index()
    assert warnings(caplog) == []


def test_sums_follow_every_change(open_index: Open) -> None:
    one, other = open_index(), open_index()
    digests = ["blake3:" + f"{number:064x}" for number in range(3)]
    one.apply([stored(digests[0], 10, 1.0), stored(digests[1], 20, 1.0), met(digests[2], 40, 1.0)])
    one.apply([remember(key("a"), REF), remember(key("b"), REF), remember(key("a"), REF._replace(size=100))])
    assert one.totals() == other.totals() == (2, 105, 3, 70, 0, 0)
    other.apply([met(digests[0], 10, 2.0), stored(digests[1], 21, 2.0), forget(key("b"))])
    assert one.totals() == (1, 100, 3, 71, 0, 0)
    one.restart()
    assert one.totals() == (0, 0, 0, 0, 0, 0)


def test_blob_is_of_the_epoch_it_was_stored_in_and_as_young_as_its_last_use(open_index: Open) -> None:
    def known(one: Index) -> tuple[float | None, int | None, int | None] | None:
        (found,) = one.find([key("a")])
        return found and found[1:4]

    one = open_index()
    one.apply([remember(key("a"), REF)])
    assert known(one) == (None, None, None)
    one.apply([met(REF.digest, 5, 10.0)])
    assert known(one) == (10.0, -1, 0), "nobody knows when these bytes were written"
    one.apply([stored(REF.digest, 5, 9.0)])
    assert known(one) == (10.0, 1, 0)
    one.apply([touch(REF.digest, 30.0), touch(REF.digest, 20.0)])
    assert known(one) == (30.0, 1, 0)
    again = open_index(boot="this boot")
    again.apply([stored(REF.digest, 5, 40.0)])
    assert known(again) == (40.0, 1, 0)
    later = open_index(boot="the next boot")
    assert known(later) == (40.0, 1, 0)
    later.apply([stored(REF.digest, 5, 50.0)])
    assert known(later) == (50.0, 2, 0)
    later.restart()
    later.apply([remember(key("a"), REF), stored(REF.digest, 5, 50.0)])
    assert known(later) == (50.0, 1, 0)


def test_index_that_cannot_be_written_when_it_is_opened_after_a_boot_is_not_given_up(
    tmp_path: Path, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    open_index().apply([remember(key("a"), REF)])
    with closing(sqlite3.connect(current(tmp_path), isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        assert refs(open_index(boot="the next boot"), [key("a")]) == [REF]


def test_counters_add_up(tmp_path: Path, open_index: Open) -> None:
    one, other = open_index(), open_index()
    one.apply([count("hits", 2), count("misses", 1)])
    other.apply([count("hits", 3)])
    with closing(sqlite3.connect(current(tmp_path))) as connection:
        assert dict(connection.execute("SELECT name, value FROM counters")) == {"hits": 5, "misses": 1, "stale": 0}
