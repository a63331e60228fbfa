"""What a process holds: tasks, descriptors, child processes, shared memory, temporary files."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import NamedTuple

import psutil


class Held(NamedTuple):
    """A census. Descriptors are told by what they lead to, since numbers are given anew."""

    tasks: int
    descriptors: tuple[str, ...]
    children: tuple[int, ...]


def census() -> Held:
    """Counts after a collection. Call it on the loop."""
    gc.collect()
    return Held(len(asyncio.all_tasks()), _descriptors(), tuple(child.pid for child in psutil.Process().children()))


def temporary_files(cache_dir: Path) -> list[Path]:
    """What lies in the cache's directories for temporary files, locks and intents aside."""
    return [path for path in cache_dir.glob("v1/tmp/*/*") if path.name not in ("lock", "intent")]


def _descriptors() -> tuple[str, ...]:
    kinds = []
    for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed them, or another system
            continue
        kinds.append(target.partition(":")[0] if target.startswith(("socket:", "pipe:", "anon_inode:")) else target)
    return tuple(sorted(kinds))
