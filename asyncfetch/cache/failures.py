"""What an error of the operating system means for the cache."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from asyncfetch.errors import CacheUnusable, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")

_RETRIES = 8  # on a full disk: what was freed for one may be taken by another process just then

# EFBIG is a quota too: `ulimit -f`, or what the file system can hold in one file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_REMEDIES = {
    errno.EACCES: "Make it writable for this user, or point cache_dir elsewhere.",
    errno.EPERM: "Make it writable for this user, or point cache_dir elsewhere.",
    errno.EROFS: "Point cache_dir at a disk that can be written.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or lower the concurrency.",
    errno.ENOENT: "The cache was removed while it was in use: open it anew.",
    errno.EIO: "The disk reports a fault: point cache_dir at another one.",
}


class WouldWait(BaseException):
    """Raised where the loop does the cache's work and would have to wait: the thread does it then.

    Not an `Exception`: those are caught wherever a fault of ours must not end the thread.
    """


def disk_is_full(error: OSError) -> bool:
    """Whether it would have gone well with more free space, or more of a quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def retry_on_full_disk(work: Callable[[], _T], error: OSError, free: Callable[[], bool]) -> _T:
    """Does `work` again that failed with `error`, each time after something was freed. Raises what it failed with.

    Where nothing can be freed it is tried once more: others may have freed all that could go since it failed.
    """
    freed, left = True, _RETRIES
    while disk_is_full(error) and freed and left:
        freed, left = free(), left - 1
        try:
            return work()
        except OSError as again:
            error = again
    raise error


def explain(error: OSError, path: str) -> CacheUnusable | StorageFull:
    """Makes the cache's own error of the system's, with its cause, `errno` and `filename`."""
    said = os.strerror(error.errno) if error.errno else str(error)
    told: CacheUnusable | StorageFull
    if error.errno in _FULL:
        told = StorageFull(f"{path}: {said}")
    else:
        told = CacheUnusable(
            f"{path}: {said}", remedy=_REMEDIES.get(error.errno or 0, "Point cache_dir at another disk.")
        )
    told.errno, told.filename, told.__cause__ = error.errno, path, error
    return told


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Has what the system refuses within told by `explain`."""
    try:
        yield
    except (CacheUnusable, StorageFull):
        raise
    except OSError as error:
        raise explain(error, path) from error
