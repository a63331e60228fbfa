"""What a row of the bench is: one way to do a workload, in a process of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import uvloop
from blake3 import blake3

from bench import data
from bench.names import BUCKET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from bench.keep import Kept
    from bench.workloads import Scenario

T = TypeVar("T")

# What a row does with each body. "all": hashed with BLAKE3 and on disk under a name, by rename.
Does = Literal["all", "no digest", "discards"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a row's process is told: to do `count` objects of those that were made.

    `directory` is its own, empty, on the medium under test.
    """

    workload: str
    kind: str
    count: int
    made: int
    root: str
    endpoint: str
    authority: str | None
    directory: str
    at_once: int
    workers: int

    @property
    def bucket(self) -> str:
        """Where the objects are."""
        return BUCKET

    @cached_property
    def objects(self) -> data.DataSet:
        """The objects of the workload; a listing has none."""
        return data.load(Path(self.root), self.kind, self.count)

    @property
    def keys(self) -> list[str]:
        """Of the objects, in order."""
        return [item.key for item in self.objects.items]

    @property
    def warm_up_keys(self) -> list[str]:
        """Of photographs that the workload does not ask for."""
        return [item.key for item in self.objects.warm_up]


class Work(NamedTuple):
    """What a row has done: counts, errors, and a token for each object, asked for when the clock stands."""

    objects: int
    bytes: int
    errors: list[str]
    prove: Callable[[], Iterable[tuple[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. `open` imports, connects and warms up, and gives a function that does the work once, on the clock."""

    name: str
    label: str
    open: Callable[[Job], AbstractContextManager[Callable[[], Work]]]
    workloads: frozenset[str]
    packages: tuple[str, ...] = ()
    does: Does = "all"
    floor: bool = False  # a measure of what is possible, nothing that one could use
    tls_only: bool = False

    def runs(self, scenario: Scenario) -> bool:
        """Whether it can do this at all."""
        plain = scenario.workload.fetches and not scenario.tls
        return scenario.workload.name in self.workloads and not (self.tls_only and plain)

    def missing(self) -> list[str]:
        """The packages that it needs and this Python has not."""
        return [name for name in self.packages if find_spec(name) is None]


def fetched(kept: list[Kept], errors: list[str]) -> Work:
    """The work of a row that fetched objects: each proves itself by the digest of the file it left."""
    return Work(len(kept), sum(item.size for item in kept), errors, lambda: map(_token, kept))


def _token(item: Kept) -> tuple[str, str]:
    if item.path is None:
        return item.key, f"discarded {item.size}"
    found = blake3().update_mmap(item.path).hexdigest()
    if item.digest not in (None, found):
        return item.key, f"{item.path} is {found} and was said to be {item.digest}"
    return item.key, found


def ends(body: bytes | bytearray) -> bytes:
    """A token of a body that costs next to nothing: its length and both ends."""
    return b"%d:%b:%b" % (len(body), bytes(body[:32]), bytes(body[-32:]))


def read(tokens: dict[str, bytes], size: int, errors: list[str]) -> Work:
    """The work of a row that read bytes into memory; `size` is how many, `tokens` are those of `ends`."""
    return Work(len(tokens), size, errors, lambda: ((key, token.hex()) for key, token in tokens.items()))


def decoded(lines: dict[str, bytes], size: int, errors: list[str]) -> Work:
    """The work of a row that decoded images; `size` is bytes of pixels, `lines` the middle lines of the images."""
    return Work(len(lines), size, errors, lambda: ((key, blake3(line).hexdigest()) for key, line in lines.items()))


def listed(found: list[tuple[str, int]]) -> Work:
    """The work of a row that listed keys with sizes."""
    return Work(len(found), sum(size for _, size in found), [], lambda: ((key, str(size)) for key, size in found))


def on_loop(
    open: Callable[[Job], AbstractAsyncContextManager[Callable[[], Awaitable[Work]]]],
) -> Callable[[Job], AbstractContextManager[Callable[[], Work]]]:
    """Makes an asynchronous opening a plain one. Every row that runs on asyncio runs on uvloop."""

    @contextmanager
    def opened(job: Job) -> Iterator[Callable[[], Work]]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            context = open(job)
            work = runner.run(_await(context.__aenter__()))
            try:
                yield lambda: runner.run(_await(work()))
            finally:
                runner.run(_await(context.__aexit__(None, None, None)))

    return opened


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def in_tasks(items: Iterable[T], at_once: int, one: Callable[[T], Awaitable[None]]) -> list[str]:
    """Does one thing for each item, so many at once. Gives the errors, as text."""
    errors: list[str] = []
    left = iter(items)

    async def lane() -> None:
        for item in left:
            try:
                await one(item)
            except Exception as error:
                errors.append(repr(error))

    await asyncio.gather(*(lane() for _ in range(at_once)))
    return errors


@contextmanager
def threads(count: int) -> Iterator[Callable[[Iterable[T], Callable[[T], Any]], list[str]]]:
    """Threads, started now, that do one thing for each item; gives the errors, as text."""
    with ThreadPoolExecutor(count) as pool:

        def run(items: Iterable[T], one: Callable[[T], Any]) -> list[str]:
            futures = [pool.submit(one, item) for item in items]
            return [repr(error) for future in futures if (error := future.exception()) is not None]

        yield run
