"""Canonical JSON: one text for equal values, which gives the same values back.

UTF-8 without a mark, keys in the order of their code points, no blanks, characters as they are. Whole numbers have all
their digits, floats the shortest text that is the same float (RFC 8785 would round whole numbers beyond 2^53, and sorts
by UTF-16). What JSON has no word for is refused: NaN and infinities (RFC 8259, section 6), keys that are not text,
tuples, bytes, dates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from asyncfetch.datastore.errors import DocumentDamaged, NotStorable

_DEPTH = 200  # of lists in lists: each takes some frames of the stack, of which Python has 1,000
_DIGITS = 4_000  # of a whole number: Python reads no more than 4,300 of a text


def encode_json(value: object, what: str = "the object") -> bytes:
    """The canonical text of a dict or list.

    Raises `NotStorable`, which says where in it, for what would not come back equal.
    """
    _check(value, what, "$", 0)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:
        raise NotStorable(f"{what} has text in it that is not valid Unicode: half of a surrogate pair") from None
    except (TypeError, ValueError) as error:
        raise NotStorable(f"{what} is not JSON: {error}") from None


def decode_json(data: bytes, uri: str) -> Any:
    """The value of a text. Raises `DocumentDamaged`, which names `uri`, when it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DocumentDamaged(uri, f"the content is not JSON ({type(error).__name__})") from None


def plain_metadata(given: object, what: str) -> dict[str, Any] | None:
    """A dict of JSON from what a user says of something; tuples become lists, as nothing is promised to come back.

    Raises `NotStorable` for what is not JSON.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise NotStorable(f"{what} must be a dict, not {type(given).__name__}")
    plain = _listed(dict(given), 0)
    encode_json(plain, what)
    return dict(plain)


def _listed(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        return value  # the check refuses it
    if isinstance(value, dict):
        return {key: _listed(item, depth + 1) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_listed(item, depth + 1) for item in value]
    return value


def _check(value: object, what: str, at: str, depth: int) -> None:
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(what, at, f"{value!r}, which JSON has no word for", "Use None, or store an array.")
        return
    if isinstance(value, int):
        if value.bit_length() > _DIGITS * 3:  # a digit has 3.3 bits
            _refuse(what, at, f"a whole number of {value.bit_length():,} bits", "Store it as text.")
        return
    if depth > _DEPTH:
        _refuse(what, at[:200], f"values nested more than {_DEPTH} deep", "")
    if isinstance(value, dict):
        _check_dict(value, what, at, depth)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, what, f"{at}[{index}]", depth + 1)
    elif isinstance(value, tuple):
        _refuse(what, at, "a tuple, which would come back as a list", "Use a list.")
    else:
        remedy = "Use its .item() or .tolist()." if hasattr(value, "tolist") else ""
        _refuse(what, at, f"{_article(type(value).__name__)}, which JSON has no word for", remedy)


def _check_dict(value: Mapping[object, object], what: str, at: str, depth: int) -> None:
    for key, item in value.items():
        if not isinstance(key, str):
            _refuse(what, at, f"the key {key!r}, which would come back as text", "Use keys that are text.")
        _check(item, what, f"{at}.{key}", depth + 1)


def _refuse(what: str, at: str, found: str, remedy: str) -> NoReturn:
    raise NotStorable(f"{what} has at {at} {found}", remedy=remedy)


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun}"
