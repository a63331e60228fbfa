"""Look-ups and hits of each bucket and host: as answered in the end, and added up in the index by all processes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncfetch.cache import Found, Ref, RefKey, tally
from asyncfetch.cache.index import Index
from asyncfetch.cache.tally import Looked, Tally, by_place

from .helpers import look_up, opened, publish

A, B = RefKey("https://s3.here", "a", "1"), RefKey("", "b", "1")


def told(directory: Path) -> dict[str, int]:
    path = directory / "v1" / "index"
    with closing(sqlite3.connect(path / f"index-{(path / 'CURRENT').read_text()}.sqlite")) as connection:
        return dict(connection.execute("SELECT name, value FROM counters"))


async def test_each_place_has_its_own_and_all_processes_add_to_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        assert await look_up(one, A, B) == [None, None]
        await publish(one, b"bytes", A)
        assert await look_up(other, A, B, A) != [None, None, None]
        assert await one.read(A, lambda _: True) == b"bytes"
        assert await one.read(B, lambda _: True) is None
    counters = told(tmp_path)
    assert (counters["hits"], counters["misses"]) == (3, 4)
    assert by_place(counters) == {A[:2]: Looked(3, 1), B[:2]: Looked(0, 3)}


async def test_what_is_gone_when_it_is_looked_at_again_is_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache:
        path = Path((await publish(cache, b"bytes", A)).path)
    async with opened(tmp_path, max_bytes=1000) as cache:
        apply = Index.apply

        def overtaken(self: Index, *work: object) -> bool:
            path.unlink(missing_ok=True)
            return apply(self, *work)  # type: ignore[arg-type]

        monkeypatch.setattr(Index, "apply", overtaken)
        assert await look_up(cache, A) == [None]
        assert (cache.statistics().look_ups, cache.statistics().hits) == (1, 0)
    assert by_place(told(tmp_path)) == {A[:2]: Looked(0, 1)}


async def test_what_the_index_could_not_take_is_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(Index, "apply", lambda *_: False)
            await look_up(cache, A)
            await publish(cache, b"bytes", A)
        await look_up(cache, A)
        await publish(cache, b"more", B)
    assert by_place(told(tmp_path)) == {A[:2]: Looked(0, 2)}
    assert told(tmp_path)["misses"] == 2


found = Found(Ref(5, None, "blake3:00", 0.0), "path")


def test_places_are_told_once_in_a_while_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Tally()

    def names(*, last: bool = False) -> set[object]:
        names: set[object] = {row[0] for _, row in counted.untold(0, last=last)}
        counted.told()
        return names

    counted.looked_up([A], [None])
    assert names() == {"misses", "misses https://s3.here a", "misses-under https://s3.here a "}
    counted.looked_up([A], [None])
    assert names() == {"misses"}
    monkeypatch.setattr(tally, "PLACES_SECONDS", 0.0)
    assert names() == {"misses https://s3.here a", "misses-under https://s3.here a "}
    monkeypatch.undo()
    counted.looked_up([A, B], [None, found])
    a, b = {"misses https://s3.here a", "misses-under https://s3.here a "}, {"hits  b", "hits-under  b "}
    assert names(last=True) == {"misses", "hits"} | a | b


def test_of_the_whole_web_some_hosts_are_counted_and_all_in_the_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MOST_PLACES", 2)
    counted = Tally()
    counted.looked_up([RefKey("https://", f"host-{number}", "/") for number in range(5)], [found] * 5)
    counters = {str(name): int(str(number)) for _, (name, number) in counted.untold(0)}
    assert len(by_place(counters)) == 2
    assert counters["hits"] == counted.hits == counted.look_ups == 5
