"""The attempt policy, as a table."""

from __future__ import annotations

import pytest

from asyncfetch.engine.attempts import FIRST_PAUSE, LONGEST_PAUSE, next_pause
from asyncfetch.errors import (
    AccessDenied,
    EndpointUnreachable,
    ObjectNotFound,
    OriginTimeout,
    ServerError,
    Throttled,
    TransferInterrupted,
)

RETRYABLE = (EndpointUnreachable, OriginTimeout, ServerError, Throttled, TransferInterrupted)


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


@pytest.mark.parametrize("kind", RETRYABLE)
def test_what_may_pass_is_tried_again_until_the_limit(kind: type[ServerError]) -> None:
    error = kind("s3://b/k", "failed")
    assert next_pause(error, 1, 5, longest) is not None
    assert next_pause(error, 4, 5, longest) is not None
    assert next_pause(error, 5, 5, longest) is None


@pytest.mark.parametrize(
    "error", [ObjectNotFound("s3://b/k", "gone"), AccessDenied("s3://b/k", "no"), ValueError("bug")]
)
def test_what_will_not_pass_stands_at_once(error: Exception) -> None:
    assert next_pause(error, 1, 5, longest) is None


def test_pauses_double_up_to_the_cap_and_are_jittered_down_to_nothing() -> None:
    error = ServerError("s3://b/k", "500")
    pauses = [next_pause(error, attempt, 100, longest) for attempt in range(1, 12)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert max(pause for pause in pauses if pause is not None) == LONGEST_PAUSE
    assert next_pause(error, 3, 100, shortest) == 0.0


def test_retry_after_is_the_least_that_is_waited() -> None:
    error = Throttled("s3://b/k", "503", retry_after=3.0)
    assert next_pause(error, 1, 5, longest) == 3.0
    assert next_pause(error, 1, 5, shortest) == 3.0


def test_an_hour_asked_for_is_not_waited_but_raised() -> None:
    assert next_pause(Throttled("s3://b/k", "503", retry_after=3600.0), 1, 5, longest) is None
