"""The process of one row: `python -m bench.rows NAME`.

It reads its job (JSON, one line), opens the row, says `{"ready": ...}`, waits for a line, works, says `{"done": ...}`
at once, and then what it has to show.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from bench.rows import ROWS, Job
from bench.tree import cpu

if TYPE_CHECKING:
    from collections.abc import Iterable


def main() -> None:
    """Runs the row."""
    # Whatever a peer prints goes to standard error.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    row = ROWS[sys.argv[1]]
    job = Job(**json.loads(sys.stdin.readline()))
    with row.open(job) as work:
        say(ready=True)
        if not sys.stdin.readline():
            return
        # Looking at the other processes takes a millisecond or two, which is not to count.
        below = cpu().below
        own, start = time.process_time(), time.perf_counter()
        done = work()
        seconds, own = time.perf_counter() - start, time.process_time() - own
        below = cpu().below - below
        say(done=True)
        say(
            seconds=seconds,
            cpu=own + below,
            own_cpu=own,
            objects=done.objects,
            bytes=done.bytes,
            errors=len(done.errors),
            first_error=done.errors[0] if done.errors else None,
            proof=None if row.does == "discards" else fold(done.prove()),
        )


def fold(tokens: Iterable[tuple[str, str]]) -> str:
    """A digest of the tokens of all objects, in any order."""
    return blake3("".join(f"{key} {token}\n" for key, token in sorted(tokens)).encode()).hexdigest()


if __name__ == "__main__":
    main()
