"""What a tree of processes costs: CPU seconds and memory, of a process with all that descend from it."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

_LINUX = sys.platform == "linux"
_SCHED = 2  # CPUCLOCK_SCHED of Linux: the time a process was on a CPU, in nanoseconds


class Cpu(NamedTuple):
    """CPU seconds, user and system, of all threads: of one process, and of what descends from it."""

    own: float
    below: float

    @property
    def tree(self) -> float:
        """Both together."""
        return self.own + self.below


def cpu(pid: int | None = None) -> Cpu:
    """CPU that a process (None: this one) and its descendants have used since each began.

    Descendants that have ended count once their parent has waited for them. The difference of two readings is what was
    used in between. Living processes are read to the microsecond on Linux; what ended below another process than this
    one, in the kernel's ticks of 10 ms.
    """
    root = psutil.Process(pid)
    below = _reaped() if pid is None else _ended_below(root)
    for process in root.children(recursive=True):
        try:
            below += _clock(process) + _ended_below(process)
        except (psutil.Error, OSError):
            continue  # it ended just now, and its parent counts it from here on
    return Cpu(_clock(root), below)


def memory(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold now.

    On Linux the sum of their PSS, in which a page that several processes share counts once; elsewhere of their RSS, in
    which it counts once for each.
    """
    return sum(map(_held, [pid, *_descendants(pid)]))


MEMORY_KIND = "sum of PSS" if _LINUX else "sum of RSS"


def _clock(process: psutil.Process) -> float:
    if _LINUX:
        # What clock_getcpuclockid(3) gives for a process; /proc would round to 10 ms.
        return time.clock_gettime((~process.pid << 3) | _SCHED)
    times = process.cpu_times()
    return float(times.user + times.system)


def _reaped() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ended_below(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.children_user + times.children_system)


def _held(pid: int) -> int:
    try:
        if not _LINUX:
            return int(psutil.Process(pid).memory_info().rss)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (psutil.Error, OSError):
        pass  # it ended
    return 0


def _descendants(pid: int) -> list[int]:
    if not _LINUX:
        try:
            return [process.pid for process in psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return []
    # Reading who the children are is ten times cheaper than searching all processes of the machine for them.
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, children.read_bytes().split())
        except OSError:
            continue  # the thread ended
    return found + [below for child in found for below in _descendants(child)]
