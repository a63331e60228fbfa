"""What the killed leave, and what others remove: the index says of blobs what the disk says, without a walk."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import files
from asyncfetch.cache.owner import Owner
from asyncfetch.cache.recovery import Intents, parse_intents

from .helpers import HASHES, blobs, check_accounts, key, leftovers, look_up, opened, publish, settled, totals, whole
from .test_owner import forsake

DIGESTS = ["blake3:" + HASHES["blake3"](b"%d" % number) for number in range(3)]


def leave(directory: Path, *digests: str) -> None:
    """Leaves what a process does that is killed after it has named blobs."""
    dead = Owner(str(directory / "v1" / "tmp"))
    intents = Intents(dead)
    intents.declare(digests)
    intents.close()
    forsake(dead)


def put(directory: Path, digest: str, data: bytes) -> None:
    path = directory / "v1" / "blobs" / "blake3" / digest[7:9] / digest[7:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def test_blob_whose_batch_was_never_committed_is_counted_and_known_as_unproven(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    put(tmp_path, DIGESTS[0], b"0")
    leave(tmp_path, DIGESTS[0], DIGESTS[1])
    async with opened(tmp_path) as cache:
        assert totals(tmp_path) == (1, 1)
        published = await publish(cache, b"0", key("a"))
        assert not published.stored
        check_accounts(tmp_path)
    assert list((tmp_path / "v1" / "tmp").iterdir()) == []


async def test_row_whose_blob_was_removed_before_the_commit_is_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        published = await publish(cache, b"0", key("a"))
        await publish(cache, b"1", key("b"))
    Path(published.path).unlink()
    leave(tmp_path, DIGESTS[0], DIGESTS[1])
    async with opened(tmp_path):
        check_accounts(tmp_path)
        assert totals(tmp_path) == (1, 1)


async def test_blob_that_was_proven_and_may_have_been_replaced_is_doubted(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        published = await publish(cache, b"0", key("a"))
    with closing(sqlite3.connect(next((tmp_path / "v1" / "index").glob("*.sqlite")))) as connection, connection:
        connection.execute("UPDATE blobs SET epoch = 0")
    Path(published.path).write_bytes(b"00")
    leave(tmp_path, DIGESTS[0])
    async with opened(tmp_path):
        check_accounts(tmp_path)
    Path(published.path).write_bytes(b"1")
    leave(tmp_path, DIGESTS[0])
    async with opened(tmp_path) as cache:
        assert await whole(cache, key("a")) is None


async def test_intents_survive_who_was_killed_while_taking_them_over(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    put(tmp_path, DIGESTS[0], b"0")
    leave(tmp_path, DIGESTS[0])
    second = Owner(str(tmp_path / "v1" / "tmp"))
    assert second.sweep()
    assert [parse_intents(text) for text in second.inherited()] == [[DIGESTS[0]]]
    forsake(second)
    async with opened(tmp_path):
        assert totals(tmp_path) == (1, 1)


async def test_intents_are_empty_once_the_index_knows(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"0", key("a"))
        assert [path.stat().st_size for path in (tmp_path / "v1" / "tmp").glob("*/intent")] == [0]
        assert not leftovers(tmp_path)


async def test_blobs_that_the_index_could_not_take_are_told_with_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncfetch.cache.index import Index

    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(Index, "apply", lambda *_: False)
            await publish(cache, b"0", key("a"))
            await publish(cache, b"1", key("b"))
            assert totals(tmp_path) == (0, 0)
            (intent,) = (tmp_path / "v1" / "tmp").glob("*/intent")
            assert set(parse_intents(intent.read_bytes())) == set(DIGESTS[:2])
        await publish(cache, b"2", key("c"))
        check_accounts(tmp_path)
        assert totals(tmp_path) == (3, 3)
        assert not leftovers(tmp_path)


async def test_what_the_index_never_took_is_left_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncfetch.cache.index import Index

    async with opened(tmp_path):
        pass
    with monkeypatch.context() as patch:
        async with opened(tmp_path) as cache:
            patch.setattr(Index, "apply", lambda *_: False)
            await publish(cache, b"0", key("a"))
    assert totals(tmp_path) == (0, 0)
    async with opened(tmp_path):
        check_accounts(tmp_path)
        assert totals(tmp_path) == (1, 1)
    assert list((tmp_path / "v1" / "tmp").iterdir()) == []


async def test_eviction_amid_a_batch_forgets_none_of_its_intents(tmp_path: Path) -> None:
    owner = Owner(str(tmp_path))
    intents = Intents(owner)
    intents.declare(DIGESTS[:1])
    intents.declare_victims(DIGESTS[1:])
    assert parse_intents(Path(owner.intents).read_bytes()) == DIGESTS
    intents.fulfil_victims()
    assert DIGESTS[0] in parse_intents(Path(owner.intents).read_bytes())
    intents.fulfil()
    intents.declare_victims(DIGESTS[1:])
    intents.fulfil_victims()
    assert Path(owner.intents).read_bytes() == b""
    intents.close()
    owner.close()


async def test_object_whose_blob_is_gone_is_forgotten_by_who_looked_it_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        published = await publish(cache, b"0", key("a"))
        Path(published.path).unlink()
        assert await look_up(cache, key("a")) == [None]
        assert await settled(cache) == (0, 0, 0, 0, 0, 0)
        assert totals(tmp_path) == (0, 0)


async def test_blob_that_came_back_before_it_was_forgotten_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process places it after the look-up has missed it, and before the index is told of that."""
    async with opened(tmp_path) as cache:
        published = await publish(cache, b"0", key("a"))
        Path(published.path).unlink()
        size_of = files.readable_size
        missed: list[int | None] = []

        def late(path: str) -> int | None:
            size = size_of(path)
            if path == published.path and not missed:
                missed.append(size)
                Path(path).write_bytes(b"0")
            return size

        monkeypatch.setattr(files, "readable_size", late)
        assert await look_up(cache, key("a")) == [None]
        assert missed == [None]
        assert await look_up(cache, key("a")) != [None]
        check_accounts(tmp_path)


@given(st.lists(st.sampled_from(DIGESTS)), st.integers(0, 300))
def test_intents_cut_short_anywhere_name_what_is_whole(digests: list[str], cut: int) -> None:
    text = "".join(f"{digest}\n" for digest in digests).encode()[:cut]
    assert parse_intents(text) == digests[: text.count(b"\n")]


def test_intents_go_on_where_their_directory_was_swept_by_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    owner, sweeper = Owner(str(tmp_path)), Owner(str(tmp_path))
    intents = Intents(owner)
    intents.declare(DIGESTS[:1])
    before = owner.new_path()
    sweeper.sweep()
    assert [parse_intents(text) for text in sweeper.inherited()] == [DIGESTS[:1]]
    owner.renew(before)
    intents.declare(DIGESTS[1:2])
    assert parse_intents(Path(owner.intents).read_bytes()) == DIGESTS[1:2]
    intents.fulfil()
    assert os.stat(owner.intents).st_size == 0
    intents.close()
    owner.close()
    sweeper.close()
    assert not blobs(tmp_path)
