"""Which prefixes are refused, told from what was granted and refused; and what becomes of their bucket."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.engine.places import MOST_BRANCHES, Place
from asyncfetch.engine.prefixes import MOST, Tally
from tests.soak import examples


def tally(**answers: str) -> dict[str, tuple[int, int]]:
    """What is told apart of answers by directory, `a_b` being `a/b/`: `+` for one that was granted, `-` for refused."""
    told = Tally(0.0)
    for turn in range(max(map(len, answers.values()))):
        for name, marks in answers.items():
            if turn < len(marks):
                told.add(name.replace("_", "/") + f"/{turn}.jpg", refused=marks[turn] == "-")
    return {prefix: (count.granted, count.refused) for prefix, count in told.apart().items()}


def test_a_prefix_that_is_refused_beside_one_that_is_not() -> None:
    assert tally(hot="-+-+-+-+", cold="+" * 20) == {"hot/": (4, 4)}


def test_the_narrowest_that_can_be_told_apart() -> None:
    found = tally(data_hot_a="-+-+", data_hot_b="-+--", data_cold="+" * 20, other="+" * 40)
    assert found == {"data/hot/": (3, 5)}
    assert tally(data_hot_a="----", data_hot_b="+" * 20, other="+" * 40) == {"data/hot/a/": (0, 4)}


def test_several_at_once() -> None:
    assert tally(a="-----", b="-+-+-+-+", c="+" * 20).keys() == {"a/", "b/"}


@pytest.mark.parametrize(
    "answers",
    [
        {"hot": "-+-+-+-+"},  # nothing else was asked
        {"hot": "-+-+-+-+", "cold": "++"},  # which may have been luck
        {"hot": "-+-+-+-+", "cold": "-+-+-+-+"},  # it is the bucket
        {"hot": "---", "cold": "+" * 40},  # an accident
        {"hot": "-+++" + "+" * 96, "cold": "+" * 100},  # so are these
        {"hot_a": "-" * 8, "hot_b": "-" * 8, "hot_c": "+"},
    ],
)
def test_where_no_part_is_known_to_be_free_it_is_the_bucket(answers: dict[str, str]) -> None:
    assert tally(**answers) == {}


def test_keys_without_a_directory_of_their_own_cannot_be_told_apart() -> None:
    told = Tally(0.0)
    for turn in range(20):
        told.add(f"{turn}", refused=True)
        told.add(f"cold/{turn}", refused=False)
    assert told.apart() == {}


@given(
    st.lists(st.tuples(st.sampled_from(["", "a/", "a/b/", "a/c/", "d/", "e//f/", "/"]), st.booleans()), max_size=600)
)
@settings(max_examples=examples(40))
def test_what_is_told_apart_is_refused_and_within_bounds(answers: list[tuple[str, bool]]) -> None:
    told = Tally(0.0)
    for prefix, refused in answers:
        told.add(f"{prefix}x", refused=refused)
    kept = answers[:MOST]
    found = told.apart()
    for prefix, count in found.items():
        inside = [refused for name, refused in kept if name.startswith(prefix)]
        assert prefix.endswith("/")
        assert (len(inside) - sum(inside), sum(inside)) == count
        assert not any(prefix != other and prefix.startswith(other) for other in found)


def place(name: str = "s3://bucket") -> Place:
    return Place(name, most=64, patience=300.0, now=0.0)


def ask(bucket: Place, hot: str, at: float, *, cold: str = "cold/", turns: int = 60) -> list[Place]:
    """Has one prefix refused and another granted, in turn, until something comes of it."""
    made: list[Place] = []
    for turn in range(turns):
        now = at + turn * 0.001
        bucket.answered(now, now - 0.0005, 1, f"{cold}{turn}")
        made += bucket.refused(now, now - 0.0005, f"{hot}{turn}")
        if made:
            break
    return made


def test_a_throttled_prefix_is_a_place_of_its_own_and_the_rest_goes_on() -> None:
    bucket = place()
    (branch,) = ask(bucket, "hot/", 1.0)
    assert branch.name == "s3://bucket/hot/"
    assert branch.pace.rate < math.inf
    assert bucket.pace.rate == math.inf
    assert bucket.window.limit >= 16
    assert bucket.under("hot/1.jpg") is branch
    assert bucket.under("hotter/1.jpg") is bucket.under("hot") is bucket
    assert branch.standing is bucket.standing, "that it answers is known of all of it"


def test_what_was_sent_before_makes_no_more_of_it() -> None:
    bucket = place()
    (branch,) = ask(bucket, "hot/", 1.0)
    for turn in range(100):
        assert bucket.refused(1.5, 1.0, f"hot/{turn}") == []
    assert bucket.pace.rate == math.inf
    assert bucket.branches == {"hot/": branch}


def test_the_longest_prefix_counts() -> None:
    bucket = place()
    (wide,) = ask(bucket, "a/", 1.0)
    (narrow,) = ask(wide, "a/b/", 2.0, cold="a/c/")
    assert bucket.under("a/b/1") is narrow
    assert bucket.under("a/c/1") is wide
    assert wide.pace.rate == math.inf, "it is known to be free but for that"


def test_however_many_prefixes_are_throttled_few_are_remembered() -> None:
    bucket = place()
    for number in range(200):
        for branch in ask(bucket, f"hot{number}/", 1.0 + number):
            branch.queue.append(None)  # type: ignore[arg-type] # somebody
        assert len(bucket.branches) <= MOST_BRANCHES
    assert bucket.pace.rate < math.inf, "then it is the bucket"


def test_those_that_nobody_asks_for_any_more_make_room() -> None:
    bucket = place()
    for number in range(200):
        ask(bucket, f"hot{number}/", 1.0 + number)
        for branch in bucket.branches.values():
            branch.pace.free()  # as happens to it after some seconds
        assert len(bucket.branches) <= MOST_BRANCHES
    assert bucket.pace.rate == math.inf
    assert "hot199/" in bucket.branches


def test_hosts_of_the_web_have_no_such_prefixes() -> None:
    host = place("https://host")
    assert ask(host, "/hot/", 1.0, cold="/cold/") == []
    assert host.pace.rate < math.inf


def test_after_an_outage_nothing_is_held_back() -> None:
    bucket = place()
    (branch,) = ask(bucket, "hot/", 1.0)
    branch.restart(2.0)
    assert all(member.pace.rate == math.inf for member in bucket.family())
