"""The ledger of failures: whole lines whatever happens, and the way back to sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.ledger import Ledger, read_ledger
from asyncfetch.objects import Failure


def failure(uri: str, payload: Any = None) -> Failure:
    return Failure(uri, 3, payload, "fetch", 2, ObjectNotFound(uri, "no such object"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(sources=st.lists(st.tuples(st.text(st.characters()), json_values), max_size=5, unique_by=lambda pair: pair[0]))
def test_what_went_in_comes_out_as_sources(
    tmp_path_factory: pytest.TempPathFactory, sources: list[tuple[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "failures.jsonl"
    with Ledger(path) as ledger:
        for uri, payload in sources:
            ledger.write(failure(uri, payload))
    assert read_ledger(path) == [uri if payload is None else (uri, payload) for uri, payload in sources]


def test_a_line_says_what_happened(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(failure("s3://b/k", {"label": 1}))
        line = json.loads((tmp_path / "ledger").read_bytes())
    assert line.pop("time") > 1.7e9
    assert line == {
        "uri": "s3://b/k",
        "index": 3,
        "payload": {"label": 1},
        "stage": "fetch",
        "attempts": 2,
        "error": "ObjectNotFound",
        "message": "s3://b/k: no such object",
    }


def test_a_payload_that_json_cannot_say_is_left_out(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(failure("s3://b/object", object()))
        ledger.write(failure("s3://b/loop", loop))
    assert read_ledger(tmp_path / "ledger") == ["s3://b/object", "s3://b/loop"]


def test_each_source_is_named_once_however_often_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for _ in range(2):
        with Ledger(path) as ledger, Ledger(path) as another:
            ledger.write(failure("s3://b/1", [1]))
            another.write(failure("s3://b/2"))
            ledger.write(failure("s3://b/1", [2]))
    assert len(path.read_bytes().splitlines()) == 6
    assert read_ledger(path) == [("s3://b/1", [1]), "s3://b/2", ("s3://b/1", [2])]


def test_the_line_that_a_writer_died_in_hurts_no_other(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.write(failure("s3://b/1"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert read_ledger(path) == ["s3://b/1"]
    with Ledger(path) as ledger:
        ledger.write(failure("s3://b/2"))
    assert read_ledger(path) == ["s3://b/1", "s3://b/2"]


@pytest.mark.parametrize("text", ["hello\n", "{}\n", "[1]\n", '{"uri": 3}\n', "s3://bucket/key\n"])
def test_another_file_is_refused_by_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger").write_text("\n" + text)
    with pytest.raises(UsageError, match="line 2"):
        read_ledger(tmp_path / "ledger")


@pytest.mark.parametrize("path", ["failures\0.jsonl", "failures\ud800.jsonl"])
def test_what_cannot_be_a_path_is_refused_by_name(tmp_path: Path, path: str) -> None:
    for use in (Ledger, read_ledger):
        with pytest.raises(UsageError, match=r"failures.*cannot be a path"):
            use(tmp_path / path)
