"""Stores a run again and again, each time in a process that kills itself at another write: `killed.py DIRECTORY`.

The children are forks of this program, which has opened nothing: they cost a start of Python together, not each. Store
`n` is left by a child that died before its write `n`, and the last by one that came to its end. One more, `half`, is
left by a child that died when the bytes were on the disk and had no name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

# What opening a store loads is loaded here, once for all children.
from asyncfetch import CachePolicy, Settings
from asyncfetch.datastore import DataStore, places

DATA = {"x": b"x", "y": b"y" * 100, "z": {"a": [1]}}


class Deadly:
    """A place that kills its process before a write."""

    def __init__(self, place: Any, when: int) -> None:
        self._place, self._left = place, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    async def put(self, *args: Any, **options: Any) -> bool:
        if not self._left:
            die()
        self._left -= 1
        written: bool = await self._place.put(*args, **options)
        return written


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def store(root: Path, when: int) -> None:
    settings = Settings(cache=CachePolicy(cache_dir=root / "cache"))
    async with DataStore.at(root / "store", settings=settings) as store:
        store.storage.place = Deadly(store.storage.place, when)
        await store.store_run("r", "train", project="p", data=DATA, models=["m"])


def child(root: Path, when: int) -> bool:
    """Whether it was killed."""
    root.mkdir()
    pid = os.fork()
    if not pid:
        asyncio.run(store(root, when))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def main(root: Path) -> None:
    when = 0
    while child(root / str(when), when):
        when += 1
    places._publish = die  # type: ignore[assignment]
    assert child(root / "half", 99)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
