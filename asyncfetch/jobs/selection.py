"""Which of the objects under a prefix are meant."""

from __future__ import annotations

import fnmatch
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asyncfetch.errors import UsageError
from asyncfetch.settings import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from re import Pattern

    from asyncfetch.objects import ObjectStat


@dataclass(frozen=True, slots=True)
class Selection:
    """What `--include`, `--exclude`, `--min-size`, `--max-size` and `--newer-than` say.

    A glob with a slash is held against all that follows the prefix, another against the last part of it; `*` matches
    slashes too, and case counts. An object is meant when one of the globs of `include` matches, or there are none, and
    none of `exclude` does. Sizes are bytes, both ends included; `newer_than` is in seconds since 1970.
    """

    include: Sequence[Pattern[str]] = field(default=())
    exclude: Sequence[Pattern[str]] = field(default=())
    min_size: int | None = None
    max_size: int | None = None
    newer_than: float | None = None

    def wants(self, stat: ObjectStat, below: str) -> bool:
        """Whether an object is meant, which is `below` its prefix. Markers of empty folders never are."""
        if not stat.size and stat.uri.endswith("/"):
            return False
        if self.min_size is not None and stat.size < self.min_size:
            return False
        if self.max_size is not None and stat.size > self.max_size:
            return False
        if self.newer_than is not None:
            modified = stat.last_modified
            if modified is None or modified.timestamp() <= self.newer_than:
                return False
        if self.include and not any(_matches(glob, below) for glob in self.include):
            return False
        return not (self.exclude and any(_matches(glob, below) for glob in self.exclude))

    def __bool__(self) -> bool:
        return self != Selection()


def selection(
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    min_size: str | None = None,
    max_size: str | None = None,
    newer_than: str | None = None,
) -> Selection:
    """Makes a selection of what a user says.

    Sizes are such as `10kB`, `newer_than` a duration such as `7d` or a date such as `2026-01-31` or
    `2026-01-31T12:00:00Z`, in UTC where it names no zone. Raises `UsageError`.
    """
    least = None if min_size is None else parse_size(min_size, name="--min-size")
    most = None if max_size is None else parse_size(max_size, name="--max-size")
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min-size {min_size} is more than --max-size {max_size}")
    return Selection(
        tuple(re.compile(_glob(text)) for text in include),
        tuple(re.compile(_glob(text)) for text in exclude),
        least,
        most,
        None if newer_than is None else _moment(newer_than),
    )


def _glob(text: str) -> str:
    if not text:
        raise UsageError("a glob must not be empty", remedy="Write such as '*.jpg' or '2024/*'.")
    # What matches the last part alone is held against the whole too: it may begin behind any slash.
    whole = fnmatch.translate(text.removeprefix("/"))
    return whole if "/" in text else rf"(?s:(?:.*/)?(?!.*/)){whole}"


def _matches(glob: Pattern[str], below: str) -> bool:
    return glob.match(below) is not None


def _moment(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        try:
            return time.time() - parse_duration(text, name="--newer-than")
        except UsageError:
            raise UsageError(
                f"--newer-than {text!r} is neither a date nor a duration", remedy="Write such as 2026-01-31 or 7d."
            ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
