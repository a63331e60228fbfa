"""What a run comes to: the counts of its report, and the clocks that its verdict is told by."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from asyncfetch.engine import judge
from asyncfetch.objects import Report

if TYPE_CHECKING:
    from asyncfetch.engine import Engine, Landed, Snapshot
    from asyncfetch.objects import Failure

KEPT_FAILURES = 1000  # failures that a report holds whole; the others are counted


class Tally:
    """What a run's report says."""

    def __init__(self, engine: Engine) -> None:
        self.landed: list[Landed] = []  # not counted yet: together that costs half
        self._engine = engine
        self._before = engine.snapshot()
        self._after: Snapshot | None = None  # at the end, once that is there
        self.failed = 0
        self._objects = self._bytes = self._downloaded = self._downloaded_bytes = 0
        self._failures: list[Failure] = []
        self._kinds: Counter[str] = Counter()

    @property
    def items(self) -> int:
        """Objects and failures."""
        self.count()
        return self._objects + self.failed

    def count(self) -> None:
        """Counts what has landed."""
        sizes = [landed.size for landed in self.landed]
        fetched = [landed.size for landed in self.landed if not landed.from_cache]
        objects, size, downloaded, downloaded_size = len(sizes), sum(sizes), len(fetched), sum(fetched)
        # Without a call, so that no interrupt parts them.
        self._objects += objects
        self._bytes += size
        self._downloaded += downloaded
        self._downloaded_bytes += downloaded_size
        self.landed = []

    def failure(self, failure: Failure) -> None:
        """Counts a failure."""
        self.failed += 1
        self._kinds[type(failure.exception).__name__] += 1
        if len(self._failures) < KEPT_FAILURES:
            self._failures.append(failure)

    def finish(self) -> None:
        """Stops the clocks."""
        if self._after is None:
            self._after = self._engine.snapshot()

    def report(self, *, consumer: float, source: float) -> Report:
        """Sums up, with the seconds that the consumer took and the source."""
        self.count()
        after = self._after or self._engine.snapshot()
        verdict = judge(self._before, after, consumer=consumer, source=source)
        return Report(
            objects=self._objects,
            bytes=self._bytes,
            downloaded=self._downloaded,
            downloaded_bytes=self._downloaded_bytes,
            failed=self.failed,
            failures=tuple(self._failures),
            failures_by_kind=dict(self._kinds),
            seconds=after.at - self._before.at,
            verdict=verdict,
        )
