"""Look-ups and hits by prefix: counted together, told apart as far as there are few, and added up by depth."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import Found, Ref, RefKey, prefixes
from asyncfetch.cache.tally import Looked, Tally, by_prefix

FOUND = Found(Ref(5, None, "blake3:00", 0.0), "path")

Told = dict[str, int]


def key(path: str, bucket: str = "bucket") -> RefKey:
    return RefKey("https://s3.here", bucket, path)


def told(*counted: Tally) -> Told:
    """What the index has when all of these have told it for the last time."""
    counters: Counter[str] = Counter()
    for one in counted:
        for _, (name, number) in one.untold(0, last=True):
            counters[str(name)] += int(str(number))
    return counters


def rates(counters: Told, depth: int) -> dict[str, Looked]:
    """Those of all prefixes of one bucket."""
    return {prefix: looked for (*_, prefix), looked in by_prefix(counters, depth).items()}


def look_up(counted: Tally, *paths: str, found: bool = True) -> None:
    counted.looked_up([key(path) for path in paths], [FOUND if found else None] * len(paths))


_PATHS = st.lists(st.sampled_from(["", "a", "b c", "\x00"]), max_size=4).map("/".join)
_GROUPS = st.lists(
    st.lists(st.tuples(st.builds(key, _PATHS, st.sampled_from(["bucket", "other"])), st.booleans()), min_size=1),
    max_size=4,
)


@given(_GROUPS, st.integers(1, 3))
def test_groups_of_whatever_keys_are_counted_as_each_by_itself(
    groups: list[list[tuple[RefKey, bool]]], depth: int
) -> None:
    counted, expected = Tally(), dict[tuple[str, str, str], Looked]()
    for group in groups:
        counted.looked_up([one for one, _ in group], [FOUND if hit else None for _, hit in group])
        for one, hit in group:
            *above, _ = one.key.split("/", depth)
            if len(above) > prefixes.SLASHES:
                continue
            name = one.endpoint, one.container, "".join(f"{part}/" for part in above)
            before = expected.get(name, Looked())
            expected[name] = Looked(before.hits + hit, before.misses + (not hit))
    if depth > prefixes.SLASHES:  # of what has as many slashes as are counted it is not known whether there are more
        expected = {name: looked for name, looked in expected.items() if name[2].count("/") < prefixes.SLASHES}
    assert by_prefix(told(counted), depth) == expected


def test_a_read_counts_as_a_look_up_does() -> None:
    counted = Tally()
    counted.read(key("data/flowers/1"), b"bytes")
    counted.read(key("data/flowers/2"), None)
    assert rates(told(counted), 2) == {"data/flowers/": Looked(1, 1)}


def test_shards_and_classes_are_counted_as_one_and_do_not_disturb_what_lies_beside_them() -> None:
    one, other = Tally(), Tally()
    look_up(one, *[f"data/class-{number:03}/1" for number in range(250)])
    look_up(other, "data/class-000/1", "data/class-001/2", found=False)
    for counted in one, other:
        look_up(counted, "data/7", "text/english/1", "text/1")
    look_up(one, *[f"data/class-{number:03}/2" for number in range(250)])
    counters = told(one, other)
    assert rates(counters, 1) == {"data/": Looked(502, 2), "text/": Looked(4, 0)}
    assert rates(counters, 2) == {"text/english/": Looked(2, 0), "text/": Looked(2, 0)}
    assert sum(name.startswith("hits-under") for name in counters) == prefixes.MOST_IN_ONE + 3


def test_in_a_bucket_of_very_many_directories_none_is_told_apart() -> None:
    counted = Tally()
    for start in range(0, 500, 50):
        look_up(counted, *[f"{number:03}/{number}/1" for number in range(start, start + 50)])
    counted.looked_up([key("data/1", "other")], [FOUND])
    counters = told(counted)
    assert by_prefix(counters, 1) == by_prefix(counters, 2) == {("https://s3.here", "other", "data/"): Looked(1, 0)}
    assert len(counters) < 2 * prefixes.MOST_IN_ONE + 10


def test_of_very_many_prefixes_some_are_counted_and_what_is_told_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "MOST", 10)
    counted = Tally()
    for number in range(20):
        look_up(counted, f"{number % 3}/{number}/1", f"{number % 3}/{number}/2")
    counted.looked_up([key("data/1", "other")] * 2, [FOUND] * 2)
    counters = told(counted)
    assert rates(counters, 1) == {"0/": Looked(14, 0), "1/": Looked(14, 0), "2/": Looked(12, 0)}
    assert rates(counters, 2) == {}
    assert sum(name.startswith("hits-under") for name in counters) <= 10


def test_a_prefix_that_was_looked_up_again_is_told_of_alone() -> None:
    counted = Tally()
    look_up(counted, "data/flowers/1", "data/trees/1")
    told(counted)
    counted.told()
    look_up(counted, "data/trees/1")
    assert rates(told(counted), 2) == {"data/trees/": Looked(1, 0)}
