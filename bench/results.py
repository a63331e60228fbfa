"""What was measured: rounds, medians and spreads, and their form as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1  # of the JSON; it grows when a reader of the old one would misread the new
US = "us"


@dataclass(frozen=True, slots=True)
class Round:
    """One row, once.

    `cpu` is seconds of its whole process tree, `own_cpu` of its first process, `server_cpu` of the servers. `proof` is
    a digest over what it has to show for its work, None where it kept nothing. With `failure` all else is nothing.
    """

    number: int
    seconds: float = 0.0
    cpu: float = 0.0
    own_cpu: float = 0.0
    server_cpu: float = 0.0
    peak_memory: int = 0
    objects: int = 0
    bytes: int = 0
    errors: int = 0
    first_error: str | None = None
    proof: str | None = None
    failure: str | None = None


@dataclass(slots=True)
class Measured:
    """One scenario: the rounds of each row. `expected` is the proof that all must give, None where nobody knows it."""

    scenario: str
    title: str
    count: int
    rows: dict[str, list[Round]]
    expected: str | None = None


@dataclass(slots=True)
class Results:
    """All that one run of the bench has found."""

    created: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    scenarios: list[Measured] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def scenario(self, name: str) -> Measured | None:
        """One scenario, None when it was not run."""
        return next((measured for measured in self.scenarios if measured.scenario == name), None)


class Spread(NamedTuple):
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float


# The figures of a row: name -> what it is of one round.
FIGURES: dict[str, Callable[[Round], float]] = {
    "seconds": lambda done: done.seconds,
    "objects_per_s": lambda done: done.objects / done.seconds,
    "mb_per_s": lambda done: done.bytes / done.seconds / 1e6,
    "cpu_us_per_object": lambda done: done.cpu / done.objects * 1e6,
    "cpu_s_per_gb": lambda done: done.cpu / (done.bytes / 1e9),
    "own_cpu_us_per_object": lambda done: done.own_cpu / done.objects * 1e6,
    "server_cpu_us_per_object": lambda done: done.server_cpu / done.objects * 1e6,
    "peak_mb": lambda done: done.peak_memory / 1e6,
}


def spread(measured: Measured, row: str, figure: str) -> Spread | None:
    """One figure of a row; None where the row did not run, failed, or had errors."""
    rounds = measured.rows.get(row, [])
    if not rounds or state(measured, row) not in SOUND:
        return None
    values = [FIGURES[figure](done) for done in rounds]
    return Spread(median(values), min(values), max(values))


def ratio(measured: Measured, row: str, figure: str) -> float | None:
    """How many times our median a row's median is."""
    theirs, ours = spread(measured, row, figure), spread(measured, US, figure)
    return theirs.median / ours.median if theirs and ours and ours.median else None


SOUND = ("done", "nothing to show")


def state(measured: Measured, row: str) -> str:
    """How a row fared.

    `"done"`, `"nothing to show"` (it kept nothing, and says so), `"errors"`, `"different work"`, or `"failed"`.
    """
    rounds = measured.rows.get(row, [])
    if any(done.failure is not None for done in rounds):
        return "failed"
    if any(done.errors or done.objects != measured.count for done in rounds):
        return "errors"
    proofs = {done.proof for done in rounds}
    if proofs == {None}:
        return "nothing to show"
    return "done" if proofs == {measured.expected or _agreed(measured)} else "different work"


def why(measured: Measured, row: str) -> str:
    """What went wrong with a row, for people; empty when nothing did."""
    match state(measured, row):
        case "failed":
            return next(done.failure for done in measured.rows[row] if done.failure is not None)
        case "errors":
            bad = next(done for done in measured.rows[row] if done.errors or done.objects != measured.count)
            return f"{bad.objects:,} of {measured.count:,} objects; {bad.first_error or 'without an error'}"
        case "different work":
            return "its bytes are not those of the objects"
    return ""


def _agreed(measured: Measured) -> str | None:
    """Where nobody knows the proof before, what most rounds found."""
    proofs = [done.proof for rounds in measured.rows.values() for done in rounds if done.proof is not None]
    return max(proofs, key=proofs.count, default=None)


def to_json(results: Results) -> dict[str, Any]:
    """All of it, with medians, spreads and ratios beside the rounds they come from."""
    value = asdict(results)
    value["format"] = FORMAT
    for measured, described in zip(results.scenarios, value["scenarios"], strict=True):
        described["rows"] = {
            row: {
                "state": state(measured, row),
                "figures": {
                    figure: {**found._asdict(), "ratio_to_us": ratio(measured, row, figure)}
                    for figure in FIGURES
                    if (found := spread(measured, row, figure)) is not None
                },
                "rounds": rounds,
            }
            for row, rounds in described["rows"].items()
        }
    return value


def from_json(value: dict[str, Any]) -> Results:
    """What `to_json` gave. Raises `ValueError` for another format."""
    if value.get("format") != FORMAT:
        raise ValueError(f"these results have format {value.get('format')!r}, not {FORMAT}")
    scenarios = [
        Measured(
            described["scenario"],
            described["title"],
            described["count"],
            {row: [Round(**done) for done in found["rounds"]] for row, found in described["rows"].items()},
            described["expected"],
        )
        for described in value["scenarios"]
    ]
    head = {name: value[name] for name in ("created", "settings", "machine", "versions", "missing")}
    return Results(**head, scenarios=scenarios)
