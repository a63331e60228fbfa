"""How many errands this process has the file descriptors for."""

from __future__ import annotations

from pathlib import Path

EACH = 2  # a socket, and a file where a body goes to the disk as it comes
# Cache, index, workers, name look-ups; 32 sockets that threads receive from, which have a second one then; and what the
# rest of the program opens later.
OTHERS = 96


def free_descriptors() -> int:
    """How many more files this process may open now, by RLIMIT_NOFILE."""
    import resource  # here: the limits of a process are no part of importing the package

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return 1 << 20
    listing = Path("/proc/self/fd")
    return limit - sum(1 for _ in (listing if listing.is_dir() else Path("/dev/fd")).iterdir())


def most_at_once(concurrency: int, free: int) -> int:
    """The errands that may be under way at once, at least one: those asked for, as far as there are descriptors."""
    return max(1, min(concurrency, (free - OTHERS) // EACH))
