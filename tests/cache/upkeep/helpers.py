"""What the tests of upkeep share: a cache filled with a few bodies, and one's way into it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from asyncfetch.cache.upkeep import upkeep
from asyncfetch.settings import CachePolicy
from tests.cache.helpers import blobs, key, opened, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asyncfetch.cache.upkeep import Upkeep
    from asyncfetch.settings import Digest

ENDPOINT, BUCKET = key("")[:2]
BODIES = {"one": b"1" * 3000, "two": b"2" * 4000, "three": b"3" * 5000}


async def fill(cache_dir: Path, digest: Digest = "blake3", bodies: dict[str, bytes] = BODIES) -> None:
    async with opened(cache_dir, digest) as cache:
        for number, (name, body) in enumerate(bodies.items()):
            await publish(cache, body, key(name), etag=f'"{name}"', validated=100.0 + number)


@contextmanager
def keeping(cache_dir: Path) -> Iterator[Upkeep]:
    with upkeep(CachePolicy(cache_dir=cache_dir)) as open_one:
        yield open_one


def blob(cache_dir: Path, name: str) -> Path:
    """The blob of one of the bodies, damaged or not, as long as its length is right."""
    (path,) = [path for path in blobs(cache_dir).values() if path.stat().st_size == len(BODIES[name])]
    return path
