"""What the commands of the cache take: `python -m bench.upkeep`, a process each, as a user runs them.

An index of a million objects and as many blobs is made, without their files, and read by `cache stats` and `cache ls`.
Then a cache with real blobs of 86 KB is checked, exported, imported and pruned. Its disk is that of --directory.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from asyncfetch.cache import Ref, RefKey
from asyncfetch.cache.changes import remember, stored
from asyncfetch.cache.upkeep import upkeep
from asyncfetch.settings import CachePolicy
from bench.ending import heed

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 1000
BODY = 86_000  # bytes, as the photographs of the other benches
BUCKETS, FOLDERS = 4, 1000


def main() -> None:
    """Runs the bench, and prints a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000, help="in the index that is read")
    parser.add_argument("--blobs", type=int, default=10_000, help="of 86 KB, in the cache that is checked")
    parser.add_argument("--directory", help="where the caches are made; else a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-upkeep-", dir=options.directory) as top:
        large, real, other, tar = (Path(top, name) for name in ("large", "real", "other", "seed.tar"))
        _index(large, options.objects)
        print(f"an index of {options.objects:,} objects")
        for arguments in (["stats"], ["stats", "--by", "bucket"], ["stats", "--by", "prefix", "--depth", "2"], ["ls"]):
            _time(*arguments, at=large)
        _fill(real, options.blobs)
        print(f"a cache of {options.blobs:,} blobs, {options.blobs * BODY / 1e6:,.0f} MB")
        size = options.blobs * BODY
        _time("verify", at=real, size=size)
        _time("export", str(tar), at=real, size=size)
        _time("import", str(tar), at=other, size=size)
        _time("prune", "--max-bytes", str(size // 2), at=real, size=size // 2)


def _key(number: int) -> RefKey:
    return RefKey("", f"bucket-{number % BUCKETS}", f"photos/{number % FOLDERS:04}/{number:08}.jpg")


def _digests(number: int) -> Iterator[str]:
    for _ in range(number):
        yield f"blake3:{secrets.token_hex(32)}"


def _index(directory: Path, objects: int) -> None:
    """Makes an index whose blobs are not there."""
    with upkeep(CachePolicy(cache_dir=directory)) as keeping:
        for start in range(0, objects, BATCH):
            changes = []
            for number, digest in enumerate(_digests(min(BATCH, objects - start)), start):
                etag = f'"{digest[-32:]}"'
                changes.append(remember(_key(number), Ref(BODY, etag, digest, time.time())))
                changes.append(stored(digest, BODY, time.time()))
            keeping.make(changes)


def _fill(directory: Path, blobs: int) -> None:
    """Makes a cache whose blobs are there."""
    with upkeep(CachePolicy(cache_dir=directory)) as keeping:
        for start in range(0, blobs, BATCH):
            changes = []
            for number in range(start, min(start + BATCH, blobs)):
                body = os.urandom(BODY)
                digest = f"blake3:{blake3(body).hexdigest()}"
                keeping.blobs.put(digest, memoryview(body))
                changes.append(remember(_key(number), Ref(BODY, None, digest, time.time())))
                changes.append(stored(digest, BODY, time.time()))
            keeping.make(changes)


def _time(*arguments: str, at: Path, size: int = 0) -> None:
    """Runs a command of the cache, and prints the time it took, with that of Python's start."""
    command = [sys.executable, "-m", "asyncfetch", "cache", *arguments, "--quiet", "--cache-dir", str(at)]
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    rate = f"  {size / wall / 1e6:8,.0f} MB/s" if size else ""
    print(f"  cache {' '.join(arguments[:5])[:40]:40} {wall:7.2f} s  CPU {used:7.2f} s{rate}", flush=True)


if __name__ == "__main__":
    heed()
    main()
