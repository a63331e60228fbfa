"""A cache's directory: made where there is none, and refused with a reason where it cannot serve."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asyncfetch.cache import files, mounts
from asyncfetch.cache.failures import explain
from asyncfetch.errors import CacheUnusable

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1  # of the layout below `v<VERSION>`; another one would lie beside it
_VERSION = re.compile(r"v(\d{1,9})\Z")


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of a cache, all on one file system."""

    blobs: str
    tmp: str  # of owners
    partial: str  # of large bodies that are not whole
    index: str
    volatile: bool = False  # on a file system in memory, that does not outlive the boot


def prepare(directory: Path) -> Layout:
    """Makes the directory (mode 0700, its parents by the umask) and the layout in it.

    Raises `CacheUnusable` when it is a file, cannot be made or written, lies on a network file system, or was made by a
    newer version; `StorageFull` when the disk is.
    """
    top = str(directory)
    _make(top)
    mount = refuse_network(top)
    _refuse_newer(top)
    layout = replace(layout_of(top), volatile=mount is not None and mount.is_memory)
    for path in (f"{top}/v{VERSION}", layout.blobs, layout.tmp, layout.partial, layout.index):
        try:
            files.make_directory(path)
        except OSError as error:
            raise explain(error, path) from error
    return layout


def layout_of(top: str) -> Layout:
    """Where things lie below a cache's directory, whether they do or not."""
    root = f"{top}/v{VERSION}"
    blobs, tmp, partial, index = (f"{root}/{name}" for name in ("blobs", "tmp", "partial", "index"))
    return Layout(blobs, tmp, partial, index)


def versions(top: str) -> list[int]:
    """The versions of the layouts in a cache's directory; none where no cache is. Raises `CacheUnusable`."""
    try:
        names = files.names(top)
    except OSError as error:
        raise explain(error, top) from error
    return [int(found[1]) for found in map(_VERSION.match, names) if found]


def refuse_network(top: str) -> mounts.Mount | None:
    """The mount that a directory lies on, where that is known. Raises `CacheUnusable` for a network file system."""
    mount = mounts.mount_of(os.path.realpath(top), mounts.mounts())
    if mount is not None and mount.is_network:
        raise CacheUnusable(
            f"{top}: the cache directory lies on a network file system ({mount.kind} at {mount.point}), "
            "where neither its index nor its renames can be relied on",
            remedy="Point cache_dir (or ASYNCFETCH_CACHE_DIR) at a disk of this machine.",
        )
    return mount


def _make(top: str) -> None:
    missing, path = [], top
    while not os.path.lexists(path):
        missing.append(path)
        path = path.rpartition("/")[0] or "/"
    if not os.path.isdir(path):  # noqa: PTH112 - a Path would raise where its target cannot be seen
        raise _in_the_way(top, path)
    try:
        for path in reversed(missing):
            files.make_directory(path, mode=0o700 if path == top else 0o777)
    except OSError as error:
        raise explain(error, top) from error
    except ValueError as error:
        raise CacheUnusable(f"{top!a}: it cannot be a path ({error})", remedy="Point cache_dir elsewhere.") from error


def _in_the_way(top: str, path: str) -> CacheUnusable:
    """What to raise where something lies at a path that has to be a directory."""
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 - as above
        return CacheUnusable(
            f"{top}: {path} is a link to {os.readlink(path)}, which leads nowhere",  # noqa: PTH115
            remedy="Mount the disk that it leads to, or point cache_dir elsewhere.",
        )
    detail = "the cache directory is a file" if path == top else f"the cache directory would lie in a file, {path}"
    return CacheUnusable(f"{top}: {detail}", remedy="Remove that file, or point cache_dir elsewhere.")


def _refuse_newer(top: str) -> None:
    newest = max(versions(top), default=0)
    if newest > VERSION:
        raise CacheUnusable(
            f"{top}: the cache was made by a newer version of asyncfetch: layout v{newest}, not v{VERSION}",
            remedy="Upgrade asyncfetch, or point cache_dir elsewhere.",
        )
