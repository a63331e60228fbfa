"""Whether a failed try is made again, and when: decided here from plain values.

Acted on in `engine.lanes` for all that is read, and in `origins.small_puts` for what is written beside it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import ObjectError, OriginError, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE = 0.1  # seconds; an S3 that answers 503 asks for some time, not for an instant second try
LONGEST_PAUSE = 20.0  # the cap that the AWS SDKs' standard mode uses
PACED_TRIES = 4  # times as many may be refused where all are spaced: then it is chance which of them are
BROKE_PAUSE = 1.0  # at least this long is waited for the retry budget, which fills while others are answered


class Move(enum.Enum):
    """What becomes of an errand whose try has failed."""

    RETRY = enum.auto()  # it is flown again after the pause, and that counts as a try
    SAVE = enum.auto()  # the budget has nothing left for it: after the pause this is decided once more
    WAIT = enum.auto()  # its place answers nobody: it is in line for when it does, and its tries do not count
    GIVE_UP = enum.auto()  # the error stands


class Decision(NamedTuple):
    """A move, and after how many seconds."""

    move: Move
    pause: float = 0.0


class Past(NamedTuple):
    """What has happened to an errand: its tries that count, its last pause, and the seconds since its first try."""

    attempts: int
    pause: float
    elapsed: float


class Outlook(NamedTuple):
    """How its place fares: whether it answers nobody, whether it ever answered, whether a retry can be paid.

    `paced`: it is asked only as often as it grants.
    """

    out: bool = False
    known: bool = True
    affordable: bool = True
    paced: bool = False


def decide(
    error: Exception,
    past: Past,
    outlook: Outlook,
    *,
    attempts: int,
    deadline: float | None,
    uniform: Callable[[float, float], float],
) -> Decision:
    """Decides after a failed try. `attempts` and `deadline` are what one errand may take, in tries and seconds.

    Pauses have decorrelated jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): a crowd that failed
    together does not come back together. What the origin asked for by Retry-After is the least that is waited, and
    asked-for waits longer than the cap are not worth a place in line: the error stands. So it does where the deadline
    would be over before the next try.

    Where the requests of all are spaced, what was refused all the same waits for its turn. Which ones are is chance
    then, and no fault of the objects', so one may be refused more often.

    A place that has answered and now answers nobody is waited for; one that never did may not be there at all.
    """
    asked = error.retry_after if isinstance(error, OriginError) else None
    if not (isinstance(error, ObjectError) and error.retryable) or (asked or 0.0) > LONGEST_PAUSE:
        return Decision(Move.GIVE_UP)
    left = float("inf") if deadline is None else deadline - past.elapsed
    if outlook.out and left > 0:
        return Decision(Move.WAIT)
    in_turn = outlook.paced and isinstance(error, Throttled)
    pause = uniform(0.0, FIRST_PAUSE) if in_turn else next_pause(past.pause, LONGEST_PAUSE, uniform)
    pause = max(pause, asked or 0.0)
    if past.attempts >= attempts * (PACED_TRIES if in_turn else 1) or pause >= left:
        return Decision(Move.GIVE_UP)
    if outlook.affordable:
        return Decision(Move.RETRY, pause)
    return Decision(Move.SAVE, max(pause, uniform(BROKE_PAUSE, 2 * BROKE_PAUSE))) if outlook.known else _GIVE_UP


def next_pause(last: float, cap: float, uniform: Callable[[float, float], float]) -> float:
    """The pause after one of `last` seconds, 0.0 for the first: from the least to three times the last, at random."""
    return min(cap, uniform(FIRST_PAUSE, 3 * max(last, FIRST_PAUSE)))


_GIVE_UP = Decision(Move.GIVE_UP)
