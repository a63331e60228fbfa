"""Processes that read one cold prefix into one cache at the same moment: `python -m bench.together`.

Says how often each object was downloaded, counted at the server, and what CPU they took beside one that reads it cold
and others that read it warm after it. CPU is counted from before the gate opens to the end of the reading.

The floor is what it takes that several processes fetch at all: each a share of the objects, into a cache of its own,
with nobody to wait for. Where each has little to fetch, it has little to do at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from bench.ending import heed
from bench.report import hold_figures
from bench.targets import of_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from asyncfetch.testing import RawRequest

PROCESSES = 8
OBJECTS = 2_000
SIZE = 86_000
ROUNDS = 5

TARGETS = (
    of_stage("together", "surplus", "downloaded more often than once", most=1, unit=" %", times=100),
    of_stage("together", "ratio", "CPU of all together over one cold and the others warm", most=1.5, unit="x"),
)


def content(key: str) -> bytes:
    return blake3(key.encode()).digest(length=SIZE)


def serve(port: int, asked: int) -> None:
    """Answers requests for objects until stdin closes, then writes how often each was asked for to `asked`."""
    from asyncfetch.testing import ScriptedServer, answer

    counts: Counter[str] = Counter()
    bodies = {f"{number:06d}": content(f"{number:06d}") for number in range(OBJECTS)}

    def give(request: RawRequest) -> bytes:
        key = request.target.partition("?")[0].rpartition("/")[2]
        counts[key] += 1
        return answer(bodies[key], headers=[f'ETag: "{key}"'])

    async def run() -> None:
        async with ScriptedServer(give) as server:
            os.write(port, f"{server.port}\n".encode())
            await asyncio.to_thread(sys.stdin.buffer.read)
        os.write(asked, json.dumps(counts).encode())

    asyncio.run(run())


def read(endpoint: str, cache_dir: str, numbers: range, ready: int, gate: int) -> float:
    """Reads objects once the gate opens, sees that every byte is right, and returns the CPU-seconds it took."""
    from asyncfetch import Access, Fetcher

    async def run() -> float:
        access = Access(endpoint_url=endpoint, anonymous=True, region="us-east-1")
        async with Fetcher(cache_dir=cache_dir, access=access, revalidate="never") as fetcher:
            os.write(ready, b".")
            await asyncio.to_thread(os.read, gate, 1)
            began = time.process_time()
            digests = []
            async with fetcher.entries(f"s3://bucket/{number:06d}" for number in numbers) as stream:
                async for entry in stream:
                    digests.append((entry.uri, entry.digest, entry.filename))
            took = time.process_time() - began
            for uri, digest, filename in digests[:: -(-len(digests) // 50)]:
                expected = content(uri.rpartition("/")[2])
                assert digest == "blake3:" + blake3(expected).hexdigest()
                assert Path(filename).read_bytes() == expected
            return took

    return asyncio.run(run())


@contextmanager
def served() -> Iterator[tuple[str, Callable[[], Counter[str]]]]:
    """A server program; gives its URL, and what ends it and tells how often each object was asked for."""
    port_in, port_out = os.pipe()
    asked_in, asked_out = os.pipe()
    stdin_in, stdin_out = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(stdin_in, 0)
        os.close(stdin_out)
        _leave(lambda: serve(port_out, asked_out))
    for descriptor in (port_out, asked_out, stdin_in):
        os.close(descriptor)
    open_ends = {stdin_out}

    def end() -> Counter[str]:
        open_ends.discard(stdin_out)
        os.close(stdin_out)
        with os.fdopen(asked_in) as told:
            return Counter(json.loads(told.read()))

    try:
        with os.fdopen(port_in) as told:
            yield f"http://127.0.0.1:{int(told.readline())}", end
    finally:
        for descriptor in open_ends:
            os.close(descriptor)
        os.waitpid(child, 0)


def together(endpoint: str, jobs: Sequence[tuple[str, range]]) -> float:
    """CPU-seconds of processes that read at the same moment, each these objects through a cache."""
    ready_in, ready_out = os.pipe()
    gate_in, gate_out = os.pipe()
    told_in, told_out = os.pipe()

    def child(cache_dir: str, numbers: range) -> None:
        os.close(gate_out)
        os.write(told_out, f"{read(endpoint, cache_dir, numbers, ready_out, gate_in)}\n".encode())

    children = []
    for job in jobs:
        pid = os.fork()
        if not pid:
            _leave(partial(child, *job))
        children.append(pid)
    waiting = len(jobs)
    while waiting:
        waiting -= len(os.read(ready_in, waiting))
    for descriptor in (gate_in, gate_out, ready_in, ready_out, told_out):
        os.close(descriptor)
    with os.fdopen(told_in) as told:
        seconds = [float(line) for line in told]
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert len(seconds) == len(jobs)
    return sum(seconds)


def _leave(work: Callable[[], None]) -> None:
    """Ends a forked child with its work."""
    import traceback

    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def one_round(root: Path) -> dict[str, float]:
    """One of each: all at once on a cold cache; one on a cold cache and the others after it; each a share alone."""
    everything, share = range(OBJECTS), OBJECTS // PROCESSES
    with served() as (endpoint, end):
        cpu = together(endpoint, [(str(root / "together"), everything)] * PROCESSES)
        asked = end()
    with served() as (endpoint, end):
        cold = together(endpoint, [(str(root / "apart"), everything)])
        warm = together(endpoint, [(str(root / "apart"), everything)] * (PROCESSES - 1))
        end()
    with served() as (endpoint, end):
        starts = range(0, OBJECTS, share)
        shared = together(endpoint, [(str(root / f"{start}"), everything[start : start + share]) for start in starts])
        end()
    return {
        "objects": len(asked),
        "downloads": asked.total(),
        "surplus": asked.total() / OBJECTS - 1,
        "cpu_together": cpu,
        "cpu_one_cold_others_warm": cold + warm,
        "cpu_a_share_each": shared,
        "ratio": cpu / (cold + warm),
        "floor": (shared + warm) / (cold + warm),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rounds, and prints each and their medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", nargs="?", help="where the cache is made; else where temporary files are")
    parser.add_argument("--check", action="store_true", help="hold the targets against it; exit 1 on a miss")
    options = parser.parse_args(arguments)
    rounds = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=options.directory) as root:
            rounds.append(one_round(Path(root)))
        print(json.dumps({"round": number, **{name: round(value, 4) for name, value in rounds[-1].items()}}))
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(
        f"{PROCESSES} processes, {OBJECTS:,} objects: {medians['surplus']:.2%} downloaded twice, "
        f"CPU {medians['ratio']:.2f} times; {medians['floor']:.2f} times where each fetches a share for itself alone",
        flush=True,
    )
    return 0 if not options.check or hold_figures(TARGETS, {"together": medians}) else 1


if __name__ == "__main__":
    heed()
    sys.exit(main())
