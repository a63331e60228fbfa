"""What a database knows of objects: many keys in one statement, as each of its own takes three times as long."""

from __future__ import annotations

import functools
import itertools
from operator import attrgetter
from typing import TYPE_CHECKING

from asyncfetch.cache.records import Known, Ref

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from asyncfetch.cache.records import RefKey
    from asyncfetch.settings import Digest

# A statement for each key took 18,600 instructions for one that is not there and 36,500 for one that is; of 64 keys
# together each takes 5,600 and 22,400. Keys that are NULL are nobody's.
_FIND = """
WITH wanted (place, name) AS (VALUES {})
SELECT place, refs.size, etag, refs.digest, validated, last_modified, used, epoch, pinned, header
FROM wanted CROSS JOIN refs ON endpoint = ? AND container = ? AND version = ? AND refs.algorithm = ? AND key = name
LEFT JOIN blobs ON blobs.algorithm = refs.algorithm AND blobs.digest = refs.digest
"""
_MOST_TOGETHER = 64


def rows(connection: sqlite3.Connection, keys: Sequence[RefKey], algorithm: Digest) -> list[Known | None]:
    """What a database knows of each object. Raises `sqlite3.Error`, and `AttributeError` or `TypeError` for damage."""
    prefix = algorithm + ":"
    found: list[Known | None] = [None] * len(keys)
    start = 0
    for where, group in itertools.groupby(keys, _where):
        names: list[str | None] = list(map(_name, group))
        end = start + len(names)
        while start < end:
            some, names = names[:_MOST_TOGETHER], names[_MOST_TOGETHER:]
            width = 1 << (len(some) - 1).bit_length()
            values = (*some, *[None] * (width - len(some)), *where, algorithm)
            for place, size, etag, name, validated, modified, *blob in connection.execute(_find(width), values):
                found[start + place] = Known(Ref(size, etag, prefix + name.hex(), validated, modified), *blob)
            start += len(some)
    return found


_where = attrgetter("endpoint", "container", "version")
_name = attrgetter("key")


@functools.cache
def _find(width: int) -> str:
    """The statement that finds so many keys."""
    return _FIND.format(", ".join(f"({place}, ?)" for place in range(width)))
