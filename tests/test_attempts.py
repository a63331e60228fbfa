"""The attempt policy, as a table."""

from __future__ import annotations

import random

import pytest

from asyncfetch.attempts import BROKE_PAUSE, FIRST_PAUSE, LONGEST_PAUSE, Move, Outlook, Past, decide
from asyncfetch.attempts import next_pause as following
from asyncfetch.errors import (
    AccessDenied,
    CertificateUntrusted,
    EndpointUnreachable,
    IntegrityError,
    ObjectNotFound,
    OriginTimeout,
    PreconditionFailed,
    ServerError,
    Throttled,
    TransferInterrupted,
)

URI = "s3://b/k"
FAILED = ServerError(URI, "500")
FIRST = Past(attempts=1, pause=0.0, elapsed=0.5)
FINE = Outlook()
OUT = Outlook(out=True)
PACED = Outlook(paced=True)
BROKE = Outlook(affordable=False)
NEVER_MET = Outlook(known=False)


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def tried(attempts: int, pause: float = 0.0, elapsed: float = 0.5) -> Past:
    return Past(attempts, pause, elapsed)


@pytest.mark.parametrize(
    ("error", "past", "outlook", "deadline", "move", "pause"),
    [
        # What may pass is tried again, until the limit.
        (FAILED, tried(1), FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        (FAILED, tried(4), FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        (FAILED, tried(5), FINE, None, Move.GIVE_UP, 0.0),
        (Throttled(URI, "503"), FIRST, FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        (Throttled(URI, "503"), tried(3, pause=5.0), FINE, None, Move.RETRY, 15.0),
        # Who asks at a pace already waits for its turn, and is refused by chance; other failures are as ever.
        (Throttled(URI, "503"), tried(3, pause=5.0), PACED, None, Move.RETRY, FIRST_PAUSE),
        (Throttled(URI, "503"), tried(19), PACED, None, Move.RETRY, FIRST_PAUSE),
        (Throttled(URI, "503"), tried(20), PACED, None, Move.GIVE_UP, 0.0),
        (Throttled(URI, "503", retry_after=3.0), tried(5), PACED, None, Move.RETRY, 3.0),
        (Throttled(URI, "503"), tried(5), FINE, None, Move.GIVE_UP, 0.0),
        (FAILED, tried(3, pause=5.0), PACED, None, Move.RETRY, 15.0),
        (FAILED, tried(5), PACED, None, Move.GIVE_UP, 0.0),
        (EndpointUnreachable(URI, "refused"), FIRST, FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        (TransferInterrupted(URI, "reset"), FIRST, FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        (OriginTimeout(URI, "silent"), FIRST, FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        (IntegrityError(URI, "other bytes"), FIRST, FINE, None, Move.RETRY, 3 * FIRST_PAUSE),
        # What will not pass stands at once, whatever else there is.
        (ObjectNotFound(URI, "gone"), FIRST, FINE, None, Move.GIVE_UP, 0.0),
        (AccessDenied(URI, "no"), FIRST, OUT, None, Move.GIVE_UP, 0.0),
        (PreconditionFailed(URI, "changed"), FIRST, FINE, None, Move.GIVE_UP, 0.0),
        (CertificateUntrusted(URI, "expired"), FIRST, FINE, None, Move.GIVE_UP, 0.0),
        (ValueError("a bug"), FIRST, FINE, None, Move.GIVE_UP, 0.0),
        # Retry-After is the least that is waited, and an hour is not waited at all.
        (Throttled(URI, "503", retry_after=3.0), FIRST, FINE, None, Move.RETRY, 3.0),
        (Throttled(URI, "503", retry_after=LONGEST_PAUSE), FIRST, FINE, None, Move.RETRY, LONGEST_PAUSE),
        (Throttled(URI, "503", retry_after=3600.0), FIRST, FINE, None, Move.GIVE_UP, 0.0),
        # In an outage nothing is counted; the deadline holds.
        (FAILED, tried(5), OUT, None, Move.WAIT, 0.0),
        (FAILED, tried(5, elapsed=9.9), OUT, 10.0, Move.WAIT, 0.0),
        (FAILED, tried(1, elapsed=10.1), OUT, 10.0, Move.GIVE_UP, 0.0),
        # Another try has to begin before the deadline.
        (FAILED, tried(1, elapsed=9.0), FINE, 10.0, Move.RETRY, 3 * FIRST_PAUSE),
        (FAILED, tried(2, pause=1.0, elapsed=9.0), FINE, 10.0, Move.GIVE_UP, 0.0),
        # Without budget it waits, unless the place has never answered; attempts count all the same.
        (FAILED, tried(1), BROKE, None, Move.SAVE, 2 * BROKE_PAUSE),
        (FAILED, tried(5), BROKE, None, Move.GIVE_UP, 0.0),
        (FAILED, tried(1), Outlook(known=False, affordable=False), None, Move.GIVE_UP, 0.0),
        (FAILED, tried(1), NEVER_MET, None, Move.RETRY, 3 * FIRST_PAUSE),
    ],
)
def test_the_table(
    error: Exception, past: Past, outlook: Outlook, deadline: float | None, move: Move, pause: float
) -> None:
    found = decide(error, past, outlook, attempts=5, deadline=deadline, uniform=longest)
    assert found.move is move
    assert found.pause == pytest.approx(pause)


def test_pauses_are_decorrelated_between_the_least_and_three_times_the_last_up_to_the_cap() -> None:
    pauses = [0.0]
    for _ in range(8):
        pauses.append(following(pauses[-1], LONGEST_PAUSE, longest))
    assert pauses[1:4] == pytest.approx([3 * FIRST_PAUSE, 9 * FIRST_PAUSE, 27 * FIRST_PAUSE])
    assert pauses[-1] == LONGEST_PAUSE
    assert following(7.0, LONGEST_PAUSE, shortest) == FIRST_PAUSE


def test_a_crowd_that_failed_together_does_not_come_back_together() -> None:
    chance = random.Random(0)
    pauses = {decide(FAILED, FIRST, FINE, attempts=5, deadline=None, uniform=chance.uniform) for _ in range(100)}
    assert len(pauses) == 100
    assert all(FIRST_PAUSE <= pause <= 3 * FIRST_PAUSE for _, pause in pauses)
