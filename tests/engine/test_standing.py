"""When a place is out, and what retries may cost it: from what it answered and when."""

from __future__ import annotations

import pytest

from asyncfetch.engine.standing import (
    CAPACITY,
    LONGEST_PROBE,
    RETRY_COST,
    THROTTLED,
    TIMEOUT_COST,
    UNREACHED,
    WITNESSES,
    Standing,
)
from asyncfetch.errors import (
    EndpointUnreachable,
    IntegrityError,
    NoCredentials,
    ObjectNotFound,
    OriginTimeout,
    ServerError,
    Throttled,
    TransferInterrupted,
)

URI = "s3://b/k"
REFUSED = EndpointUnreachable(URI, "refused")


def longest(low: float, high: float) -> float:
    return high


def met(patience: float = 300.0) -> Standing:
    standing = Standing(patience)
    standing.answered(0.0)
    return standing


def fail(standing: Standing, error: Exception, who: int, now: float = 5.0) -> bool:
    standing.failed(error, who, now, longest)
    return standing.out


def test_a_place_that_cannot_be_reached_three_times_is_out_also_for_one_errand() -> None:
    standing = met()
    assert [fail(standing, REFUSED, who=1) for _ in range(UNREACHED)] == [False, False, True]


@pytest.mark.parametrize("error", [ServerError(URI, "500"), TransferInterrupted(URI, "x"), OriginTimeout(URI, "x")])
def test_other_failures_make_an_outage_once_it_can_hardly_be_the_objects(error: Exception) -> None:
    standing = met()
    assert not any(fail(standing, error, who=1) for _ in range(100)), "one object that never comes is no outage"
    found = [fail(standing, error, who) for who in range(2, WITNESSES + 1)]
    assert found == [False] * (WITNESSES - 2) + [True]


def test_one_answer_between_failures_and_it_is_no_outage() -> None:
    standing = met()
    for who in range(100):
        assert not fail(standing, ServerError(URI, "500"), who)
        if who % (WITNESSES - 1) == 0:
            standing.answered(5.0)


def test_a_refusal_is_an_answer() -> None:
    standing = met()
    for who in range(WITNESSES - 1):
        fail(standing, ServerError(URI, "500"), who)
    fail(standing, ObjectNotFound(URI, "gone", status=404), 50)
    assert not fail(standing, ServerError(URI, "500"), 51)


@pytest.mark.parametrize("error", [ValueError("a bug"), NoCredentials(URI, "none"), IntegrityError(URI, "a bit")])
def test_what_says_nothing_of_the_place_changes_nothing(error: Exception) -> None:
    standing = met()
    assert not any(fail(standing, error, who) for who in range(100))


def test_throttling_is_an_outage_only_when_nobody_was_answered_for_a_while() -> None:
    standing = met()
    assert not any(fail(standing, Throttled(URI, "503"), who, now=THROTTLED / 2) for who in range(100))
    assert fail(standing, Throttled(URI, "503"), 101, now=THROTTLED)


def test_a_place_that_never_answered_is_not_out_but_wrong() -> None:
    standing = Standing(300.0)
    assert not any(fail(standing, REFUSED, who) for who in range(100))


def test_probes_go_out_further_and_further_apart_until_an_answer_ends_it() -> None:
    standing = met()
    for _ in range(UNREACHED):
        fail(standing, REFUSED, 1, now=10.0)
    gaps, now = [], 10.0
    for _ in range(6):
        gaps.append(standing.probe_at - now)
        now = standing.probe_at
        fail(standing, REFUSED, 1, now)
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_PROBE
    standing.answered(now)
    assert not standing.out


def test_those_that_were_out_when_it_began_are_no_probes() -> None:
    standing = met()
    for who in range(100):
        fail(standing, REFUSED, who, now=10.0)
    assert standing.probe_at < 10.0 + LONGEST_PROBE


def test_patience_ends_and_then_errors_stand_until_it_answers() -> None:
    standing = met(patience=60.0)
    for _ in range(UNREACHED):
        fail(standing, REFUSED, 1, now=10.0)
    assert fail(standing, REFUSED, 1, now=69.9)
    assert not fail(standing, REFUSED, 1, now=70.0)
    assert not standing.known
    assert not any(fail(standing, REFUSED, who, now=71.0) for who in range(100))
    standing.answered(80.0)
    assert standing.known


def test_the_budget_is_spent_by_retries_and_earned_by_answers() -> None:
    standing = met()
    assert standing.cost(ServerError(URI, "500"), paced=False) == RETRY_COST
    assert standing.cost(ServerError(URI, "500"), paced=True) == RETRY_COST
    assert standing.cost(Throttled(URI, "503"), paced=True) == 0, "the pace has it wait for its turn"
    assert standing.cost(OriginTimeout(URI, "silent"), paced=False) == TIMEOUT_COST
    standing.tokens = 0
    standing.answered(1.0)
    assert standing.tokens == 1
    standing.answered(1.0, TIMEOUT_COST)
    assert standing.tokens == 1 + TIMEOUT_COST
    standing.tokens = CAPACITY - 1
    standing.answered(1.0, TIMEOUT_COST)
    assert standing.tokens == CAPACITY
