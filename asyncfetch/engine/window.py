"""How many errands may be out to one place at once: found out by watching what more of them bring.

A climb as BBR's start-up makes it (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016):
one more for each answer, which doubles it each round, for as long as that brings more, and over after three rounds that
did not. Where the place asks for less it is halved and goes up again little by little (additive increase,
multiplicative decrease: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms", 1989). Latency is not looked
at: it says as much of sizes and of this process's own CPU as of the place. Nothing here waits; times are seconds of any
steady clock.
"""

from __future__ import annotations

import enum
import math

START = 16  # fills a core with small objects at once, and takes two rounds to 64
SHORTEST = 0.025  # seconds of a round: what less time shows is the order in which packets came
CLIMBED = 1.1  # times the best rate so far: more is a climb
WORSE = 0.9  # times the best rate: below, a step back is worth it
FLAT_ROUNDS = 3
LOOK_AGAIN = 10.0  # seconds until a settled window tries whether more would bring more by now
STEP = 1.5
GAIN = 1.05  # what a step has to bring to be kept


class Phase(enum.Enum):
    """What the window is about."""

    CLIMB = enum.auto()
    SETTLED = enum.auto()
    TRYING = enum.auto()  # a step up from where it has settled
    AVOID = enum.auto()  # after it was asked for less


# By names of their own: to look a member up in its class takes 140 ns in Python 3.11, and each answer does.
CLIMB, SETTLED, TRYING, AVOID = Phase


class Window:
    """The limit for one place, never above `most`. Who is kept waiting by it sets `full`.

    A `fixed` one stays at `most`, whatever comes: for measuring what just so many bring.
    """

    __slots__ = (
        "_best",
        "_born",
        "_count",
        "_fixed",
        "_flat",
        "_from",
        "_look_at",
        "_rate",
        "_round",
        "_since",
        "full",
        "limit",
        "most",
        "phase",
    )

    def __init__(self, most: int, now: float, *, fixed: bool = False) -> None:
        self.most = most
        self._fixed = fixed
        self._born = now
        self.restart(now)

    def restart(self, now: float) -> None:
        """Begins anew, as with a place that nothing is known of."""
        self.limit = self.most if self._fixed else min(START, self.most)
        self.phase = SETTLED if self._fixed else CLIMB
        self.full = False
        self._best, self._from, self._flat = 0.0, self.limit, 0
        self._look_at = math.inf
        self._rate = 0.0
        self._begin(now)

    def rate(self, now: float) -> float:
        """Answers a second, of late."""
        lasted = now - self._since
        return self._count / lasted if lasted >= SHORTEST else self._rate

    def asked(self, now: float, flying: int, latency: float) -> float:
        """Requests a second, of late, where `flying` are out and one takes `latency` until it is answered."""
        return (self._count + flying) / max(min(now - self._since + latency, now - self._born), 0.001)

    def answered(self, now: float) -> bool:
        """An errand has come back with its object. True where more may be out now."""
        self._count += 1
        before, full = self.limit, self.full
        if full and self.phase is CLIMB and before < min(2 * self._round, self.most):
            self.limit += 1
        if self._count < self._round or now - self._since < SHORTEST:
            return self.limit > before
        self._rate = self._count / (now - self._since)
        if full:  # else it was not what held the errands back, and says nothing
            self._judge(now)
        self._begin(now)
        return self.limit > before

    def throttled(self, now: float, *, least: int = 1) -> None:
        """The place has asked for less. The limit is halved, but stays at `least` if it was as much."""
        if self._fixed:
            return
        self.limit = max(self.limit // 2, min(self.limit, max(1, least)))
        self.phase = AVOID
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._round = self.limit  # as it is when a round begins: what its answers show comes of that many
        self._count = 0
        self._since = now
        self.full = False

    def _judge(self, now: float) -> None:
        if self.phase is CLIMB:
            self._climb(now)
        elif self.phase is TRYING:
            if self._rate > self._best * GAIN:
                self._try(now)
            else:
                self._settle(self._from, now)
        elif self.phase is AVOID:
            self.limit = min(self.most, self.limit + max(1, self.limit // 8))
        elif now >= self._look_at:
            self._try(now)

    def _climb(self, now: float) -> None:
        if self._rate > self._best * CLIMBED:
            self._best, self._from, self._flat = self._rate, self._round, 0
        else:
            self._flat += 1
        if self._flat >= FLAT_ROUNDS:
            self._settle(self._from if self._rate < self._best * WORSE else self._round, now)

    def _try(self, now: float) -> None:
        self.phase = TRYING
        self._best, self._from = self._rate, self.limit
        self.limit = min(self.most, max(self.limit + 1, int(self.limit * STEP)))
        if self.limit == self._from:
            self._settle(self.limit, now)

    def _settle(self, limit: int, now: float) -> None:
        self.limit = limit
        self.phase = SETTLED
        self._look_at = now + LOOK_AGAIN
