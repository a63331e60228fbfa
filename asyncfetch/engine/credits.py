"""The byte budget: who may hold how much memory, without anybody waiting for some while holding some."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Grant:
    """A share of the budget, held until `release`. Releasing is safe on any thread, inside a finalizer, and twice."""

    __slots__ = ("_credits", "amount")

    def __init__(self, credits: Credits, amount: int) -> None:
        self._credits = credits
        self.amount = amount

    def correct(self, amount: int) -> None:
        """Gives back what turned out not to be needed; a larger amount changes nothing. On the loop's thread."""
        surplus = self.amount - amount
        if surplus > 0:
            self.amount = amount
            self._credits._lower(surplus)

    def delivered(self) -> None:
        """Says that the work this was granted for is done: if it was overdrawn, somebody else may overdraw now."""
        self._credits._take_back(0, self)

    def release(self) -> None:
        """Gives all of it back."""
        amount, self.amount = self.amount, 0
        self._credits._take_back(amount, self)


class Credits:
    """`total` bytes, lent out in grants.

    A request that does not fit is refused rather than queued: the askers keep their own order (a stream's is its
    plan) and are woken by `subscribe` when something came back. So that nothing waits for ever, the head of a stream
    and a single call ask with `alone=True`: they may overdraw, one at a time, until their work is delivered. The
    state is three numbers: `held`, the lone overdraft, and whether somebody was refused since the last wake.
    """

    def __init__(self, total: int, call_soon_threadsafe: Callable[[Callable[[], None]], object]) -> None:
        self.total = total
        self.peak = 0
        self._held = 0
        self._lone: Grant | None = None
        self._refused = False
        self._call_soon_threadsafe = call_soon_threadsafe
        self._wakes: list[Callable[[], None]] = []
        self._reclaimers: list[Callable[[int], int]] = []
        # Grants come back in finalizers, which may interrupt this class on its own thread: appending needs no lock.
        self._returned: deque[tuple[int, Grant]] = deque()

    @property
    def held(self) -> int:
        """Bytes lent out now."""
        self._collect()
        return self._held

    @property
    def excess(self) -> int:
        """Bytes lent beyond the budget, to askers who went alone."""
        return max(0, self.held - self.total)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Has `wake` called on the loop when credits came back after a refusal."""
        self._wakes.append(wake)

    def reclaim_from(self, reclaim: Callable[[int], int]) -> None:
        """Has `reclaim(bytes)` called before a refusal; it releases idle grants and says how many bytes they had."""
        self._reclaimers.append(reclaim)

    def take(self, amount: int, *, alone: bool = False) -> Grant | None:
        """Lends `amount` bytes, or None when they are not there now. `alone` may overdraw while nobody else does."""
        if self._returned:
            self._collect()
        if self._held + amount > self.total and not self._make_room(amount, alone=alone):
            return None
        grant = Grant(self, amount)
        self._held += amount
        if self._held > self.total:
            self._lone = grant
        if self._held > self.peak:
            self.peak = self._held
        return grant

    def _make_room(self, amount: int, *, alone: bool) -> bool:
        """Has what is idle given back. False where that is not enough, and who asks may not overdraw either."""
        self._reclaim(self._held + amount - self.total)
        if self._held + amount > self.total and not (alone and self._lone is None):
            # Said before the last look: what another thread gives back after that look wakes.
            self._refused = True
            self._collect()
            if self._held + amount > self.total:
                return alone and self._lone is None
        return True

    def _reclaim(self, missing: int) -> None:
        for reclaim in self._reclaimers:
            missing -= reclaim(missing)
            if missing <= 0:
                break
        self._collect()

    def _lower(self, surplus: int) -> None:
        """On the loop's thread, where nobody else changes `_held`: those who interrupt it only append."""
        self._held -= surplus
        if self._refused:
            self._wake_soon()

    def _take_back(self, amount: int, grant: Grant) -> None:
        self._returned.append((amount, grant))
        if self._refused:
            self._wake_soon()

    def _wake_soon(self) -> None:
        try:
            self._call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed, and nobody waits any more
            self._refused = False

    def _collect(self) -> None:
        while self._returned:
            amount, grant = self._returned.popleft()
            self._held -= amount
            if grant is self._lone:
                self._lone = None

    def _wake(self) -> None:
        self._collect()
        if self._refused:
            self._refused = False
            for wake in self._wakes:
                wake()
