"""Which blobs go first: each that may go once, none that may not, and the longest unused before the rest."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import database, oldest
from asyncfetch.cache.oldest import Oldest, Victim
from asyncfetch.cache.sums import Sums, drop_known_blobs

SIZE = 10


class Blob(NamedTuple):
    used: float
    pinned: bool = False
    algorithm: str = "blake3"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[Blob]], sqlite3.Connection]]:
    connection = database.connect(str(tmp_path_factory.mktemp("oldest") / "index.sqlite"), create=True)

    def filled(blobs: list[Blob]) -> sqlite3.Connection:
        connection.execute("DELETE FROM blobs")
        connection.execute("UPDATE totals SET blobs = 0, blob_bytes = 0")
        connection.execute("DELETE FROM counters")
        rows = [(b.algorithm, name_of(n), SIZE, b.used, 1, b.pinned, None) for n, b in enumerate(blobs)]
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        sums = Sums()
        sums.blobs, sums.blob_bytes = len(rows), SIZE * len(rows)
        sums.add(connection)
        connection.execute("COMMIT")
        return connection

    yield filled
    connection.close()


def name_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def remove(connection: sqlite3.Connection, victims: list[Victim]) -> None:
    drop_known_blobs(connection, [(one.algorithm, one.name) for one in victims], [one.size for one in victims])


def all_that_go(connection: sqlite3.Connection, first: Oldest, before: float, most: int = 7) -> list[Victim]:
    gone: list[Victim] = []
    while True:
        victims = first.take(connection, before, 1_000_000, most)
        assert len(victims) <= most
        remove(connection, victims)
        gone += victims
        if first.exhausted:
            return gone


@given(
    st.lists(st.builds(Blob, st.integers(0, 20), st.booleans(), st.sampled_from(["blake3", "sha256"])), max_size=60),
    st.integers(0, 21),
    st.integers(1, 9),
)
@pytest.mark.parametrize("few", [5, 1000])
def test_all_that_may_go_goes_once_and_nothing_else(
    index: Callable[[list[Blob]], sqlite3.Connection],
    few: int,
    blobs: list[Blob],
    before: float,
    most: int,
) -> None:
    connection = index(blobs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oldest, "FEW", few)
        patch.setattr(oldest, "PASSED", 9)
        gone = all_that_go(connection, Oldest(), before, most)
    may_go = {
        (one.algorithm, name_of(number)) for number, one in enumerate(blobs) if one.used < before and not one.pinned
    }
    assert sorted(may_go) == sorted((one.algorithm, one.name) for one in gone)


def test_few_go_in_the_order_of_their_uses(index: Callable[[list[Blob]], sqlite3.Connection]) -> None:
    uses = random.Random(7).sample(range(1000), 1000)
    connection, first = index([Blob(used) for used in uses]), Oldest()
    gone = all_that_go(connection, first, 990)
    numbers = {name_of(number): used for number, used in enumerate(uses)}
    assert [numbers[one.name] for one in gone] == list(range(990))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.4])
def test_of_many_the_longest_unused_go_first(index: Callable[[list[Blob]], sqlite3.Connection], share: float) -> None:
    count = 20_000
    uses = random.Random(7).sample(range(count), count)
    connection, first = index([Blob(used) for used in uses]), Oldest()
    need, gone = int(count * share) * SIZE, list[Victim]()
    assert first.horizon(connection, count) <= count * 0.01
    while len(gone) * SIZE < need:
        victims = first.take(connection, count, need - len(gone) * SIZE, 64)
        remove(connection, victims)
        gone += victims
    numbers = {name_of(number): used for number, used in enumerate(uses)}
    assert len(gone) * SIZE == need
    assert max(numbers[one.name] for one in gone) <= count * (max(share, 0.1) + 0.1), "a sample may fall short by some"


def test_who_comes_next_goes_on_where_the_hand_is(index: Callable[[list[Blob]], sqlite3.Connection]) -> None:
    """Where it was a moment ago there is less to find."""
    connection = index([Blob(1)] * 3000)
    places = [victims[-1].name for _ in range(5) if (victims := Oldest().take(connection, 2, 1000 * SIZE, 64))]
    assert len(set(places)) == 5
    assert sorted(places) == places


def test_what_did_not_go_is_met_again(index: Callable[[list[Blob]], sqlite3.Connection]) -> None:
    connection, first = index([Blob(1)] * 3000), Oldest()
    connection.execute("BEGIN")
    victims = first.take(connection, 2, 1000 * SIZE, 64)
    connection.execute("ROLLBACK")
    assert victims == first.take(connection, 2, 1000 * SIZE, 64)


def test_several_find_all_in_the_time_of_one(index: Callable[[list[Blob]], sqlite3.Connection]) -> None:
    """What others have passed none looks at again."""
    count = 20_000
    connection = index([Blob(1 if number % 5 == 0 else 100) for number in range(count)])
    processes = [Oldest() for _ in range(8)]
    gone = slices = 0
    while gone < count // 5:
        victims = processes[slices % 8].take(connection, 50, 1000 * SIZE, 64)
        remove(connection, victims)
        gone += len(victims)
        slices += 1
    assert slices <= count / 5 / 64 * 1.5


def test_when_more_may_go_the_longest_unused_of_that_goes_first(
    index: Callable[[list[Blob]], sqlite3.Connection],
) -> None:
    """A job has ended that held nearly all."""
    count = 20_000
    uses = random.Random(7).sample(range(count), count)
    connection, first = index([Blob(used) for used in uses]), Oldest()
    few = first.take(connection, 400, 1000 * SIZE, 64)
    remove(connection, few)
    numbers = {name_of(number): used for number, used in enumerate(uses)}
    for _ in range(10):
        victims = first.take(connection, count, 1000 * SIZE, 64)
        assert max(numbers[one.name] for one in victims) <= count * 0.13
        remove(connection, victims)


def test_sample_at_the_end_of_all_digests_is_as_large_as_any(
    index: Callable[[list[Blob]], sqlite3.Connection],
) -> None:
    count = 2000
    uses = random.Random(7).sample(range(count), count)
    connection, first = index([Blob(used, algorithm="sha256") for used in uses]), Oldest()
    end = oldest._ALGORITHMS.index("sha256") * oldest._SPAN + oldest._SPAN - oldest._SPAN // 1000
    connection.execute("INSERT OR REPLACE INTO counters VALUES ('hand', ?)", (end,))
    numbers = {name_of(number): used for number, used in enumerate(uses)}
    for _ in range(3):
        victims = first.take(connection, count, 64 * SIZE, 64)
        assert max((numbers[one.name] for one in victims), default=0) <= count * 0.14
        remove(connection, victims)


def test_few_that_may_go_among_many_are_found_in_one_lap(
    index: Callable[[list[Blob]], sqlite3.Connection],
) -> None:
    count = 20_000
    connection, first = index([Blob(1 if number % 5000 == 0 else 100) for number in range(count)]), Oldest()
    gone, slices = 0, 0
    while gone < 4:
        victims = first.take(connection, 50, 1000 * SIZE, 64)
        remove(connection, victims)
        gone += len(victims)
        slices += 1
    assert slices <= count / oldest.PASSED * 2 + 4


@pytest.mark.parametrize("count", [20, 3000])
def test_uses_in_the_future_count_as_of_now(index: Callable[[list[Blob]], sqlite3.Connection], count: int) -> None:
    now = time.time()
    connection, first = index([Blob(now + 1e7)] * (count - 1) + [Blob(now + 1e7, pinned=True)]), Oldest()
    assert all_that_go(connection, first, 1e9) == []
    uses = {used for (used,) in connection.execute("SELECT used FROM blobs WHERE pinned = 0")}
    assert all(now <= used <= time.time() for used in uses)
    assert len(all_that_go(connection, first, time.time() + 1)) == count - 1
