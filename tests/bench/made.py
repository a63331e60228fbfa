"""Results without a run."""

from bench.results import Measured, Results, Round


def done(number: int = 0, *, seconds: float = 1.0, objects: int = 100, **more: object) -> Round:
    """A round of 100 objects of 1,000 bytes, 1 ms of CPU and 0.5 ms in the first process for each."""
    values: dict[str, object] = {
        "seconds": seconds,
        "cpu": 0.1,
        "own_cpu": 0.05,
        "server_cpu": 0.02,
        "peak_memory": 50_000_000,
        "objects": objects,
        "bytes": 1000 * objects,
        "proof": "same",
    }
    return Round(number, **(values | more))  # type: ignore[arg-type]


def measured(scenario: str, **rows: list[Round]) -> Measured:
    """A scenario; of names of rows, `_` stands for `-`."""
    found = {row.replace("_", "-"): rounds for row, rounds in rows.items()}
    return Measured(scenario, f"what {scenario} is", 100, found, "same")


def results(*scenarios: Measured) -> Results:
    """What a run would have given on a machine of two cores."""
    return Results(
        created="2025-01-02T03:04:05+00:00",
        settings={
            "commit": "abc",
            "rounds": 3,
            "seed": 0,
            "medium": "/dev/shm (tmpfs)",
            "server": "nginx",
            "memory": "m",
        },
        machine={"cpu": "a CPU", "cores": 2, "memory": 1 << 33, "system": "Linux", "kernel": "6", "architecture": "x"},
        versions={"python": "3"},
        scenarios=list(scenarios),
        missing={"s5cmd": "s5cmd not installed"},
    )
