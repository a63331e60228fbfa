"""What a run leaves behind for the morning: a log with a line for each file, a report for programs, one for people."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asyncfetch.jobs.page import page
from asyncfetch.whole import whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from asyncfetch.jobs.download import Event, Tally
    from asyncfetch.jobs.html import Picture
    from asyncfetch.jobs.plan import Counts
    from asyncfetch.objects import Stats

SHOWN = 24  # pictures of a contact sheet
_KEPT = 20  # failures of each cause that a report names; the others are in failures.jsonl
_COLUMNS = 240  # of throughput over time


class Chronicle:
    """Takes down what happens, on the loop; its memory does not grow with the number of files. A context manager.

    `root` is the directory of the job, `title` what was asked for. A disk that is full ends the log and nothing else:
    `broken` is then what it said.
    """

    def __init__(self, root: Path, title: str) -> None:
        self._root, self._title = root, title
        self._began = datetime.now(UTC)
        self._seconds: Counter[int] = Counter()  # bytes by second
        self._sizes: Counter[int] = Counter()  # files by the power of two that they reach
        self._latencies: Counter[int] = Counter()  # files by the power of two of milliseconds
        self._causes: Counter[str] = Counter()
        self._failed: dict[str, list[dict[str, str]]] = {}
        self._pictures: list[str] = []
        self._seen = 0
        self._step = 1
        self.broken: OSError | None = None

    def __enter__(self) -> Self:
        (self._root / "logs").mkdir(exist_ok=True)
        path = self._root / "logs" / f"asyncfetch-{self._began:%Y%m%d-%H%M%S}.log"
        self._log = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._say(f"begun: {self._title}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._say("ended" if kind is None else f"ended by {kind.__name__}")
        try:
            self._log.close()
        except OSError as error:  # what it still held; the descriptor is closed all the same
            self.broken = self.broken or error

    @property
    def pictures(self) -> list[str]:
        """Paths of some of the files whose names are those of pictures, from all over the run."""
        return self._pictures[:SHOWN]

    def note(self, event: Event) -> None:
        """Takes down one outcome."""
        outcome = event.outcome
        took = f"{outcome.seconds:.3f} s"
        if outcome.error is not None:
            self._causes[outcome.error] += 1
            examples = self._failed.setdefault(outcome.error, [])
            if len(examples) < _KEPT:
                examples.append({"uri": outcome.uri, "message": outcome.message or ""})
            self._say(f"failed {took} {outcome.error}: {_line(outcome.message or outcome.uri)}")
            return
        assert outcome.path is not None
        self._seconds[int((datetime.now(UTC) - self._began).total_seconds())] += outcome.size
        self._sizes[_power(outcome.size)] += 1
        self._latencies[_power(outcome.seconds * 1000)] += 1
        self._choose(outcome.path)
        where = "cache" if event.from_cache else "origin"
        self._say(f"done {took} {outcome.size} bytes from {where} {_line(outcome.uri)} -> {_line(outcome.path)}")

    def finish(self, counts: Counts, tally: Tally, stats: Stats, pictures: list[Picture]) -> None:
        """Writes `report.json` and `report.html`, each whole or not at all. Raises `OSError`."""
        report = self._report(counts, tally, stats)
        _write(self._root / "report.json", json.dumps(report, indent=1) + "\n")
        _write(self._root / "report.html", page(report, pictures))

    def _report(self, counts: Counts, tally: Tally, stats: Stats) -> dict[str, Any]:
        ended = datetime.now(UTC)
        return {
            "title": self._title,
            "began": f"{self._began:%Y-%m-%dT%H:%M:%SZ}",
            "ended": f"{ended:%Y-%m-%dT%H:%M:%SZ}",
            "plan": asdict(counts),
            "run": asdict(tally) | {"kinds": dict(tally.kinds)},
            "retries": stats.retries,
            "first_byte_seconds": _finite(stats.first_byte._asdict()),
            "whole_body_seconds": _finite(stats.whole_body._asdict()),
            "verdict": stats.verdict._asdict(),
            "bytes_by_time": columns(self._seconds),
            "files_by_size": {str(power): count for power, count in sorted(self._sizes.items())},
            "files_by_milliseconds": {str(power): count for power, count in sorted(self._latencies.items())},
            "failures": {
                cause: {"count": count, "first": self._failed[cause]} for cause, count in self._causes.most_common()
            },
        }

    def _choose(self, path: str) -> None:
        """Keeps every so manieth picture, and half as many whenever there are twice too many."""
        if not path.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")):
            return
        if self._seen % self._step == 0:
            self._pictures.append(path)
            if len(self._pictures) == 2 * SHOWN:
                self._pictures = self._pictures[::2]
                self._step *= 2
        self._seen += 1

    def _say(self, text: str) -> None:
        if self.broken is not None:
            return
        try:
            self._log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")
        except OSError as error:
            self.broken = error


def columns(seconds: Mapping[int, int]) -> dict[str, Any]:
    """Bytes by second, counted from the begin, in at most 240 columns of so many seconds each."""
    last = max(seconds, default=0)
    width = -(-(last + 1) // _COLUMNS)
    counts = [0] * (last // width + 1)
    for second, count in seconds.items():
        counts[second // width] += count
    return {"seconds": width, "bytes": counts}


def _power(value: float) -> int:
    """The power of two that a number has reached; all below one is at 0."""
    return 1 << int(value).bit_length() - 1 if value >= 1 else 0


def _line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}


def _write(path: Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
