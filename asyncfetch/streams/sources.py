"""What a user hands in, read once: text, location, what a listing said of it, and the payload."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from asyncfetch.errors import UsageError
from asyncfetch.objects import Name, ObjectStat, Source
from asyncfetch.uris import Location, parse

# One source, read: its text, and what a listing said of it.
Named: TypeAlias = tuple[str, Location, ObjectStat | None]


def read_name(name: Name) -> Named:
    """Reads what names an object. Raises `InvalidURI` for a text that cannot, `UsageError` for what is no name."""
    if type(name) is str:
        return name, parse(name), None
    if isinstance(name, ObjectStat):
        return name.uri, parse(name.uri), name
    if isinstance(name, Location):
        return str(name), name, None
    if isinstance(name, str | os.PathLike):
        return os.fspath(name), parse(name), None
    raise UsageError(
        f"{_brief(name)} names no object",
        remedy="Sources are URIs, paths, locations or listed objects, alone or as (name, payload).",
    )


def split(source: Source) -> tuple[Name, Any]:
    """Splits a source into name and payload."""
    if isinstance(source, tuple) and not isinstance(source, Location | ObjectStat):
        if len(source) != 2:
            raise UsageError(f"{_brief(source)} is not (name, payload)")
        return source
    return source, None


def identity(source: object) -> str:
    """The name in a source, as text that is the same in another process; what has none is told by its `repr`."""
    name = source[0] if type(source) is tuple and len(source) == 2 else source
    if isinstance(name, str):
        return name
    if isinstance(name, ObjectStat):
        return name.uri
    if isinstance(name, Location):
        return str(name)
    path = os.fspath(name) if isinstance(name, os.PathLike) else name
    return path if isinstance(path, str) else _brief(path)


def text_of(source: object) -> str:
    """What a failure calls a source that could not be read."""
    name = source[0] if type(source) is tuple and len(source) == 2 else source
    return name if isinstance(name, str) else _brief(name)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"
