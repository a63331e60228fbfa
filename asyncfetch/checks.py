"""Whether what users hand in is of the type and within the bounds that it must be, said by `UsageError` where not."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from typing import SupportsIndex


def count_of(value: SupportsIndex, least: int | None = None, most: int | None = None) -> int | None:
    """A whole number within bounds, as an `int`, be it NumPy's or what else counts as one (`__index__`); else None.

    True and False are none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        return None
    outside = (least is not None and number < least) or (most is not None and number > most)
    return None if outside or isinstance(value, bool) else number


def settle_count(group: object, name: str, least: int | None = None, most: int | None = None) -> bool:
    """Whether a field of a frozen dataclass is such a number; from then on it is an `int`."""
    number = count_of(getattr(group, name), least, most)
    if number is not None:
        object.__setattr__(group, name, number)
    return number is not None


def check_group(value: object, name: str, kind: type) -> None:
    """Refuses a group of settings that is of another type."""
    if not isinstance(value, kind):  # of what it is instead only the type is told: it may be a key
        raise UsageError(f"{name} must be of the type {kind.__name__}, not {type(value).__name__}")


def check_texts(group: object, *names: str) -> None:
    """Refuses fields that are neither text nor None."""
    for name in names:
        value = getattr(group, name)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} must be text, not {value!r}")


def check_flags(group: object, *names: str) -> None:
    """Refuses fields that are neither True nor False."""
    for name in names:
        value = getattr(group, name)
        if not isinstance(value, bool):  # the text 'no' is true
            raise UsageError(f"{name} must be True or False, not {value!r}")


def check_count(group: object, name: str, least: int, most: int) -> None:
    """Refuses a field that is no whole number within bounds; from then on it is an `int`."""
    if not settle_count(group, name, least, most):
        raise UsageError(f"{name} must be a whole number from {least} to {most}, not {getattr(group, name)!r}")


def check_seconds(value: float, name: str) -> None:
    """Refuses what is no time greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"{name} must be seconds greater than 0, not {value!r}")
