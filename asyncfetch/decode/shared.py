"""Memory that two processes see: files without a name, mapped by both, passed by descriptor."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAP_FIXED = 0x10  # the same on Linux (asm-generic/mman-common.h) and macOS (sys/mman.h)


def anonymous_file(size: int) -> int:
    """Makes a file of zeros which has no name, and gives its descriptor: a memfd on Linux, an unlinked file elsewhere.

    Neither has the limit of /dev/shm, 64 MiB in a container by default, and neither is left behind by a process that
    is killed. Raises `OSError`.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("asyncfetch")
    else:
        import tempfile
        from pathlib import Path

        descriptor, name = tempfile.mkstemp(prefix="asyncfetch-")
        Path(name).unlink()
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def map_file(descriptor: int, size: int) -> mmap.mmap:
    """Maps a file for reading and writing. The mapping ends with the last reference to it or to a buffer made from it.

    The descriptor may be closed afterwards, and no other is kept: `mmap.mmap(descriptor, …)` would keep a duplicate
    (until `trackfd` of Python 3.13), and a thousand images would be a thousand open files, of 256 that macOS allows.
    So an anonymous mapping is made, which owns the addresses, and the file is laid over it. That one is shared as well:
    private memory would count against what a worker may have, and end it at a large slot. Raises `OSError`.
    """
    region = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
    if _mmap()(address, size, protection, flags, descriptor, 0) != address:
        code = ctypes.get_errno()
        raise OSError(code, f"mapping {size} bytes of shared memory: {os.strerror(code)}")
    return region


@functools.cache
def _mmap() -> Callable[[int, int, int, int, int, int], int | None]:
    """The mmap(2) of the C library."""
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    return function
