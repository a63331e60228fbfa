"""Canonical JSON: the same text for equal values, the same values back, and a refusal for the rest."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.datastore import DocumentDamaged, NotStorable
from asyncfetch.datastore.canonical import decode_json, encode_json, plain_metadata

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def exactly(value: Any) -> Any:
    """With types and signs: 1, 1.0 and True are equal to Python, as are 0.0 and -0.0."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return type(value), value, isinstance(value, float) and math.copysign(1, value)


@given(st.lists(VALUES, max_size=4))
def test_a_value_comes_back_with_its_types(value: list[Any]) -> None:
    assert exactly(decode_json(encode_json(value), "x")) == exactly(value)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_equal_values_have_one_text_whatever_their_order(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert encode_json(turned) == encode_json(value)


def test_the_text_is_plain_json_in_utf_8() -> None:
    assert encode_json({"ü": [1, 0.1, 2**70, None], "a": "\u2028"}) == (
        '{"a":"\u2028","ü":[1,0.1,1180591620717411303424,null]}'.encode()
    )
    assert json.loads(encode_json([True])) == [True]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, math.nan]}, r"\$\.a\[1\] nan"),
        ([math.inf], r"\$\[0\] inf"),
        ([-math.inf], r"\$\[0\] -inf"),
        ({"a": {1: 2}}, r"\$\.a the key 1"),
        ({None: 1}, "the key None"),
        ([(1, 2)], "a tuple"),
        ([b"x"], "a bytes"),
        ([{1}], "a set"),
        ([object()], "an object"),
        (["\ud800"], "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        ([10**5000], "whole number"),
    ],
)
def test_what_would_not_come_back_is_refused_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(NotStorable, match=told):
        encode_json(value)


def test_a_list_in_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotStorable, match="deep"):
        encode_json(value)
    with pytest.raises(NotStorable, match="deep"):
        plain_metadata({"a": value}, "metadata")


def test_tuples_of_metadata_become_lists() -> None:
    assert plain_metadata({"shape": (3, (4,))}, "metadata") == {"shape": [3, [4]]}


def test_what_is_no_json_is_named() -> None:
    with pytest.raises(DocumentDamaged, match="s3://bucket/key"):
        decode_json(b"{", "s3://bucket/key")
