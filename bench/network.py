"""What the network costs when it fights back: `python -m bench.network [--only limit,hedging]`.

Server and client are a process each. Every server goes wrong by a plan with a seed; what it was asked is counted by it.
Rounds of what is compared are interleaved.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.ending import heed
from bench.names import ACCESS_KEY, REGION, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 5_000  # bytes of each object
LIMIT, BURST = 500, 50  # requests a second, and at once
STALLED = {"slow": 0.01, "slow_seconds": 2.0}
STORM = {"slow_seconds": 0.2, "stall_seconds": 0.5, "drip_seconds": 0.002}
FIXED = (4, 16, 64, 256)  # requests at once, of those who are told how many
OUTAGE = 20.0  # seconds
SHARED = 7.0  # seconds that two clients read at the same time


@dataclass(frozen=True, slots=True)
class Job:
    """What a client does: `count` objects from number `first` on, or a listing of all. `fixed`: so many at once."""

    endpoint: str
    count: int
    first: int = 0
    hedge: bool = True
    md5: bool = False
    concurrency: int = 64
    fixed: bool = False
    seconds: float = 0.0  # it stops after these, if not 0
    listing: int = 0  # prefixes at once


def main() -> None:
    """Runs the bench, and prints a line for each measurement."""
    if sys.argv[1:2] == ["--serve"]:
        serve(json.loads(sys.argv[2]))
        return
    if sys.argv[1:2] == ["--client"]:
        print(json.dumps(asyncio.run(work(Job(**json.loads(sys.argv[2]))))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(_BENCHES), help=f"of {', '.join(_BENCHES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of objects")
    parser.add_argument("--directory", help="where caches lie; else the temporary directory")
    options = parser.parse_args()
    os.environ.update({"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY})
    if options.directory:
        os.environ["TMPDIR"] = options.directory
    for name in options.only.split(","):
        print(name, flush=True)
        _BENCHES[name](options.rounds, options.scale)


def limits(rounds: int, scale: float) -> None:
    """How much of a rate limit is used, and how many requests are refused, near and far, alone and shared."""
    count = max(1, int(4_000 * scale))
    for title, late, clients in (
        ("answers at once", 0.0, 1),
        ("20 ms late", 0.02, 1),
        ("80 ms late", 0.08, 1),
        ("two processes", 0.02, 2),
    ):
        used, refused = [], []
        for _ in range(rounds):
            faults = {"rate_limit": LIMIT, "burst": BURST, "slow": float(late > 0), "slow_seconds": late}
            with served(count * clients, faults) as (endpoint, asked):
                # Two stop together: while one is left it has to find out first that the other's part is free.
                seconds = SHARED if clients > 1 else 0.0
                jobs = [Job(endpoint, count, first=count * number, seconds=seconds) for number in range(clients)]
                done = run(*jobs)
                counts = asked()
            lasted = max(one["ended"] for one in done) - min(one["began"] for one in done)
            used.append(sum(one["objects"] for one in done) / (BURST + LIMIT * lasted))
            refused.append(counts["503"] / counts["all"])
        told = f"{min(used):.0%} to {max(used):.0%} used, {min(refused):.1%} to {max(refused):.1%} refused"
        _say(f"{LIMIT}/s, {title}", told, "90 % and more, fewer than 5 %")


def fixed(rounds: int, scale: float) -> None:
    """How fast it reads where nobody says how many at once, and where that is fixed, from servers late and limited."""
    count = max(1, int(8_000 * scale))
    for title, faults, share in (
        ("10 ms late", {"slow": 1.0, "slow_seconds": 0.01}, 1.0),
        ("50 ms late", {"slow": 1.0, "slow_seconds": 0.05}, 1.0),
        (f"20 ms late, {LIMIT}/s", {"slow": 1.0, "slow_seconds": 0.02, "rate_limit": LIMIT, "burst": BURST}, 0.25),
    ):
        rates: dict[int, list[float]] = {number: [] for number in (0, *FIXED)}
        for _ in range(rounds):
            for number in rates:
                with served(count, faults) as (endpoint, _asked):
                    few = int(count * share) if number in (0, *FIXED[2:]) else count // 4  # they take their time
                    job = Job(endpoint, few, concurrency=number or FIXED[-1], fixed=bool(number))
                    rates[number].append(few / run(job)[0]["seconds"])
        found = {number: statistics.median(rate) for number, rate in rates.items()}
        best = max(FIXED, key=found.__getitem__)
        told = f"{found[0]:,.0f}/s; " + ", ".join(f"{number} at once {found[number]:,.0f}/s" for number in FIXED)
        _say(title, f"{told}: {found[0] / found[best]:.2f} of the best", "0.90")


def hedging(rounds: int, scale: float) -> None:
    """What a second request does for the slowest answers, where one in a hundred is stalled."""
    count = max(1, int(4_000 * scale))
    slowest: dict[bool, list[float]] = {True: [], False: []}
    more = []
    for _ in range(rounds):
        for hedge in slowest:
            with served(count, STALLED) as (endpoint, asked):
                slowest[hedge].append(run(Job(endpoint, count, hedge=hedge))[0]["p99"])
                if hedge:
                    more.append(asked()["all"] / count - 1)
    with_it, without = (statistics.median(slowest[hedge]) for hedge in (True, False))
    told = (
        f"{without * 1000:,.0f} ms to {with_it * 1000:,.0f} ms: {without / with_it:.0f}x; {max(more):.1%} more requests"
    )
    _say("p99, 1 in 100 stalled for 2 s", told, "5x, 2 %")


def storms(rounds: int, scale: float) -> None:
    """What it costs that one answer in twenty is wrong, in every way at once."""
    count = max(1, int(20_000 * scale))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(max(1, rounds // 2)):
        for faulty in seconds:
            with served(count, {"evenly": 0.05, **STORM} if faulty else {}) as (endpoint, _asked):
                done = run(Job(endpoint, count, md5=True))[0]
                assert done["failed"] == 0
                seconds[faulty].append(done["seconds"])
    without, with_them = (statistics.median(taken) for taken in seconds.values())
    told = f"{without:.1f} s to {with_them:.1f} s: {with_them / without:.2f}x"
    _say(f"{count:,} objects, 5 % wrong", told, "1.5x")


def outage(rounds: int, scale: float) -> None:
    """When a run is over in whose middle the server was gone for a while."""
    count = max(1, int(20_000 * scale))
    with served(count, {}) as (endpoint, _asked):
        plain = run(Job(endpoint, count))[0]["seconds"]
    with served(count, {"outage_after": count // 2, "outage_seconds": OUTAGE}) as (endpoint, _asked):
        done = run(Job(endpoint, count))[0]
    assert done["failed"] == 0
    _say(f"{OUTAGE:.0f} s without a server", f"{plain:.1f} s to {done['seconds']:.1f} s, none failed", "none failed")


def listing(rounds: int, scale: float) -> None:
    """How long it takes to list many directories, one after another and several at once."""
    count = max(100, int(100_000 * scale))
    seconds: dict[int, list[float]] = {1: [], 16: []}
    for _ in range(max(1, rounds // 2)):
        with served(count, {"slow": 1.0, "slow_seconds": 0.02}, directories=100) as (endpoint, _asked):
            for parallel, taken in seconds.items():
                done = run(Job(endpoint, 0, listing=parallel))[0]
                assert done["objects"] == count
                taken.append(done["seconds"])
    one, several = (statistics.median(taken) for taken in seconds.values())
    _say(f"{count:,} keys in 100 directories, 20 ms an answer", f"{one:.1f} s to {several:.1f} s", "")


_BENCHES: dict[str, Callable[[int, float], None]] = {
    "limit": limits,
    "fixed": fixed,
    "hedging": hedging,
    "storms": storms,
    "outage": outage,
    "listing": listing,
}


def _say(title: str, told: str, wanted: str) -> None:
    print(f"  {title}: {told}" + (f"  (wanted: {wanted})" if wanted else ""), flush=True)


def run(*jobs: Job) -> list[dict[str, Any]]:
    """Has clients work at the same time, a process each, and gives what each tells."""
    from dataclasses import asdict

    command = [sys.executable, "-m", "bench.network", "--client"]
    clients = [subprocess.Popen([*command, json.dumps(asdict(job))], stdout=subprocess.PIPE) for job in jobs]
    told = [client.communicate()[0] for client in clients]
    assert all(client.returncode == 0 for client in clients)
    return [json.loads(line) for line in told]


async def work(job: Job) -> dict[str, Any]:
    """What a client's process does."""
    from asyncfetch import Fetcher, NetworkPolicy
    from asyncfetch.engine import places

    if job.fixed:  # by what it is given, whatever the server says of it
        places.Place.refused = lambda *_: []  # type: ignore[method-assign]
    directory = tempfile.mkdtemp(prefix="bench-network-")
    network = NetworkPolicy(concurrency=job.concurrency, adaptive=not job.fixed, hedge=job.hedge, md5=job.md5)
    try:
        async with Fetcher(
            cache_dir=directory, endpoint_url=job.endpoint, region=REGION, workers=1, network=network
        ) as fetcher:
            if job.listing:
                began = time.perf_counter()
                objects = 0
                async for _ in fetcher.list("s3://bucket/", parallel=job.listing):
                    objects += 1
                return {"objects": objects, "seconds": time.perf_counter() - began}
            began = time.time()
            if job.seconds:
                names = (f"s3://bucket/{job.first + number:08d}" for number in range(job.count))
                objects = 0
                async with fetcher.entries(names, order="completion") as stream:
                    async for _ in stream:
                        objects += 1
                        if time.time() - began > job.seconds:
                            break
                return {"began": began, "ended": time.time(), "objects": objects}
            report = await fetcher.prefetch(f"s3://bucket/{job.first + number:08d}" for number in range(job.count))
            return {
                "began": began,
                "ended": time.time(),
                "seconds": report.seconds,
                "objects": report.objects,
                "failed": report.failed,
                "p99": fetcher.stats().whole_body.p99,
            }
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def served(
    count: int, faults: dict[str, Any], *, directories: int = 0
) -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """A server's process; gives its URL, and what ends it and tells how often it was asked, by status and in all."""
    plan = json.dumps({"count": count, "directories": directories, "faults": faults})
    command = [sys.executable, "-m", "bench.network", "--serve", plan]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None

        def asked() -> dict[str, int]:
            found: dict[str, int] = json.loads(server.communicate()[0])
            return found

        try:
            yield server.stdout.readline().strip(), asked
        finally:
            if server.poll() is None:
                server.communicate()


def serve(plan: dict[str, Any]) -> None:
    """What a server's process does: serves until its standard input ends."""
    from asyncfetch.testing import Faults, FaultServer, Generated

    evenly = plan["faults"].pop("evenly", None)
    faults = Faults(**plan["faults"]) if evenly is None else Faults.evenly(evenly, **plan["faults"])
    objects = Generated(plan["count"], SIZE)
    if plan["directories"]:
        each = plan["count"] // plan["directories"]
        names = [f"{number // each:03d}/{number:08d}" for number in range(each * plan["directories"])]
        objects = dict.fromkeys(names, b"x")  # type: ignore[assignment] # a mapping too
    with FaultServer(objects, faults=faults) as server:
        print(server.endpoint_url, flush=True)
        sys.stdin.read()
        counts = {"all": server.count(), "503": server.count(status=503)}
    print(json.dumps(counts))


if __name__ == "__main__":
    heed()
    main()
