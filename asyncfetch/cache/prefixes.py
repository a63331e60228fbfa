"""Look-ups and hits of prefixes of one slash or two, as far as that costs next to nothing.

A directory that has more others in it than are told apart, as the classes or shards of a data set, has one counter for
all of them.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING

from asyncfetch.cache.records import Found

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asyncfetch.cache.records import RefKey

SLASHES = 2  # data sets are a bucket's directories, or lie side by side in one of them: `datasets/flowers/`
MOST_IN_ONE = 100  # directories that are told apart in a bucket, or in one of its directories
# Of all in one process: once a second the index is told of those that changed meanwhile, at 4 us each.
MOST = 1000

Name = tuple[str, str, str]  # of a counter: an endpoint, a container and a prefix

_key = itemgetter(2)  # of a `RefKey`


class Prefixes:
    """What one process has counted. For one thread at a time."""

    def __init__(self) -> None:
        self._counts: dict[Name, list[int]] = {}  # look-ups and hits
        self._below: dict[Name, int] = {}  # how many directories are told apart in each
        self.wide: set[Name] = set()  # those in which no more are

    def __iter__(self) -> Iterator[tuple[Name, list[int]]]:
        """Each counter: look-ups, and the hits among them."""
        return iter(self._counts.items())

    def looked_up(self, keys: Sequence[RefKey], kinds: Sequence[type], hits: int, first: RefKey, last: RefKey) -> None:
        """Counts look-ups of one place, of which `first` and `last` are the least and the greatest key."""
        name = self._shared(keys, first, last)
        if name is not None:
            self._add(name, len(keys), hits)
            return
        folders = [key[: key.rfind("/") + 1] for key in map(_key, keys)]
        looked_up = found = Counter(folders)
        if hits < len(keys):
            found = Counter(compress(folders, [kind is Found for kind in kinds]))
        endpoint, container, *_ = first
        for folder, number in looked_up.items():
            self._add((endpoint, container, _prefix(folder)), number, found[folder])

    def one(self, key: RefKey, *, hit: bool) -> None:
        """Counts one look-up."""
        endpoint, container, path, _ = key
        self._add((endpoint, container, _prefix(path[: path.rfind("/") + 1])), 1, hit)

    def _shared(self, keys: Sequence[RefKey], first: RefKey, last: RefKey) -> Name | None:
        """What counts all of these keys; None where that are several.

        As a rule two of them say so: no key that begins otherwise lies between two that begin alike.
        """
        endpoint, container, least, _ = first
        greatest = last.key
        prefix = _prefix(least[: least.rfind("/") + 1])
        if self.wide:
            for wide in "", prefix[: prefix.find("/") + 1]:
                if (endpoint, container, wide) in self.wide and greatest.startswith(wide):
                    return endpoint, container, wide
        if not greatest.startswith(prefix):
            return None
        slashes = prefix.count("/")
        if slashes < SLASHES and "".join(map(_key, keys)).count("/") > slashes * len(keys):
            return None  # some lie deeper
        return endpoint, container, prefix

    def _add(self, name: Name, look_ups: int, hits: int) -> None:
        counts = self._counts.get(name) or self._find(name)
        if counts is not None:
            counts[0] += look_ups
            counts[1] += hits

    def _find(self, name: Name) -> list[int] | None:
        """The counter of a prefix, or of a directory above it that is wide; None where there is room for none."""
        endpoint, container, prefix = name
        bucket = endpoint, container, ""
        if bucket not in self._below:
            if len(self._below) >= MOST:
                return None
            self._below[bucket] = 0
        folder = endpoint, container, prefix[: prefix.find("/") + 1]
        if not self._tells_apart(bucket, folder):
            name = bucket
        elif not self._tells_apart(folder, name):
            name = folder
        return self._counts.setdefault(name, [0, 0])

    def _tells_apart(self, folder: Name, inner: Name) -> bool:
        if inner in self._below:
            return True
        if self._below[folder] >= MOST_IN_ONE or len(self._below) >= MOST:
            self.wide.add(folder)
            return False
        self._below[folder] += 1
        self._below[inner] = 0
        return True


@lru_cache(MOST)
def _prefix(folder: str) -> str:
    """The prefix that counts what is in a directory, whose name ends in a slash or is empty."""
    return "".join(part + "/" for part in folder.split("/", SLASHES)[:-1])
