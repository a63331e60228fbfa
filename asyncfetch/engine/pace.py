"""The rate at which a place that refuses by SlowDown is asked: just below what it grants, whatever that is.

A number of errands at once cannot hold a rate: with answers after 2 ms, one at a time are 500 a second. So once a place
refuses more than now and then, which Page's test tells from an accident ("Continuous Inspection Schemes", Biometrika
41, 1954), its requests are spaced.

What it allows is counted and not guessed: a bucket of tokens is empty whenever it refuses, so between two refusals it
has granted just what has been filled in between, however it was asked. From just below that the rate goes up, by the
square root of itself at first, so that of several clients of one limit the smaller gain on the larger (Bansal and
Balakrishnan, "Binomial Congestion Control Algorithms", INFOCOM 2001), then ever faster (as RFC 9438 has it, section
4.2): a limit that is gone is forgotten. Nothing here waits; times are seconds of any steady clock.
"""

from __future__ import annotations

import math
from typing import NamedTuple

NOW_AND_THEN = 1 / 25  # the share of refusals that is a fault of the place rather than a limit
ALARM = 4.0  # refusals beyond that share: one accident in a hundred raises it once in 10,000 refusals
SHORTEST = 0.05  # seconds between two refusals at least, for what was granted between them to be counted,
FEWEST = 8  # and so many at least
FARTHEST = 1 / 8  # a share of a few answers may be off; what it says beyond that the next ones will say too
BELOW = 0.95  # of what is granted: the gap refills a bucket of tokens, so what is left unused meanwhile is not lost
STEP = 2.0  # seconds in which it goes up by
STEEP = 1.0  # times the rate's square root, 22 of 500 a second, but
STEEPEST = 0.25  # of the rate at most; and then ever faster
GUESSED = 0.7  # seconds in which it doubles where it is a guess, until it is refused again
GONE = 8.0  # times what was granted: there is no limit any more
SLACK = 0.05  # seconds that a request may catch up: timers fire late, and it must not cost the rate
BURST = 16  # requests at most that catch up at once
LEAST = 1.0  # requests a second


class Limit(NamedTuple):
    """What a place grants, in requests a second; `guessed` where it is far from that, and has said little yet."""

    rate: float
    guessed: bool


def limit_of(granted: int, refused: int, lasted: float, asked: float) -> Limit | None:
    """The limit that shows by what was granted and refused in `lasted` seconds, from one refusal to another.

    It was `asked` so often a second. None while it cannot be told, and need not be at once.
    """
    share = granted / (granted + refused)
    if lasted >= SHORTEST and granted >= FEWEST:
        # What was not asked for while this side stood still, and may have run over, was not granted either.
        return Limit(max(granted / lasted, asked * share), guessed=False)
    return Limit(asked * max(share, FARTHEST), guessed=True) if refused > granted else None


class Pace:
    """The pace for one place: none (`rate` is infinite) until too many requests are refused.

    `busy` says that answers are to be told; while it is False, only refusals are.
    """

    __slots__ = (
        "_began",
        "_granted",
        "_granted_rate",
        "_guessed",
        "_refused",
        "_score",
        "busy",
        "opens_at",
        "rate",
        "since",
    )

    def __init__(self) -> None:
        self.free()

    def free(self) -> None:
        """Holds nothing back any more."""
        self.busy = False
        self.rate = math.inf
        self.opens_at = -math.inf  # when the next request may go
        self.since = -math.inf  # what was sent before says nothing any more
        self._granted_rate = LEAST
        self._score = 0.0  # of Page's test: refusals beyond those of now and then, since it was 0
        self._began = 0.0  # when the refusal was sent with which it left 0
        self._granted = self._refused = 0  # since then
        self._guessed = False  # what it grants is not counted yet

    def sent(self, now: float) -> None:
        """A request goes out."""
        latest = now - min(SLACK, BURST / self.rate)
        self.opens_at = max(self.opens_at, latest) + 1.0 / self.rate

    def answered(self, now: float, sent: float) -> None:
        """One that went out at `sent` was granted."""
        if sent < self.since:
            return
        if self._score:
            self._granted += 1
            self._score = max(0.0, self._score - NOW_AND_THEN)
        if self.rate < math.inf:
            self._go_up(now)
        self.busy = self._score > 0.0 or self.rate < math.inf

    def refused(self, now: float, sent: float, asked: float) -> Limit | None:
        """One that went out at `sent` was refused, as the place was asked at least `asked` times a second.

        Gives the limit that shows by it, if one does. `keep` is what to do about it, or `forgive`.
        """
        if sent < self.since:
            return None
        if not self._score:
            self.busy = True
            self._began, self._granted, self._refused = sent, 0, 0
        self._score += 1.0
        self._refused += 1
        if self._score < ALARM:
            return None
        lasted = sent - self._began
        limit = limit_of(self._granted, self._refused, lasted, min(asked, self.rate))
        # Refusals of what caught up after a standstill, all at once, say nothing of the rate.
        at_once = limit is not None and limit.guessed and lasted * self.rate < ALARM
        return None if at_once else limit

    def keep(self, limit: Limit, now: float) -> bool:
        """Stays within a limit from now on. True where the rate falls to half by that, or less."""
        before = self.rate
        self.forgive(now)
        self.busy = True
        self._granted_rate = max(LEAST, min(limit.rate, before))
        self._guessed = limit.guessed
        self.rate = max(LEAST, BELOW * self._granted_rate)
        self.opens_at = now
        return self.rate <= before / 2

    def forgive(self, now: float) -> None:
        """Lets go of what holds back, and hears of no refusal that was sent before now."""
        self.free()
        self.since = now

    def _go_up(self, now: float) -> None:
        base, since = self._granted_rate, now - self.since
        steps, step = (
            (since / GUESSED, 1.0) if self._guessed else (since / STEP, min(STEEP / math.sqrt(base), STEEPEST))
        )
        self.rate = max(self.rate, base * (BELOW + step * (steps + steps**3)))
        if self.rate > GONE * base:
            self.free()
