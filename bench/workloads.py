"""What is measured: the workloads, and the scenarios they are run in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Bytes = Literal["photos", "mixed", "small", "large", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One job that every row does in its own way. `data` is the set of objects, `count` how many of it."""

    name: str
    title: str
    data: Bytes
    count: int
    quick_count: int
    over_tls: bool = False  # measured over TLS too, unless asked otherwise
    fetches: bool = True  # from the object server, within the clock
    decodes: bool = False  # to pixels, of which nobody knows before what they are
    epoch: int = 1  # so many times as many objects are there as count


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="photos",
            title="photographs of 86 KB, cold, into the cache",
            data="photos",
            count=4000,
            quick_count=1000,
            over_tls=True,
        ),
        Workload(
            name="small", title="objects of 4 KiB, cold, into the cache", data="small", count=8000, quick_count=2000
        ),
        Workload(name="large", title="objects of 64 MiB, cold, into the cache", data="large", count=16, quick_count=4),
        Workload(name="list", title="keys listed, in pages of 1,000", data="none", count=100_000, quick_count=20_000),
        Workload(
            name="warm-entries",
            title="entries from the warm cache, not revalidated",
            data="photos",
            count=4000,
            quick_count=2000,
            fetches=False,
        ),
        Workload(
            name="warm-bytes",
            title="bytes of photographs of 86 KB from the warm cache",
            data="photos",
            count=4000,
            quick_count=2000,
            fetches=False,
        ),
        Workload(
            name="images-warm",
            title="photographs decoded, from the warm cache",
            data="photos",
            count=4000,
            quick_count=1000,
            fetches=False,
            decodes=True,
        ),
        Workload(
            name="images-cold",
            title="photographs fetched and decoded",
            data="photos",
            count=4000,
            quick_count=1000,
            decodes=True,
        ),
        Workload(
            name="images-mixed",
            title="JPEG, PNG, TIFF and WebP fetched and decoded with a memory budget of 64 MiB",
            data="mixed",
            count=4000,
            quick_count=1000,
            decodes=True,
        ),
        Workload(
            name="batches-warm",
            title="photographs in batches of 64 at 224x224, from the warm cache or local files",
            data="photos",
            count=6400,
            quick_count=1280,
            fetches=False,
            decodes=True,
        ),
        Workload(
            name="batches-cold",
            title="photographs fetched, in batches of 64 at 224x224",
            data="photos",
            count=3200,
            quick_count=640,
            decodes=True,
        ),
        Workload(
            name="first-batch",
            title="photographs in the first batch, from the start of a program on, nothing cached",
            data="photos",
            count=64,
            quick_count=64,
            decodes=True,
            epoch=8,
        ),
    )
}

QUICK = ("photos", "small", "large", "images-warm")
QUICK_ROWS = ("us", "aioboto3", "obstore", "floor-kept", "decoding")


class Scenario(NamedTuple):
    """A workload, over TLS or not, with the caches on the chosen medium or on disk."""

    workload: Workload
    objects: int
    tls: bool = False
    on_disk: bool = False

    @property
    def name(self) -> str:
        """Such as `photos`, `photos-tls`, `photos@disk`."""
        return f"{self.workload.name}{'-tls' if self.tls else ''}{'@disk' if self.on_disk else ''}"

    @property
    def made(self) -> int:
        """How many objects there must be."""
        return self.objects * self.workload.epoch

    @property
    def title(self) -> str:
        """What it is, for people."""
        wire = f", {'TLS' if self.tls else 'plain HTTP'}" if self.workload.fetches else ""
        return f"{self.objects:,} {self.workload.title}{wire}{', cache on disk' if self.on_disk else ''}"


def scenarios(
    names: list[str], *, quick: bool = False, scale: float = 1.0, tls: bool | None = None, disk: bool = False
) -> list[Scenario]:
    """The scenarios to run. `tls` None measures over TLS beside plain HTTP only where the targets ask for it."""
    chosen = []
    for name in names:
        workload = WORKLOADS[name]
        count = max(1, round((workload.quick_count if quick else workload.count) * scale))
        wires = {None: [False, True] if workload.over_tls and not quick else [False], True: [True], False: [False]}[tls]
        # The canned pages come over plain HTTP only, and what does not fetch has no wire.
        if not workload.fetches or workload.data == "none":
            wires = [False]
        media = [False, True] if disk and workload.data != "none" else [False]
        chosen += [Scenario(workload, count, wire, medium) for medium in media for wire in wires]
    return chosen
