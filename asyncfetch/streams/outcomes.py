"""What becomes of an item that could not be had: raised, left out, yielded, replaced, or counted up to a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from asyncfetch.checks import settle_count
from asyncfetch.errors import TooManyFailures, UsageError
from asyncfetch.ledger import Ledger

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from asyncfetch.objects import Failure

S = TypeVar("S")

_SAMPLE = 100  # items after which a share of failures says something; a shorter stream is judged at its end


@dataclass(frozen=True, slots=True)
class Substitute(Generic[S]):
    """As `on_error`: what `make(failure)` returns takes the place of the item; None leaves it out.

    It is called on the loop, when the failure's turn comes. What it raises ends the stream.
    """

    make: Callable[[Failure], S | None]

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise UsageError(f"Substitute takes a function of a failure, not {self.make!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLimit:
    """As `on_error`: leaves failures out until there are too many, and then raises `TooManyFailures`.

    Too many are more than `count`, or more than the share `rate` (0.0 to 1.0) of all items so far, which is looked at
    from the hundredth item on and at the end. A stream that goes on from a state counts anew.
    """

    rate: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        rate, count = self.rate, self.count
        if rate is None and count is None:
            raise UsageError("FailureLimit needs a rate, a count, or both")
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1):
            raise UsageError(f"rate must be a share of all items, 0.0 to 1.0, not {rate!r}")
        if count is not None and not settle_count(self, "count", 0):
            raise UsageError(f"count must be a whole number, 0 or more, not {count!r}")

    def exceeded(self, failed: int, items: int, *, ended: bool) -> bool:
        """Whether so many failures among so many items are too many."""
        if self.count is not None and failed > self.count:
            return True
        return self.rate is not None and (ended or items >= _SAMPLE) and failed > self.rate * items


OnError: TypeAlias = Literal["raise", "skip", "yield"] | Substitute[Any] | FailureLimit


class Outcomes:
    """Acts on the failures of one run, in the order in which they are taken, and keeps their ledger."""

    def __init__(self, on_error: OnError, failures: str | os.PathLike[str] | None) -> None:
        self._on_error = on_error
        self._ledger = None if failures is None else Ledger(failures)
        self._last: Failure | None = None
        self._written: Failure | None = None

    @property
    def leaves_out(self) -> bool:
        """Whether a failure has no place among the items."""
        return self._on_error == "skip" or isinstance(self._on_error, FailureLimit)

    def failed(self, failure: Failure, failed: int, items: int) -> Any:
        """What is yielded in the place of a failure, the `failed`th among `items`; None is nothing. Or raises."""
        if self._ledger is not None and failure is not self._written:  # it may come again, after an interrupt
            self._ledger.write(failure)
            self._written = failure
        if isinstance(self._on_error, Substitute):
            return self._on_error.make(failure)
        if isinstance(self._on_error, FailureLimit):
            self._last = failure
            self._check(self._on_error, failed, items, ended=False)
        elif self._on_error == "raise":
            raise failure.exception
        return failure if self._on_error == "yield" else None

    def ended(self, failed: int, items: int) -> None:
        """Judges the whole. Raises `TooManyFailures`."""
        if isinstance(self._on_error, FailureLimit):
            self._check(self._on_error, failed, items, ended=True)

    def close(self) -> None:
        """Closes the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    def _check(self, limit: FailureLimit, failed: int, items: int, *, ended: bool) -> None:
        if self._last is not None and limit.exceeded(failed, items, ended=ended):
            raise TooManyFailures(failed, items, self._last.exception) from self._last.exception
