"""What the pool asks of the byte budget that its memory is charged to."""

from __future__ import annotations

from typing import Protocol


class Grant(Protocol):
    """A share of the byte budget."""

    amount: int

    def correct(self, amount: int) -> None:
        """Gives back what is more than `amount`."""
        ...

    def delivered(self) -> None:
        """Says that its pixels have reached their user: if it was overdrawn, the next one may overdraw."""
        ...

    def release(self) -> None:
        """Gives the bytes back; twice is once.

        It is called on any thread, also inside a garbage collection, and so may take no lock that its own thread holds.
        """
        ...


class Budget(Protocol):
    """The byte budget that pixels are charged to."""

    @property
    def held(self) -> int:
        """Bytes lent out now."""
        ...

    @property
    def excess(self) -> int:
        """Bytes lent beyond the budget."""
        ...

    def take(self, amount: int, *, alone: bool = False) -> Grant | None:
        """Lends bytes, or gives None when they are not there now.

        With `alone` it may lend more than there is, while no other undelivered grant does.
        """
        ...
