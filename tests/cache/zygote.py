"""A program that forks users of one cache, kills some, and looks at what they leave. Prints what it did as JSON.

    python -m tests.cache.zygote kill <directory> <rounds> <seed>
    python -m tests.cache.zygote each <directory> <stride> <first>
    python -m tests.cache.zygote together <directory> <processes>
    python -m tests.cache.zygote stress <directory> <rounds> <seed>

It has no threads itself, so that a fork is a process like any other, without an import for each.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncfetch.cache import SMALL, Begun, Cache, Elsewhere, Found, RefKey, files
from asyncfetch.cache.sinks import PIECE
from asyncfetch.cache.upkeep import Gone, prune, removal, upkeep
from asyncfetch.settings import CachePolicy

from .helpers import (
    blobs,
    check_accounts,
    check_blobs,
    check_unfinished,
    give_up,
    go_on,
    keep_private,
    key,
    leftovers,
    look_up,
    opened,
    owners,
    publish,
    settled,
    taken,
    totals,
    unfinished,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

CACHE_ROUNDS = 25
LATER = 2e12  # when a job starts that finds all that is here unused
SIZES = [0, 1, 5_000, 86_000, SMALL + 1]
LARGE = PIECE + 4099  # of what comes in parts


@functools.lru_cache(64)
def body(name: str) -> bytes:
    """The bytes of an object, from its name: `<number>-<whose>`; equal numbers of "all" are equal for everybody."""
    rng = random.Random(name)
    return rng.randbytes(LARGE if name.startswith("large") else rng.choice(SIZES))


async def bring_in_part(cache: Cache, name: str) -> None:
    """Leaves what came of a large object: its first piece, and a few bytes further on."""
    await give_up(cache, Begun(key(name), name, LARGE), body(name), (0, PIECE), (PIECE + 50, PIECE + 60))


async def bring_in_parts(cache: Cache, name: str) -> None:
    """Brings a large object whole, going on with what came of it before."""
    published = await go_on(cache, Begun(key(name), name, LARGE), body(name))
    assert Path(published.path).read_bytes() == body(name)
    if published.private:
        cache.discard(published.path)


async def write(directory: Path, whose: str, tell: Callable[[str], object], *, count: int, clear: bool) -> None:
    """Uses a cache in every way, and tells of each object once the cache says that it is there."""
    async with opened(directory) as cache:
        await bring_in_part(cache, "large-all")
        await bring_in_parts(cache, "large-all")
        tell("large-all")
        await bring_in_part(cache, f"large-{whose}")
        for number in range(count):
            for name in (f"{number}-all", f"{number}-{whose}"):
                published = await publish(cache, body(name), key(name), etag=name, validated=float(number))
                assert Path(published.path).read_bytes() == body(name)
                tell(name)
            await keep_private(cache, body("private"))
            cache.forget(key("never-there"))
        if clear:
            tell("clear")
            await cache.clear()


async def evict(directory: Path) -> None:
    """A later job in a cache that is too small: what others left gives way, bit by bit and as bodies come."""
    async with opened(directory, max_bytes=100_000, job_started=LATER) as cache:
        for number in range(3):
            await publish(cache, body(f"{number}-evicting"), key(f"{number}-evicting"))
            await look_up(cache, *(key(f"{one}-all") for one in range(3)))
        while cache.statistics().evicted < 2 or unfinished(directory):
            await asyncio.sleep(0)


async def clear(directory: Path) -> None:
    async with opened(directory) as cache:
        await publish(cache, body("0-all"), key("0-all"))
        await bring_in_part(cache, "large-cleared")
        await cache.clear()
        await publish(cache, body("1-all"), key("1-all"))


async def prune_all(directory: Path) -> None:
    """A command that removes all that no job uses, a few blobs at a time."""
    removal._TOGETHER = 4
    with upkeep(CachePolicy(cache_dir=directory)) as keeping:
        gone = [one for one in prune(keeping, max_bytes=0) if isinstance(one, Gone)]
        assert gone


async def note(directory: Path) -> None:
    """Has the index alone changed: uses, checks, and what is gone."""
    async with opened(directory, max_bytes=1 << 40, job_started=time.time() + 10) as cache:
        names = [key(f"{number}-{whose}") for number in range(3) for whose in ("all", "first")]
        await publish(cache, body("0-all"), names[0])  # the first to evict has it noted who uses what
        for name, found in zip(names, await look_up(cache, *names), strict=True):
            if found is not None:
                cache.validate(name, found.ref, time.time())
        await settled(cache)
        cache.forget(names[-1])
        assert (await look_up(cache, names[-1])) == [None]


async def inspect_after(directory: Path, told: list[str]) -> None:
    """Whatever was killed when: blobs are whole, what was told of is there, and what is unfinished is of use."""
    check_blobs(directory)
    async with opened(directory) as cache:
        assert len(owners(directory)) == 1
        assert not leftovers(directory)
        check_unfinished(directory, body)
        check_accounts(directory)
        await _all_there(cache, told)
        check_blobs(directory)
        assert (await publish(cache, body("0-all"), key("0-all"))).path
        await bring_in_parts(cache, "large-all")
        check_accounts(directory)


async def _all_there(cache: Cache, told: list[str]) -> None:
    for name, found in zip(told, await look_up(cache, *map(key, told)), strict=True):
        assert found is not None, name
        assert found.ref.etag == name
        assert Path(found.path).read_bytes() == body(name)


def die_at(call: int) -> Callable[[], int]:
    """Has this process killed before or after one of its file operations, counted together; gives the count so far."""
    calls = 0

    def step() -> None:
        nonlocal calls
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def both_sides(*args: Any, **options: Any) -> Any:
            step()
            result = function(*args, **options)
            step()
            return result

        return both_sides

    for name, function in inspect.getmembers(files, inspect.isfunction):
        if function.__module__ == files.__name__:
            setattr(files, name, wrapped(function))
    return lambda: calls


def fork(work: Callable[[], Coroutine[Any, Any, None]], *, prepare: Callable[[], object] = lambda: None) -> int:
    child = os.fork()
    if child:
        return child
    try:
        prepare()
        asyncio.run(work())
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def succeeded(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def kill(directory: Path, rounds: int, rng: random.Random) -> dict[str, int]:
    """Rounds in which a process is killed at some moment: how many were, and of how many objects they told before.

    Each is followed by a look at all that is there, so a cache sees `CACHE_ROUNDS` of them, and then another is begun.
    """
    length = _calls_of_a_run(directory)
    results = []
    for number in range(rounds):
        if number % CACHE_ROUNDS == 0:
            shutil.rmtree(directory, ignore_errors=True)
        result = _round(
            directory, number, rng.randrange(length) if number % 3 else None, rng.randrange(6), clear=number % 5 == 4
        )
        results.append(result)
    return {"killed": sum(killed for killed, _ in results), "objects": sum(objects for _, objects in results)}


def _round(directory: Path, number: int, at_call: int | None, at_line: int, *, clear: bool) -> tuple[bool, int]:
    """One victim, killed at a call or soon after it told of an object, and one that goes on; then a look at all."""
    reading, writing = os.pipe()
    bystander = None if clear else fork(lambda: write(directory, f"bystander {number}", str, count=2, clear=False))

    def tell(name: str) -> None:
        os.write(writing, f"{name}\n".encode())

    def prepare() -> None:
        if at_call is not None:
            die_at(at_call)

    victim = fork(lambda: write(directory, f"victim {number}", tell, count=3, clear=clear), prepare=prepare)
    os.close(writing)
    told: list[str] = []
    with os.fdopen(reading) as lines:
        for line in lines:
            told.append(line.strip())
            if at_call is None and len(told) == at_line + 1:
                os.kill(victim, signal.SIGKILL)  # at a moment that nobody chose
    killed = not succeeded(victim)
    assert bystander is None or succeeded(bystander), "the bystander failed"
    there = [] if "clear" in told else told
    assert succeeded(fork(lambda: inspect_after(directory, there))), (number, at_call)
    return killed, len(told)


def each(directory: Path, stride: int, first: int) -> dict[str, int]:
    """Kills before and after each call of what a cache does, or `stride` apart."""

    async def fill() -> None:
        await write(directory, "first", str, count=3, clear=False)

    kinds: list[Callable[[], Coroutine[Any, Any, None]]] = [
        fill,
        lambda: evict(directory),
        lambda: clear(directory),
        lambda: prune_all(directory),
        lambda: note(directory),
    ]
    killed = 0
    for kind in kinds:
        call, alive = first, False
        while not alive:
            assert succeeded(fork(fill))
            alive = succeeded(fork(kind, prepare=lambda at=call: die_at(at)))  # type: ignore[misc]  # a default binds it
            killed += not alive
            assert succeeded(fork(lambda: inspect_after(directory, []))), (kind, call)
            call += stride
    return {"killed": killed}


def _calls_of_a_run(directory: Path) -> int:
    reading, writing = os.pipe()
    counters: list[Callable[[], int]] = []

    async def run() -> None:
        await write(directory, "first", str, count=3, clear=False)
        os.write(writing, str(counters[0]()).encode())

    assert succeeded(fork(run, prepare=lambda: counters.append(die_at(-1))))
    count = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    return count


def together(directory: Path, processes: int) -> dict[str, int]:
    """Processes that start at the same moment in a directory that is not there yet."""
    gate_reading, gate_writing = os.pipe()

    def wait_for_the_gate() -> None:
        os.close(gate_writing)
        os.read(gate_reading, 1)

    async def run(whose: str) -> None:
        await write(directory, whose, str, count=15, clear=False)

    children = [
        fork(lambda whose=str(number): run(whose), prepare=wait_for_the_gate)  # type: ignore[misc]  # a default binds it
        for number in range(processes)
    ]
    os.close(gate_reading)
    os.close(gate_writing)
    failed = [child for child in children if not succeeded(child)]
    told = [f"{number}-{whose}" for number in range(15) for whose in ("all", *map(str, range(processes)))]
    told.append("large-all")
    assert succeeded(fork(lambda: inspect_after(directory, told)))
    return {"failed": len(failed), "objects": len(told)}


async def jostle(directory: Path, rng: random.Random) -> None:
    """One of many users of a cache that is too small: reads what it finds, fetches what it must, as others bring it."""
    names = [f"{number}-all" for number in range(40)]
    async with opened(directory, max_bytes=500_000, job_started=rng.choice([None, LATER])) as cache:
        told: asyncio.Queue[tuple[RefKey, Found | None]] = asyncio.Queue()
        for _ in range(5):
            wanted = rng.sample(names, 10)
            answers = await seek(cache, wanted, told)
            for name, answer in zip(wanted, answers, strict=True):
                await _use(cache, name, answer)
            for _ in range(answers.count(Elsewhere.ELSEWHERE)):
                asked, found = await told.get()
                await _use(cache, asked.key, found)
            if rng.random() < 0.02:
                await cache.clear()


async def seek(
    cache: Cache, names: list[str], told: asyncio.Queue[tuple[RefKey, Found | None]]
) -> list[Found | Elsewhere | None]:
    def later(settled: Mapping[RefKey, Found | None]) -> None:
        for answer in settled.items():
            told.put_nowait(answer)

    return await taken(lambda done: cache.look_up([*map(key, names)], done, later=later))


async def _use(cache: Cache, name: str, answer: Found | Elsewhere | None) -> None:
    if isinstance(answer, Found):
        try:
            assert Path(answer.path).read_bytes() == body(name)
        except FileNotFoundError:  # cleared, or evicted by a job that began at the same moment
            cache.forget(key(name))
    elif answer is None:
        published = await publish(cache, body(name), key(name))
        if published.private:
            assert Path(published.path).read_bytes() == body(name)
            cache.discard(published.path)


def stress(directory: Path, rounds: int, rng: random.Random) -> dict[str, int]:
    """Eight at a time, one of which is killed; then a look at what is left."""
    killed = 0
    for _ in range(rounds):
        seeds = [rng.random() for _ in range(8)]
        children = [fork(lambda seed=seed: jostle(directory, random.Random(seed))) for seed in seeds]  # type: ignore[misc]
        if rng.random() < 0.8:
            os.kill(children[0], signal.SIGKILL)
        killed += not succeeded(children[0])
        outcomes = [succeeded(child) for child in children[1:]]
        assert all(outcomes)
        assert succeeded(fork(lambda: inspect_whole(directory)))
    return {"killed": killed}


async def inspect_whole(directory: Path) -> None:
    """Blobs are whole, nothing is left over, and no blob is there that the index does not count."""
    async with opened(directory):
        check_blobs(directory)
        check_unfinished(directory, body)
        assert not leftovers(directory)
        number, size = totals(directory)
        there = blobs(directory).values()
        assert len(there) <= number
        assert sum(path.stat().st_size for path in there) <= size


if __name__ == "__main__":
    for shared in ("large-all", *(f"{number}-all" for number in range(40))):
        body(shared)  # so that no process makes them once more
    gc.freeze()  # else each process would copy all of this as soon as its collector looks at it
    what, where, number, *rest = sys.argv[1:]
    if what == "kill":
        result = kill(Path(where), int(number), random.Random(int(rest[0])))
    elif what == "stress":
        result = stress(Path(where), int(number), random.Random(int(rest[0])))
    elif what == "each":
        result = each(Path(where), int(number), int(rest[0]))
    else:
        result = together(Path(where), int(number))
    print(json.dumps(result))
