"""The objects that are fetched: made once in a work directory, named by a manifest with their digests, and kept."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from bench.names import BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST_VERSION = 1
SMALL, LARGE = 4 << 10, 64 << 20
# Of the photographs' JPEGs (20 to 170 KB) those between: two in five of all, of 86 KB on average.
_LEAST, _MOST = 62_000, 120_000
WARM_UP_COUNT = 8


class Item(NamedTuple):
    """One object: its key, its size in bytes and the BLAKE3 digest of them in hex."""

    key: str
    size: int
    digest: str


class DataSet(NamedTuple):
    """Objects as files: the object `key` is `root/bench/key`. `warm_up` are others of the kind, to begin with."""

    root: Path
    items: tuple[Item, ...]
    warm_up: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        """What the objects weigh together."""
        return sum(item.size for item in self.items)

    def path(self, item: Item) -> Path:
        """The file of one object."""
        return self.root / BUCKET / item.key


def make(work: Path, kind: str, count: int) -> DataSet:
    """Gives the first `count` objects of a kind, making those that are not there.

    Kinds are `"photos"`, `"mixed"`, `"small"` and `"large"`. They are the same each time. Raises `OSError` when they
    cannot be written, `ExtraMissing` when the photographs are not installed.
    """
    root = work / "objects"
    warm_up = _ensure(work, root, "warm-up", WARM_UP_COUNT)
    items = _ensure(work, root, kind, count)
    return DataSet(root, tuple(items[:count]), tuple(warm_up[:WARM_UP_COUNT]))


def load(root: Path, kind: str, count: int) -> DataSet:
    """What `make` has made below `root`, read from the manifests."""
    items, warm_up = _read(root.parent, kind), _read(root.parent, "warm-up")
    return DataSet(root, tuple(items[:count]), tuple(warm_up[:WARM_UP_COUNT]))


def _ensure(work: Path, root: Path, kind: str, count: int) -> list[Item]:
    items = _read(work, kind)
    if len(items) >= count:
        return items
    (root / BUCKET / kind).mkdir(parents=True, exist_ok=True)
    items = []
    for index, (name, data) in enumerate(_bodies(kind, count)):
        key = f"{kind}/{index:06d}{name}"
        _publish(root / BUCKET / key, data)
        items.append(Item(key, len(data), blake3(data).hexdigest()))
    _publish(_manifest(work, kind), json.dumps({"version": MANIFEST_VERSION, "items": items}).encode())
    return items


def _bodies(kind: str, count: int) -> Iterator[tuple[str, bytes]]:
    match kind:
        case "photos":
            return _photographs(count, seed=0)
        case "mixed":
            return _mixed(count)
        case "warm-up":
            return _photographs(count, seed=1)
        case "small":
            return _noise(count, SMALL)
        case "large":
            return _noise(count, LARGE)
    raise ValueError(f"no objects are called {kind!r}")


def _photographs(count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    from asyncfetch.testing import photographs

    left = count
    for name, data in photographs(50 * count + 100, seed=seed):
        if not left:
            return
        if name.endswith(".jpg") and _LEAST <= len(data) <= _MOST:
            left -= 1
            yield "-" + name.partition("-")[2], data


def _mixed(count: int) -> Iterator[tuple[str, bytes]]:
    from asyncfetch.testing import photographs

    for name, data in photographs(count):
        yield "-" + name.partition("-")[2], data


def _noise(count: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Bytes that nothing can compress, the same each time."""
    import numpy as np

    for index in range(count):
        yield ".bin", np.random.default_rng([size, index]).bytes(size)


def _read(work: Path, kind: str) -> list[Item]:
    try:
        manifest = json.loads(_manifest(work, kind).read_bytes())
    except FileNotFoundError:
        return []
    if manifest["version"] != MANIFEST_VERSION:
        return []
    return [Item(*item) for item in manifest["items"]]


def _manifest(work: Path, kind: str) -> Path:
    return work / f"{kind}.json"


def _publish(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: two benches may share a work directory."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(data)
    scratch.replace(path)
