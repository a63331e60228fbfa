"""How a worker begins: as a program of its own, never as a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.decode.shared import anonymous_file, map_file
from asyncfetch.decode.wire import FOR_PARENT, STATUS

if TYPE_CHECKING:
    import mmap

    from asyncfetch.settings import DecodePolicy

# Run by `python -c`, never by importing the user's main module again. The packages are entered without their
# `__init__`, because a worker needs nothing of the engine, and asyncio alone is 6 MB and 30 ms.
_BOOTSTRAP = """\
import sys
channel, status, pixels, memory, root, *path = sys.argv[1:]
sys.path[:] = path
for name, place in ("asyncfetch", root), ("asyncfetch.decode", root + "/decode"):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [place]
from asyncfetch.decode.forms import Limits
from asyncfetch.decode.worker import main
main(int(channel), int(status), Limits(int(pixels), int(memory)))
"""
_ROOT = Path(__file__).parent.parent


def start(channel: int, stderr: int, policy: DecodePolicy) -> tuple[mmap.mmap, subprocess.Popen[bytes]]:
    """Starts the program; gives its status page and its process.

    It inherits the two descriptors: the end of a socket pair that is its own, and the file that its last words go to.
    Raises `OSError`.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError(
            "there is no Python interpreter to run it: sys.executable is empty, or a program with Python frozen in"
        )
    page = anonymous_file(STATUS.size)
    try:
        status = map_file(page, STATUS.size)
        limits = str(policy.max_pixels), str(policy.worker_memory)
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, str(channel), str(page)]
        # Blocked from before its first instruction to where the worker passes it over.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_PARENT)
        try:
            process = subprocess.Popen(
                [
                    *command,
                    *limits,
                    str(_ROOT),
                    *(place for place in sys.path if isinstance(place, str)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=(channel, page),
                env={
                    **os.environ,
                    # NumPy's BLAS would start a thread for each core in every worker, to no use.
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                    # The limit is held by the header; this is for headers that lie or cannot be read.
                    "OPENCV_IO_MAX_IMAGE_PIXELS": str(policy.max_pixels),
                },
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        os.close(page)
    return status, process
