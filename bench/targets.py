"""What must hold (2 cores, caches on tmpfs, medians of interleaved rounds), and whether it does.

The targets of programs with stages of their own stand with what they measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from bench.results import US, Results, spread
from bench.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_R = TypeVar("_R")  # what a program of the bench has measured
Figures: TypeAlias = dict[str, dict[str, float]]  # of each stage of a program that has stages, by name


class Target(NamedTuple, Generic[_R]):
    """One figure that must hold. `measure` gives None where what it needs was not measured."""

    text: str
    scenarios: tuple[str, ...]  # or stages
    least: float | None
    most: float | None
    unit: str
    measure: Callable[[_R], float | None]

    @property
    def wanted(self) -> str:
        """Such as `>= 6x`."""
        if self.least is None:
            return f"<= {self.most:,}{self.unit}"
        return f">= {self.least:,}{self.unit}" if self.most is None else f"{self.least:,} to {self.most:,}{self.unit}"

    def holds(self, value: float) -> bool:
        """Whether a measured value is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


class Checked(NamedTuple):
    """A target and what was measured for it."""

    target: Target[Any]
    value: float | None

    @property
    def verdict(self) -> str:
        """`OK`, `MISSED` or `NOT MEASURED`."""
        if self.value is None:
            return "NOT MEASURED"
        return "OK" if self.target.holds(self.value) else "MISSED"


def check(results: Results) -> list[Checked]:
    """Holds the targets of all scenarios that were run against the results."""
    return _hold(TARGETS, {measured.scenario for measured in results.scenarios}, results)


def check_figures(targets: Sequence[Target[Figures]], figures: Figures) -> list[Checked]:
    """Holds the targets of all stages that were run against their figures."""
    return _hold(targets, figures.keys(), figures)


def all_hold(checked: Sequence[Checked]) -> bool:
    """Whether there are any, and each was measured and is good enough."""
    return bool(checked) and all(one.verdict == "OK" for one in checked)


def of_stage(
    stage: str,
    name: str,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    unit: str = "",
    times: float = 1,
) -> Target[Figures]:
    """A figure of a stage, so many `times`."""

    def measure(figures: Figures) -> float | None:
        value = figures[stage].get(name)
        return None if value is None else value * times

    return Target(text, (stage,), least, most, unit, measure)


def _hold(targets: Sequence[Target[_R]], ran: Iterable[str], results: _R) -> list[Checked]:
    ran = set(ran)
    return [Checked(target, target.measure(results)) for target in targets if ran.issuperset(target.scenarios)]


def figure(results: Results, scenario: str, row: str, name: str) -> float | None:
    """The median of one figure of one row."""
    measured = results.scenario(scenario)
    found = spread(measured, row, name) if measured is not None else None
    return found.median if found is not None else None


def faster(scenario: str, peer: str, least: float, text: str) -> Target[Results]:
    """Objects per second: ours over a peer's."""
    return Target(text, (scenario,), least, None, "x", lambda all: _over(all, (scenario, US), (scenario, peer), _RATE))


def cheaper(scenario: str, peer: str, least: float, text: str) -> Target[Results]:
    """CPU per object: a peer's over ours."""
    return Target(text, (scenario,), least, None, "x", lambda all: _over(all, (scenario, peer), (scenario, US), _CPU))


def at_least(scenario: str, name: str, least: float, unit: str, text: str) -> Target[Results]:
    """A figure of ours, as it is."""
    return Target(text, (scenario,), least, None, unit, lambda all: figure(all, scenario, US, name))


def at_most(scenario: str, name: str, most: float, unit: str, text: str) -> Target[Results]:
    """A figure of ours, as it is."""
    return Target(text, (scenario,), None, most, unit, lambda all: figure(all, scenario, US, name))


_RATE, _CPU = "objects_per_s", "cpu_us_per_object"


def _over(results: Results, above: tuple[str, str], below: tuple[str, str], name: str) -> float | None:
    over, under = figure(results, *above, name), figure(results, *below, name)
    return over / under if over is not None and under else None


def _best_peer(results: Results) -> float | None:
    """MB/s of 64 MiB objects: ours over the fastest peer's that hashes and keeps them too."""
    measured = results.scenario("large")
    if measured is None:
        return None
    rates = [
        found.median
        for name, row in ROWS.items()
        if name != US and row.does == "all" and not row.floor and (found := spread(measured, name, "mb_per_s"))
    ]
    ours = figure(results, "large", US, "mb_per_s")
    return ours / max(rates) if ours is not None and rates else None


def _engine(results: Results) -> float | None:
    """CPU per cold photograph above that of protocol, digest, write and rename."""
    ours, floor = (figure(results, "photos", row, _CPU) for row in (US, "floor-kept"))
    return ours - floor if ours is not None and floor is not None else None


def _cold_images(results: Results) -> float | None:
    """Images per second, fetched and decoded, over bare decoding with what the server left of the cores."""
    measured = results.scenario("images-cold")
    ours, bare = (figure(results, "images-cold", row, _RATE) for row in (US, "decoding"))
    if measured is None or ours is None or bare is None:
        return None
    server = figure(results, "images-cold", US, "server_cpu_us_per_object")
    assert server is not None
    cores: int = results.machine["cores"]
    return ours / (bare * (1 - server * 1e-6 * ours / cores))


TARGETS: tuple[Target[Results], ...] = (
    faster("photos", "aioboto3", 6, "86 KB cold, plain HTTP: objects/s against aioboto3"),
    cheaper("photos", "aioboto3", 8, "86 KB cold, plain HTTP: CPU per object against aioboto3"),
    faster("photos-tls", "aioboto3", 8, "86 KB cold, TLS: objects/s against aioboto3"),
    cheaper("photos-tls", "aioboto3", 9, "86 KB cold, TLS: CPU per object against aioboto3"),
    cheaper("photos", "obstore", 1.15, "86 KB cold, plain HTTP: CPU per object against the obstore loop"),
    cheaper("photos-tls", "obstore", 1.3, "86 KB cold, TLS: CPU per object against the obstore loop"),
    faster("small", "aioboto3", 12, "4 KiB cold: objects/s against aioboto3"),
    faster("small", "obstore", 1.3, "4 KiB cold: objects/s against the obstore loop"),
    Target("64 MiB cold: MB/s against the best peer that does the same", ("large",), 1.0, None, "x", _best_peer),
    at_most("large", "peak_mb", 200, " MB", "64 MiB cold: peak memory"),
    Target(
        "86 KB cold: the engine's own CPU above protocol + digest + write + rename",
        ("photos",),
        None,
        35,
        " us",
        _engine,
    ),
    at_least("warm-entries", _RATE, 15_000, "/s", "warm entries, not revalidated"),
    faster("warm-bytes", "diskcache", 2, "warm bytes of 86 KB against diskcache"),
    faster("warm-bytes", "s3fs", 10, "warm bytes of 86 KB against fsspec's filecache"),
    faster("images-warm", "decoding", 0.88, "images, warm: against bare decoding with as many workers"),
    at_most("images-warm", "own_cpu_us_per_object", 40, " us", "images, warm: CPU of the parent process per image"),
    Target(
        "images, cold: the same, the server's CPU taken off the cores", ("images-cold",), 0.70, None, "x", _cold_images
    ),
    at_most("images-mixed", "peak_mb", 200, " MB", "mixed images with 64 MiB of budget: peak of all processes"),
    faster(
        "batches-warm", "dataloader", 1.15, "batches of 224x224, warm: against DataLoader over OpenCV on local files"
    ),
    faster("batches-warm", "spdl", 1.0, "batches of 224x224, warm: against SPDL's pipeline of processes"),
    at_most("batches-warm", "own_cpu_us_per_object", 40, " us", "batches, warm: CPU of the parent process per image"),
    faster("batches-cold", "dataloader", 2.2, "batches of 224x224, cold: against DataLoader over boto3"),
    at_most("first-batch", "seconds", 1.5, " s", "first batch, from the start of the program, nothing cached"),
    faster("first-batch", "dataloader", 2, "first batch: against a program with a DataLoader over boto3"),
    cheaper("list", "aioboto3", 5, "listing 100,000 keys: CPU against aioboto3's paginator"),
)
