"""The byte budget against a model of itself."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncfetch.engine.credits import Credits, Grant

TOTAL = 1000


class CreditsModel(RuleBasedStateMachine):
    """Takes and gives back in any order: the sum is right, one overdraft at most, and nobody sleeps on."""

    def __init__(self) -> None:
        super().__init__()
        self.soon: list[Callable[[], None]] = []
        self.credits = Credits(TOTAL, self.soon.append)
        self.grants: list[Grant] = []
        self.lone: Grant | None = None
        self.refused = False
        self.woken = 0
        self.credits.subscribe(self.wake)

    def wake(self) -> None:
        self.woken += 1

    @rule(amount=st.integers(0, 1500), alone=st.booleans())
    def take(self, amount: int, alone: bool) -> None:
        before = sum(grant.amount for grant in self.grants)
        grant = self.credits.take(amount, alone=alone)
        fits = before + amount <= TOTAL
        assert (grant is not None) == (fits or (alone and self.lone is None))
        if grant is None:
            self.refused = True
        else:
            self.grants.append(grant)
            if not fits:
                self.lone = grant

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, twice: bool) -> None:
        grant = self.grants.pop(data.draw(st.integers(0, len(self.grants) - 1)))
        grant.release()
        if twice:
            grant.release()
        if grant is self.lone:
            self.lone = None

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def delivered(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(self.grants))
        grant.delivered()
        if grant is self.lone:
            self.lone = None

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), amount=st.integers(0, 1500))
    def correct(self, data: st.DataObject, amount: int) -> None:
        grant = data.draw(st.sampled_from(self.grants))
        before = grant.amount
        grant.correct(amount)
        assert grant.amount == min(before, amount)

    @precondition(lambda self: self.refused and self.soon)
    @rule()
    def the_loop_runs(self) -> None:
        before = self.woken
        callbacks, self.soon[:] = list(self.soon), []
        for callback in callbacks:
            callback()
        assert self.woken == before + 1, "who was refused hears once that something came back"
        self.refused = False

    @invariant()
    def the_sum_is_right(self) -> None:
        assert self.credits.held == sum(grant.amount for grant in self.grants)


TestCreditsModel = CreditsModel.TestCase


def test_a_grant_released_on_another_thread_wakes_the_refused() -> None:
    soon: list[Callable[[], None]] = []
    woken = threading.Event()
    credits = Credits(10, soon.append)
    credits.subscribe(woken.set)
    grant = credits.take(10)
    assert grant is not None
    assert credits.take(1) is None
    thread = threading.Thread(target=grant.release)
    thread.start()
    thread.join()
    soon.pop()()
    assert woken.is_set()
    assert credits.take(10) is not None


def test_a_grant_released_by_a_finalizer_in_the_middle_of_a_take_is_counted() -> None:
    credits = Credits(10, lambda callback: None)
    grant = credits.take(4)

    def collected(missing: int) -> int:
        assert grant is not None
        grant.release()  # as a finalizer would, while take is at work
        gc.collect()
        return 4

    credits.reclaim_from(collected)
    assert credits.take(10) is not None
    assert credits.held == 10


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_grant_that_comes_back_while_another_is_refused_is_never_overlooked(moment: int) -> None:
    soon: list[Callable[[], None]] = []
    credits = Credits(10, soon.append)
    grant = credits.take(10)
    looks = 0

    class Sum(int):
        def __gt__(self, total: int) -> bool:
            nonlocal looks
            looks += 1
            if looks == moment and grant is not None:  # what was read is old when it is acted upon
                thread = threading.Thread(target=grant.release)
                thread.start()
                thread.join()
            return int(self) > total

    class Wanted(int):
        def __radd__(self, held: int) -> Sum:
            return Sum(held + int(self))

    assert credits.take(Wanted(10)) is not None or soon, "it is lent, or the asker is woken"


def test_a_closed_loop_is_no_reason_to_fail_in_a_finalizer() -> None:
    def closed(callback: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    credits = Credits(10, closed)
    grant = credits.take(10)
    assert credits.take(1) is None
    assert grant is not None
    grant.release()
    assert credits.held == 0
