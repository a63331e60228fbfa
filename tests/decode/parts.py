"""What the tests of the decode room share: a budget, a way to await jobs, real photographs as files."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import psutil
import skimage

from asyncfetch.decode import DecodeJob, DecodeOptions, DecodePool
from asyncfetch.settings import DecodePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.decode import Budget, Pixels, Row, Settled, Slab

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
PLENTY = 1 << 30
_orders = itertools.count()


class Share:
    """A grant of `PlainBudget`."""

    def __init__(self, budget: PlainBudget, amount: int) -> None:
        self.amount = amount
        self._budget = budget

    def correct(self, amount: int) -> None:
        if amount < self.amount:
            self.amount = amount
            self._budget.came_back()

    def delivered(self) -> None:
        if self._budget.lone is self:
            self._budget.lone = None
            self._budget.came_back()

    def release(self) -> None:
        if self in self._budget.grants:
            self._budget.grants.remove(self)
            self.delivered()
            self._budget.came_back()


class PlainBudget:
    """A budget that keeps a list of its grants. `came_back` is called for each return, on the thread it happens on."""

    def __init__(self, total: int = PLENTY) -> None:
        self.total = total
        self.grants: list[Share] = []
        self.lone: Share | None = None
        self.overdrafts = 0
        self.refusals = 0
        self.peak = 0
        self.came_back: Callable[[], object] = lambda: None

    @property
    def held(self) -> int:
        return sum(share.amount for share in list(self.grants))

    @property
    def excess(self) -> int:
        return max(0, self.held - self.total)

    def take(self, amount: int, *, alone: bool = False) -> Share | None:
        over = self.held + amount > self.total
        if over and not (alone and self.lone is None):
            self.refusals += 1
            return None
        share = Share(self, amount)
        self.grants.append(share)
        if over:
            self.overdrafts += 1
            self.lone = share
        self.peak = max(self.peak, self.held)
        return share


class OpenPool(Protocol):
    """The fixture `open_pool`."""

    def __call__(self, workers: int = 1, budget: PlainBudget | None = None, **policy: Any) -> DecodePool: ...


def make_pool(workers: int = 1, budget: Budget | None = None) -> DecodePool:
    return DecodePool(DecodePolicy(workers=workers), budget or PlainBudget())


class Outcome:
    """A submitted job whose outcome can be awaited; an exception is raised. What was awaited is not kept."""

    def __init__(
        self,
        pool: DecodePool,
        path: Path,
        *,
        urgent: bool = False,
        order: Any = None,
        digest: str | None = None,
        **options: Any,
    ) -> None:
        self.calls = 0
        self._future: asyncio.Future[Pixels] | None = asyncio.get_running_loop().create_future()
        self.job = DecodeJob(
            uri=f"s3://bucket/{path.name}",
            path=str(path),
            options=DecodeOptions(**options),
            order=next(_orders) if order is None else order,
            done=self._done,
            urgent=urgent,
            digest=digest,
        )
        pool.submit(self.job)

    @property
    def came(self) -> bool:
        return self.calls > 0

    async def get(self) -> Pixels:
        assert self._future is not None
        try:
            return await self._future
        finally:
            self._future = None

    async def error(self) -> Exception:
        try:
            pixels = await self.get()
        except Exception as error:
            return error
        raise AssertionError(f"there is an image of {pixels.shape}")

    def _done(self, settled: list[Settled]) -> None:
        [(_, outcome)] = settled
        self.calls += 1
        if self._future is None or self._future.cancelled():
            return
        if isinstance(outcome, Exception):
            self._future.set_exception(outcome)
            self._future.exception()  # not every test asks
        else:
            self._future.set_result(outcome)


class Seated:
    """A job with a row, whose outcome can be awaited."""

    def __init__(
        self,
        pool: DecodePool,
        path: Path,
        row: Row,
        *,
        order: int = 0,
        urgent: bool = False,
        digest: str | None = None,
        **options: Any,
    ) -> None:
        self._future: asyncio.Future[Pixels | Exception] = asyncio.get_running_loop().create_future()
        self.job = DecodeJob(
            uri=str(path),
            path=str(path),
            options=DecodeOptions(**options),
            order=order,
            row=row,
            urgent=urgent,
            digest=digest,
            done=self._done,
        )
        pool.submit(self.job)

    @property
    def came(self) -> bool:
        return self._future.done()

    async def get(self) -> Any:
        return await asyncio.wait_for(self._future, 20)

    def _done(self, settled: list[Settled]) -> None:
        [(_, outcome)] = settled
        self._future.set_result(outcome)


def make_slab(pool: DecodePool, count: int, size: int) -> Slab:
    slab = pool.slab(count, size)
    assert slab is not None
    return slab


async def decode(pool: DecodePool, path: Path, **options: Any) -> Pixels:
    return await Outcome(pool, path, **options).get()


def photograph(name: str = "astronaut.png", size: tuple[int, int] | None = None) -> Pixels:
    """A photograph as OpenCV reads it, BGR, resized to (width, height)."""
    image = cv2.imread(str(PHOTOGRAPHS / name))
    assert image is not None
    return cv2.resize(image, size) if size else image


def encode(extension: str, image: Pixels, *parameters: int) -> bytes:
    done, data = cv2.imencode(extension, image, parameters)
    assert done
    return data.tobytes()


def photographs(folder: Path, count: int, size: tuple[int, int] = (320, 240)) -> list[Path]:
    """Different JPEGs of one size."""
    names = ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg"]
    paths = []
    for index in range(count):
        image = np.roll(photograph(names[index % len(names)], size), index * 7, axis=1)
        paths.append(folder / f"{index:04}.jpg")
        paths[-1].write_bytes(encode(".jpg", image))
    return paths


def expected(path: Path, color: str = "rgb") -> Pixels:
    """What OpenCV makes of the file in this process."""
    flags = {"gray": cv2.IMREAD_GRAYSCALE, "unchanged": cv2.IMREAD_UNCHANGED}.get(color, cv2.IMREAD_COLOR)
    image: Pixels | None = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if color == "rgb" else image


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until something is true; the test's time-out is the limit."""
    while not condition():
        await asyncio.sleep(0.001)


def shared_mappings() -> int:
    """How many slots and status pages this process has mapped; 0 where the system does not say."""
    gc.collect()
    maps = Path("/proc/self/maps")
    return sum("memfd:asyncfetch" in line for line in maps.read_text().splitlines()) if maps.exists() else 0


def memory_of(pid: int) -> set[tuple[int, int]]:
    """The files (device and inode) that a process has mapped, its slots among them. Only Linux says."""
    found, slots = set[tuple[int, int]](), 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        device, inode = line.split()[3:5]
        major, _, minor = device.partition(":")
        found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
        slots += "asyncfetch" in line
    assert slots > 1, "the status page and a slot"
    return found


def names_left(memory: set[tuple[int, int]]) -> list[str]:
    """The names in /dev/shm under which such files can still be found."""
    left = []
    for entry in os.scandir("/dev/shm"):
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat(follow_symlinks=False)
            if (status.st_dev, status.st_ino) in memory:
                left.append(entry.name)
    return left


def descriptors() -> int:
    """How many descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; nobody may reap what its parent left behind in a container."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def environment() -> dict[str, str]:
    """An environment in which programs find this package and its tests, and nothing in their current directory."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def pids(pool: DecodePool) -> list[int]:
    """The process ids of the workers."""
    return [worker.pid for worker in pool._workers]
