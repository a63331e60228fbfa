"""The objects of an export, one a line of JSON, and what a line must be to be believed."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from asyncfetch.cache.records import Ref, RefKey
from asyncfetch.cache.upkeep.selection import Place, uri_of
from asyncfetch.uris import parse

_DIGEST = re.compile(r"(?:blake3|sha256):[0-9a-f]{64}\Z")
_ENDPOINT = re.compile(r"(?:https?://[^/\s]*(?:/\S*)?)?\Z")
_MOST_TEXT = 16_384  # characters of one value; a key of S3 has 1,024 bytes at most, a URL what servers take
_MOST_SIZE = 1 << 62
_MOST_TIME = 1e11  # seconds since 1970: in 3,000 years


def write_line(key: RefKey, ref: Ref) -> bytes:
    """The line of one object."""
    values = {**key._asdict(), **ref._asdict()}
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_line(line: bytes) -> tuple[RefKey, Ref]:
    """Reads what `write_line` wrote. Raises `ValueError`, which says what is wrong, for all else."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(values, dict) or set(values) != _FIELDS:
        raise ValueError(f"does not have just {', '.join(sorted(_FIELDS))}")
    key = RefKey(*(_text(values, name) for name in RefKey._fields))
    digest = _text(values, "digest")
    if not _DIGEST.match(digest):
        raise ValueError("has no digest such as blake3:<64 hexadecimal digits>")
    size = values["size"]
    if type(size) is not int or not 0 <= size < _MOST_SIZE:
        raise ValueError("has no size in bytes")
    etag = None if values["etag"] is None else _text(values, "etag")
    last_modified = None if values["last_modified"] is None else _time(values, "last_modified")
    ref = Ref(size, etag, digest, _time(values, "validated"), last_modified)
    _check_name(key)
    return key, ref


def _text(values: dict[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str) or len(value) > _MOST_TEXT or not _is_unicode(value):
        raise ValueError(f"has no {name} that is a text of at most {_MOST_TEXT:,} characters")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair, which JSON can say
        return False
    return True


def _time(values: dict[str, Any], name: str) -> float:
    value = values[name]
    if type(value) not in (int, float) or not abs(value) < _MOST_TIME or math.isnan(value):
        raise ValueError(f"has no {name} in seconds since 1970")
    return float(value)


def _check_name(key: RefKey) -> None:
    """Refuses what no fetch could ever have asked for."""
    if not _ENDPOINT.match(key.endpoint):
        raise ValueError("has an endpoint that is no URL")
    location = parse(uri_of(key))  # which raises a ValueError
    if (location.scheme, location.container, location.key, location.version or "") != (
        Place(*key[:2]).scheme,
        *key[1:],
    ):
        raise ValueError("has a name that is no URI")


_FIELDS = {*RefKey._fields, *Ref._fields}
