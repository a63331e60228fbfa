"""The rate at which a place that refuses by SlowDown is asked: just below what it grants, whatever that is.

A number of errands at once cannot hold a rate: with answers after 2 ms, one at a time are 500 a second. So once a place
refuses more than now and then, its requests are spaced. What share of them it grants says what it allows; from just
below that the rate goes up as CUBIC's window does (RFC 9438, section 4.2; the AWS SDKs' adaptive mode does so too):
carefully near what was refused last, then ever faster. Nothing here waits; times are seconds of any steady clock.
"""

from __future__ import annotations

import math

SAMPLE = 100  # answers at least, from which the share that is granted is told
SHORTEST = 0.05  # seconds of them at least: a bucket of tokens that runs dry refuses in bursts
PLENTY = 8  # refusals that say enough at once, where they are the most
NOW_AND_THEN = 1 / 25  # the share of refusals that is a fault of the place rather than a limit
BELOW = 0.95  # of what is granted: the gap refills a bucket of tokens, so what is left unused meanwhile is not lost
LEAST_CUT = 0.5  # a sample may be off; what it says beyond that the next one will say too
CURVE = 0.03  # of the rate, by seconds cubed: back at what was granted after 1.2 s, a tenth above that 1.5 s later
SLACK = 0.02  # seconds that a request may catch up: timers fire late, and it must not cost the rate
GONE = 8.0  # times what was granted: there is no limit any more
SETTLE = 0.1  # seconds in which refusals are still of the old rate: the bucket has to fill first
LEAST = 1.0  # requests a second


class Pace:
    """The pace for one place: none (`rate` is infinite) until too many requests are refused.

    `busy` says that answers are to be told; while it is False, only refusals are.
    """

    __slots__ = (
        "_asked",
        "_cut_at",
        "_granted",
        "_granted_rate",
        "_inflection",
        "_refused",
        "_sampled_from",
        "busy",
        "opens_at",
        "rate",
    )

    def __init__(self) -> None:
        self.free()

    def free(self) -> None:
        """Holds nothing back any more."""
        self.busy = False
        self.rate = math.inf
        self.opens_at = -math.inf  # when the next request may go
        self._asked = LEAST  # at what rate the place was asked when it refused
        self._cut_at = -math.inf
        self._granted_rate = self._inflection = 0.0
        self._granted = self._refused = 0  # of a sample; one begins with a refusal
        self._sampled_from = 0.0

    def sent(self, now: float) -> None:
        """A request goes out."""
        self.opens_at = max(self.opens_at, now - SLACK) + 1.0 / self.rate

    def answered(self, now: float, sent: float) -> bool:
        """One that went out at `sent` was granted. True where the sample that it completes cuts the rate."""
        if sent < self._cut_at:
            return False
        if self.rate < math.inf:
            since = now - self._cut_at - self._inflection
            self.rate = max(self.rate, self._granted_rate * (1.0 + CURVE * since**3))
            if self.rate > GONE * self._granted_rate:
                self.free()
                return False
        if not self._refused:
            return False
        self._granted += 1
        return self._told(now)

    def refused(self, now: float, sent: float, asked: float) -> bool:
        """One that went out at `sent` was refused, as the place was `asked` so often a second.

        True where the sample that it completes cuts the rate.
        """
        if sent < self._cut_at:
            return False
        if not self._refused:
            self.busy, self._sampled_from = True, now
        self._refused += 1
        self._asked = min(asked, self.rate)
        return self._told(now)

    def _told(self, now: float) -> bool:
        granted, refused = self._granted, self._refused
        total = granted + refused
        full = total >= SAMPLE and now - self._sampled_from >= SHORTEST
        if not full and (refused < PLENTY or refused < granted):
            return False
        self._granted = self._refused = 0
        if refused < NOW_AND_THEN * total:
            self.busy = self.rate < math.inf
            return False
        share = max(LEAST_CUT, granted / total)
        self._granted_rate = max(LEAST, self._asked * share)
        self.rate = max(LEAST, self._granted_rate * BELOW)
        self._inflection = ((1.0 - self.rate / self._granted_rate) / CURVE) ** (1 / 3)
        self.opens_at = now
        self._cut_at = now + SETTLE if share > 0.5 else now  # else it is far off, and the next cut urgent
        return True
