"""The statements of the cache, read in its source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import asyncfetch.cache

_ROOM = Path(asyncfetch.cache.__file__).parent
_STATEMENT = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE|VALUES|CREATE|ON CONFLICT|AND|WHERE|\w+ = )\b")
_LITERAL = re.compile(r"'[^']*'|--.*")
_NUMBERED, _NAMED = re.compile(r"\?\d"), re.compile(r"(?<![:\w])[:@$][A-Za-z_]")


def named_places(source: str) -> list[str]:
    """The strings that are SQL, or parts of it, and have a place that a number or a name tells from the others."""
    strings = [one.value for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Constant)]
    return [
        text
        for text in strings
        if isinstance(text, str)
        and (_NUMBERED.search(text) or (_STATEMENT.match(text) and _NAMED.search(_LITERAL.sub("", text))))
    ]


@pytest.mark.parametrize("place", ["?1", "?23", ":name", "@name", "$name"])
def test_place_that_is_told_by_a_number_or_a_name_is_seen(place: str) -> None:
    assert named_places(f'FIND = "SELECT size FROM refs WHERE key = {place}"')
    assert not named_places("FIND = \"SELECT size FROM refs WHERE key = ? AND etag = ':tag'\"")


def test_values_are_bound_by_their_order_alone() -> None:
    """Python 3.12.0 to 3.12.3 warn where a sequence is bound to places like `?1`, and 3.14 refuses named ones."""
    found = {path: named_places(path.read_text()) for path in sorted(_ROOM.rglob("*.py"))}
    assert len(found) > 40
    assert {path: texts for path, texts in found.items() if texts} == {}
