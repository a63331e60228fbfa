"""What a cache of a million entries costs: `python -m bench.cache [DIRECTORY] [--only look,…] [--keep] [--check]`.

The index is filled through the cache's own changes; blobs lie on the disk for those that are looked up and evicted.
Memory is the growth of the process from before the opening to after all look-ups. To make the cache takes longer than
all that is measured on it: with `--keep` it stays where it is, and the next run puts back what was evicted.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import math
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from asyncfetch import Access, Fetcher
from asyncfetch.cache import SMALL, Cache, Found, Ref, RefKey
from asyncfetch.cache.changes import lost, remember, stored
from asyncfetch.cache.index import Index
from asyncfetch.settings import CachePolicy
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from bench.report import hold_figures
from bench.targets import of_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.synchronize import Barrier

    from bench.targets import Figures

SIZE = 100  # of each blob; what is measured does not depend on it
FILLED = 10_000  # entries of one transaction while the cache is made
BATCH = 64  # look-ups at once
ROUND = 128 * BATCH  # objects that a job looks up before it comes to the first of them again
ROUNDS = 5  # of hits alone and hits beside evictions, in turn: a machine that slows down slows down both
ALONE_SECONDS = 2.0
TURN_SECONDS = 0.3  # of hits beside a prune, and of hits while that is stopped
EPOCHS, OBJECTS = 6, 1_000
KILLED, LARGE = 8, 64  # processes that are killed at once, each with a batch of bodies in place and so many in files
PLACED = 32  # bodies of that batch: as many as the loop places at a time
STAGES = ("look", "recover", "evict", "prune", "half")
ENTRIES, VICTIMS = 1_000_000, 100_000  # of which the targets are

TARGETS = (
    of_stage("look", "open_seconds", "opening it", most=0.5, unit=" s"),
    of_stage("look", "look_up_us", "a look-up, 64 at a time: CPU", most=20, unit=" us"),
    of_stage("look", "stats_seconds", "`cache stats`", most=1, unit=" s"),
    of_stage("look", "memory_mb", "memory of it, open", most=50, unit=" MB"),
    of_stage("recover", "recover_seconds", "opening it after processes were killed", most=1, unit=" s"),
    of_stage("evict", "evict_seconds", "evictions by a job that looks up", most=15, unit=" s"),
    of_stage("evict", "hits_slower_by", "look-ups fewer beside them", most=10, unit=" %", times=100),
    of_stage("prune", "prune_seconds", "`cache prune` beside such a job", most=15, unit=" s"),
    of_stage("prune", "hits_slower_by", "look-ups fewer beside it", most=10, unit=" %", times=100),
    of_stage("half", "hit_rate_at_half_size", "hits at half size", least=49, most=51, unit=" %", times=100),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the cache, or mends the one that was kept, and prints what was measured on it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", help="where the cache is made; else a temporary directory")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="objects in the index (default: %(default)s)")
    parser.add_argument("--victims", type=int, default=VICTIMS, help="blobs that are evicted (default: %(default)s)")
    parser.add_argument("--only", default=",".join(STAGES), help="what is measured, in this order (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave the cache in DIRECTORY for the next run")
    parser.add_argument("--check", action="store_true", help="hold the targets against it; exit 1 on a miss")
    options = parser.parse_args(arguments)
    if unknown := set(options.only.split(",")) - set(STAGES):
        parser.error(f"--only knows {', '.join(STAGES)}, and not {', '.join(sorted(unknown))}")
    if options.victims * 2 > options.entries or options.victims < ROUNDS * BATCH:
        parser.error(f"--victims are {ROUNDS * BATCH} at least, and half of --entries at most")
    if options.check and (options.entries, options.victims) != (ENTRIES, VICTIMS):
        parser.error(f"--check is of {ENTRIES:,} entries and {VICTIMS:,} victims: fewer would hold what those miss")
    top = Path(options.directory or tempfile.gettempdir())
    top.mkdir(parents=True, exist_ok=True)
    directory = top / f"bench-cache-{options.entries}" if options.keep else Path(tempfile.mkdtemp(dir=top))
    try:
        million = Million(directory, options.entries, options.victims)
        figures = asyncio.run(run(million, options.only.split(",")))
    finally:
        if not options.keep:
            shutil.rmtree(directory)
    return 0 if not options.check or hold_figures(TARGETS, figures) else 1


async def run(million: Million, stages: list[str]) -> Figures:
    """Measures what is asked for, and prints each stage once it is complete."""
    measured = {}
    for stage in stages:
        if stage == "half":
            figures = await half(million.directory / "half")
        else:
            await million.fill()
            os.sync()
            figures = await getattr(million, stage)()
        print(json.dumps({stage: {name: round(value, 4) for name, value in figures.items()}}, indent=1), flush=True)
        measured[stage] = figures
    return measured


def key(number: int) -> RefKey:
    return RefKey("https://storage.example.com", "training-images", f"photos/class-{number % 997:04d}/{number:09d}.jpg")


def digest(number: int) -> str:
    return "sha256:" + hashlib.sha256(b"%d" % number).hexdigest()


class Million:
    """A cache of so many entries. The oldest blobs are the victims, and lie on the disk; so do as many of the youngest.

    Those between are known to the index alone.
    """

    def __init__(self, directory: Path, entries: int, victims: int) -> None:
        self.directory, self._entries, self._victims = directory, entries, victims
        self._young = range(entries - victims, entries)

    async def fill(self) -> None:
        """Makes the cache, or puts back what is missing of it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await self._open().aclose()  # makes the directories
        scratch = self.directory / "scratch"
        scratch.mkdir(exist_ok=True)
        index = Index(str(self.directory / "v1" / "index"), "sha256", lambda: str(scratch / "file"), boot="bench")
        held = index.totals()
        if held.blobs:  # as it was kept: what was evicted since is put back
            self._tell(index, self._victims)
            held = index.totals()
        if (held.objects, held.blobs) != (self._entries, self._entries):
            self._tell(index, self._entries)
            held = index.totals()
        index.close()
        assert (held.objects, held.blobs) == (self._entries, self._entries)
        for number in [*range(self._victims), *self._young]:
            path = self._path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError), path.open("xb") as file:
                file.write(b"x" * SIZE)

    def _path(self, number: int) -> Path:
        name = digest(number)[7:]
        return self.directory / "v1" / "blobs" / "sha256" / name[:2] / name

    def _tell(self, index: Index, count: int) -> None:
        """Has the index know the oldest."""
        for start in range(0, count, FILLED):
            numbers = range(start, min(start + FILLED, count))
            refs = [remember(key(n), Ref(SIZE, f'"{n:032x}"', digest(n), 1.0, 1.0)) for n in numbers]
            blobs = sorted(stored(digest(n), SIZE, 1e9 + n) for n in numbers)
            assert index.apply([*refs, *blobs])

    def _open(self, max_bytes: int | None = None) -> Cache:
        policy = CachePolicy(cache_dir=self.directory, digest="sha256", max_bytes=max_bytes)
        return Cache.open(policy, loop=asyncio.get_running_loop())

    async def look(self) -> dict[str, float]:
        """Opens it, looks the youngest up, and counts all."""
        process = psutil.Process()
        before = process.memory_info().rss
        began = time.perf_counter()
        cache = self._open()
        figures = {"open_seconds": time.perf_counter() - began}
        figures["first_look_up_us"] = await look_up(cache, self._young) * 1e6  # which notes that the blob is used again
        figures["look_up_us"] = min([await look_up(cache, self._young) * 1e6 for _ in range(3)])
        began = time.perf_counter()
        cache._index.totals()
        figures["totals_seconds"] = time.perf_counter() - began
        figures["memory_mb"] = (process.memory_info().rss - before) / 1e6
        await cache.aclose()
        began = time.perf_counter()
        command = [sys.executable, "-m", "asyncfetch", "cache", "stats", "--json", "--cache-dir", str(self.directory)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # nothing else is under way
        figures["stats_seconds"] = time.perf_counter() - began
        return figures

    async def recover(self) -> dict[str, float]:
        """The next opening after processes were killed amid a batch, and one that finds nothing, in turn."""
        before, after, context = [], [], get_context("spawn")
        orphans = range(self._entries, self._entries + KILLED * PLACED)
        for _ in range(ROUNDS):
            before.append(await self._opening(self._entries))
            all_there = context.Barrier(KILLED)
            numbers = [orphans[start : start + PLACED] for start in range(0, len(orphans), PLACED)]
            killed = [context.Process(target=die, args=(self.directory, batch, all_there)) for batch in numbers]
            for process in killed:
                process.start()
            for process in killed:
                await asyncio.to_thread(process.join)
                assert process.exitcode == -signal.SIGKILL
            left = list((self.directory / "v1" / "tmp").glob("*/*"))
            assert len(left) == KILLED * (LARGE + 2), "large bodies, an intent and a lock of each"
            assert all(self._path(number).exists() for number in orphans)
            after.append(await self._opening(self._entries + len(orphans)))
            assert not any((self.directory / "v1" / "tmp").iterdir())
            cache = self._open()
            assert cache._index.apply([lost(digest(number)) for number in orphans])
            for number in orphans:
                self._path(number).unlink()
            await cache.aclose()
        return {"open_seconds": statistics.median(before), "recover_seconds": statistics.median(after)}

    async def _opening(self, blobs: int) -> float:
        """Seconds, after which so many are known."""
        began = time.perf_counter()
        cache = self._open()
        seconds = time.perf_counter() - began
        assert cache._index.totals().blobs == blobs
        await cache.aclose()
        return seconds

    async def evict(self) -> dict[str, float]:
        """Jobs that find the limit lowered below what is there, and that look their own objects up meanwhile."""
        held, seconds, slower = self._entries * SIZE, 0.0, []
        share = self._victims // ROUNDS
        for _ in range(ROUNDS):
            alone = await self._rate_alone()
            held -= share * SIZE
            cache = self._open(held)
            began = time.perf_counter()
            await look_up(cache, self._young[-ROUND:])
            beside = await self._count(cache, lambda cache=cache: cache.statistics().evicted >= share)  # type: ignore[misc]
            seconds += time.perf_counter() - began
            held -= (cache.statistics().evicted - share) * SIZE
            await cache.aclose()
            slower.append(1 - beside.rate / alone)
        return {"evict_seconds": seconds, "hits_slower_by": statistics.median(slower)}

    async def prune(self) -> dict[str, float]:
        """`asyncfetch cache prune` beside a job that looks its own objects up meanwhile, and stopped, in turn."""
        cache = self._open()
        await look_up(cache, self._young)  # what a running job has used stays
        held = (self._entries - self._victims) * SIZE
        command = [sys.executable, "-m", "asyncfetch", "cache", "prune", "--quiet", "--max-bytes", str(held)]
        child = await asyncio.create_subprocess_exec(*command, "--cache-dir", str(self.directory))
        alone, beside, seconds = [], [], 0.0
        while child.returncode is None:
            began = time.perf_counter()
            beside.append(await self._count(cache, lambda: child.returncode is not None, TURN_SECONDS))
            seconds += time.perf_counter() - began
            if child.returncode is None:
                with suppress(ProcessLookupError):  # it has ended in this instant
                    child.send_signal(signal.SIGSTOP)
                    alone.append(await self._count(cache, lambda: False, TURN_SECONDS))
                    child.send_signal(signal.SIGCONT)
        assert child.returncode == 0
        assert cache._index.totals().blobs == self._entries - self._victims
        await cache.aclose()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        before, amid = _sum(alone), _sum(beside)
        return {
            "prune_seconds": seconds,
            "prune_cpu_seconds": used.ru_utime + used.ru_stime,
            "hits_slower_by": 1 - amid.rate / before.rate,
            "hits_cost_more_by": amid.cost / before.cost - 1,
        }

    async def _rate_alone(self) -> float:
        cache = self._open()
        await look_up(cache, self._young[-ROUND:])  # which notes that this job uses them
        counted = await self._count(cache, lambda: False, ALONE_SECONDS)
        await cache.aclose()
        return counted.rate

    async def _count(self, cache: Cache, is_over: Callable[[], bool], seconds: float = math.inf) -> Counted:
        """Looks objects up, one batch after another, for so long or until it is over.

        They come round again after some thousands: of the same batch all would lie in the processor's own memory, which
        no job finds them in.
        """
        used_again = self._young[-ROUND:]
        starts = itertools.cycle(range(0, len(used_again), BATCH))
        began, used, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < seconds and not is_over():
            start = next(starts)
            count += len(batch := used_again[start : start + BATCH])
            await look_up(cache, batch)
        return Counted(count, time.perf_counter() - began, time.process_time() - used)


class Counted(NamedTuple):
    """Look-ups of a while."""

    objects: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Objects in a second."""
        return self.objects / self.seconds

    @property
    def cost(self) -> float:
        """CPU-seconds for each object."""
        return self.cpu_seconds / self.objects


def _sum(parts: list[Counted]) -> Counted:
    return Counted(*map(sum, zip(*parts, strict=True)))


async def look_up(cache: Cache, numbers: range) -> float:
    """CPU-seconds for each object of a pass over them; all must be hits."""
    loop = asyncio.get_running_loop()
    began = time.process_time()
    for start in range(numbers.start, numbers.stop, BATCH):
        future: asyncio.Future[list[Any]] = loop.create_future()
        cache.look_up([key(n) for n in range(start, min(start + BATCH, numbers.stop))], future.set_result)  # type: ignore[arg-type]
        assert all(isinstance(one, Found) for one in await future)
    return (time.process_time() - began) / len(numbers)


def die(directory: Path, numbers: range, all_there: Barrier) -> None:
    """Opens the cache, begins large bodies, and is killed once these others are in place, before the index is told."""

    def kill(*_: object) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    async def work() -> None:
        loop = asyncio.get_running_loop()
        cache = Cache.open(CachePolicy(cache_dir=directory, digest="sha256"), loop=loop)
        for body in [cache.parted(SMALL + 1) for _ in range(LARGE)]:
            while (pause := body.opening()) is not None:
                await pause
            part = body.part(0, SIZE)
            part.advance(len(part.get_buffer(SIZE)))
            await part.flush()
        all_there.wait()  # else who comes later cleans up after who has died
        Index.apply = kill  # type: ignore[method-assign, assignment]  # this process is at its end
        for number in numbers:
            data, sink = b"%d" % number, cache.sink()
            sink.get_buffer(len(data))[: len(data)] = data
            sink.advance(len(data))
            cache.publish(await sink.finish(), key(number), lambda _: None)
        await loop.create_future()

    asyncio.run(work())


async def half(directory: Path) -> dict[str, float]:
    """The hit rate of reshuffled epochs with room for half."""

    def give(request: RawRequest) -> bytes:
        return answer(request.target.encode().ljust(2000, b"."), headers=['ETag: "e"'])

    shutil.rmtree(directory, ignore_errors=True)
    uris = [f"s3://bucket/{number:06d}" for number in range(OBJECTS)]
    order = random.Random(5)
    async with ScriptedServer(give) as server:
        access = Access(endpoint_url=server.url, anonymous=True, region="us-east-1")
        async with Fetcher(cache_dir=directory, access=access, max_bytes=OBJECTS // 2 * 2000) as fetcher:
            await fetcher.prefetch(uris)
            hits = fetcher.stats().hits
            for _ in range(EPOCHS - 1):
                await fetcher.prefetch(order.sample(uris, OBJECTS))
            return {"hit_rate_at_half_size": (fetcher.stats().hits - hits) / (EPOCHS - 1) / OBJECTS}


if __name__ == "__main__":
    sys.exit(main())
