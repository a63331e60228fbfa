"""Where and with what a run was made: commit, machine, versions."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    """The machine: CPU, cores that this process may use, bytes of memory, kernel."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory": psutil.virtual_memory().total,
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
    }


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_system(path: Path) -> str:
    """The kind of the file system that a path lies on, such as `tmpfs`; `unknown` where the system does not say."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    path = path.resolve()
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), "unknown")


def commit() -> str | None:
    """The commit of the tree, with `+` when the tree has changed since; None where there is no commit."""
    head, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return f"{head}{'+' if changed else ''}" if head else None


def versions(packages: set[str]) -> dict[str, str]:
    """Of Python and of the packages that are installed, by the name they are imported by."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for package in sorted({"asyncfetch", "uvloop", "opencv-python-headless", "numpy", *packages}):
        try:
            found[package] = version(package)
        except (
            PackageNotFoundError
        ):  # not by that name, as `spdl` comes with spdl-core; to find out by which takes 0.9 s
            if brought_by := packages_distributions().get(package):
                found[package] = version(brought_by[0])
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        ended = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
