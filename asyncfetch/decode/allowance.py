"""Memory that a worker may take beside the slots: for the file, for the decoder's own copy, kept for the next image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncfetch.decode.budget import Budget, Grant


class Allowance:
    """One worker's share of the budget for its own memory. It decodes one image at a time: the largest one counts."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._grants: list[Grant] = []
        self._rising = False
        self.amount = 0

    def raise_to(self, amount: int) -> bool:
        """Makes it `amount` bytes at least; False says that the budget refuses."""
        if amount <= self.amount:
            return True
        # A budget that is short asks those it lent to for what they keep idle, and so this one too.
        self._rising = True
        try:
            grant = self._budget.take(amount - self.amount)
        finally:
            self._rising = False
        if grant is None:
            return False
        self._grants.append(grant)
        self.amount = amount
        return True

    def lower_to(self, amount: int) -> int:
        """Makes it `amount` bytes at most, and says how many went back."""
        if self._rising:
            return 0
        before = self.amount
        while self.amount > amount:
            grant = self._grants[-1]
            surplus = min(grant.amount, self.amount - amount)
            self.amount -= surplus
            if surplus == grant.amount:
                self._grants.pop().release()
            else:
                grant.correct(grant.amount - surplus)
        return before - self.amount
