"""How a long run shows itself: a bar on a terminal, a plain line now and then in a pipe, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from asyncfetch.cli.common import human

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_DETAILS = 0.2
_NO_BARS = ("dumb", "unknown")  # terminals that cannot go back in a line: editors' shells, consoles of build servers
_WIDE = 90  # columns from which there is room for a bar too
_BAR = 16  # columns of that
_TIME = 7  # columns of what is left, 0:00:00
_DETAIL = 12  # columns below which a detail tells nothing


class Progress:
    """Counts objects and bytes of a run, and shows them on standard error.

    The total may be unknown (None) and may grow: a listing is shown while it is still being read. `detail`, asked a
    few times a second, is what else there is to say.
    """

    def __init__(
        self, title: str, *, total: int | None = None, quiet: bool = False, detail: Callable[[], str] | None = None
    ) -> None:
        self.total = total
        self.objects = self.bytes = self.failed = 0
        self._title = title
        self._quiet = quiet
        self._detail = detail
        self._detailed = ""
        self._asked = 0.0
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty() and os.environ.get("TERM") not in _NO_BARS:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self.total, counts="", failed="", detail="")
            self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._show()
            self._bar.stop()

    def add(self, size: int | None) -> None:
        """Counts an object of so many bytes, or a failure (None)."""
        if size is None:
            self.failed += 1
        else:
            self.objects += 1
            self.bytes += size
        if (self.objects + self.failed) % 16 == 0:
            self._show()

    def _show(self) -> None:
        if self._quiet:
            return
        now = time.monotonic()
        rate = self.objects / max(now - self._started, 1e-9)
        speed = self.bytes / max(now - self._started, 1e-9)
        if self._detail is not None and now - self._asked >= SECONDS_BETWEEN_DETAILS:
            self._asked, self._detailed = now, self._detail()
        if self._bar is not None and self._task is not None:
            failed = f"{self.failed:,} failed" if self.failed else ""
            counts, detail = self._fitting(self._bar.console.width, f"{rate:,.0f}/s", f"{human(speed)}/s", failed)
            self._bar.update(
                self._task,
                completed=self.objects + self.failed,
                total=self.total,
                counts=counts,
                failed=f"[red]{failed}[/]" if failed else "",
                detail=detail,
            )
        elif now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            done = f"{self.objects + self.failed:,}" + (f" of {self.total:,}" if self.total else "")
            failed = f", {self.failed} failed" if self.failed else ""
            left = ""
            if self.total and rate > 0:
                left = f", {max(0, self.total - self.objects - self.failed) / rate:.0f} s left"
            print(
                f"{self._title}: {done} objects, {human(self.bytes)}, {rate:,.0f}/s, {human(speed)}/s{failed}{left}"
                + (self._detailed and f", {self._detailed}"),
                file=sys.stderr,
                flush=True,
            )

    def _fitting(self, width: int, rate: str, speed: str, failed: str) -> tuple[str, str]:
        """The counts and the detail as a line of so many columns has room for them, beside failures and the time."""
        counts = f"{self.objects + self.failed:,}" + (f"/{self.total:,}" if self.total else "")
        room = width - len(counts) - len(failed) - _TIME - 4
        for more in (rate, speed):
            if room > len(more):
                counts += " " + more
                room -= len(more) + 1
        if width >= _WIDE:
            room -= len(self._title) + _BAR + 2
        return counts, self._detailed[:room] if room >= _DETAIL else ""


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    wide = [TextColumn("{task.description}"), BarColumn(_BAR)] if console.width >= _WIDE else []
    return Bar(
        *wide,
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
    )
