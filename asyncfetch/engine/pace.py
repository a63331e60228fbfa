"""The rate at which a place that refuses by SlowDown is asked: just below what it grants, whatever that is.

A number of errands at once cannot hold a rate: with answers after 2 ms, one at a time are 500 a second. So once a place
refuses more than now and then, which Page's test tells from an accident ("Continuous Inspection Schemes", Biometrika
41, 1954), its requests are spaced.

What it allows is counted and not guessed: a bucket of tokens is empty whenever it refuses, so between two refusals it
has granted just what has been filled in between, however it was asked. What was granted is what was sent and not
refused: a refusal may come long before the answers to what was sent with it. From just below that the rate goes up, by
the square root of itself at first, so that of several clients of one limit the smaller gain on the larger (Bansal and
Balakrishnan, "Binomial Congestion Control Algorithms", INFOCOM 2001), then ever faster (as RFC 9438 has it, section
4.2): a limit that is gone is forgotten. Nothing here waits; times are seconds of any steady clock.
"""

from __future__ import annotations

import math
from collections import deque

NOW_AND_THEN = 1 / 25  # the share of refusals that is a fault of the place rather than a limit
ALARM = 4.0  # refusals beyond that share: one accident in a hundred raises it once in 10,000 refusals
FIRST = 0.7  # of what was asked when it was met first: some of that came of tokens that had been saved up
FALL = 0.9  # at least, where it is met again so soon that little was counted; twice that where it is a guess
PRIOR = 4.0  # requests that weigh as much as what was counted: half of them are taken for granted
SURE = 32  # requests granted,
SURE_AFTER = 0.25  # and seconds in which they were, from which on a count is more than a guess
BELOW = 0.95  # of what is granted: the gap refills a bucket of tokens, so what is left unused meanwhile is not lost
STEP = 2.0  # seconds in which it goes up by
STEEP = 1.0  # times the rate's square root, 22 of 500 a second, but
STEEPEST = 0.25  # of the rate at most; and then ever faster
GUESSED = 0.7  # seconds in which it doubles where it is a guess, until it is refused again
GONE = 8.0  # times what was granted: there is no limit any more
SLACK = 0.05  # seconds that a request may catch up: timers fire late, and it must not cost the rate
BURST = 16  # requests at most that catch up at once
LONGEST = 0.25  # seconds that a change of pace takes to show
LEAST = 1.0  # requests a second
REMEMBERED = 1024  # times of requests: of as many as may be out while a refusal is on its way


def estimate(granted: float, lasted: float, asked: float) -> float:
    """What is granted a second, where so many were in so many seconds, of `asked` a second."""
    return (granted + PRIOR / 2) / (lasted + PRIOR / asked)


class Pace:
    """The pace for one place: none (`rate` is infinite) until too many requests are refused.

    `busy` says that answers are to be told; while it is False, only refusals are.
    """

    __slots__ = (
        "_base",
        "_began",
        "_granted",
        "_guessed",
        "_idle",
        "_refused",
        "_score",
        "_sent",
        "_times",
        "busy",
        "opens_at",
        "rate",
        "since",
    )

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REMEMBERED)  # when the last ones were sent
        self.free()

    def free(self) -> None:
        """Holds nothing back any more."""
        self.busy = False
        self.rate = math.inf
        self.opens_at = -math.inf  # when the next request may go
        self._base = LEAST  # what is granted, as far as known
        self._began = 0.0  # when it was first refused,
        self._granted = 0  # and what it has granted until the last change
        self._guessed = False  # and that is too little to know it by
        self._begin(-math.inf)

    def _begin(self, now: float) -> None:
        """Counts anew."""
        self.since = now  # what was sent before says nothing any more
        self._score = 0.0  # of Page's test: refusals beyond those of now and then, since it was 0
        self._sent = self._refused = 0
        self._idle = 0.0  # seconds in which nobody asked for what the pace would have let through
        self._times.clear()

    def sent(self, now: float) -> None:
        """A request goes out at this pace."""
        latest = now - min(SLACK, BURST / self.rate)
        if self.opens_at < latest:
            self._idle += max(0.0, latest - max(self.opens_at, self.since))
            self.opens_at = latest
        self.opens_at += 1.0 / self.rate
        if now > self.since:
            self._sent += 1
            self._times.append(now)

    def answered(self, now: float, sent: float) -> None:
        """One that went out at `sent` was granted."""
        if sent <= self.since:
            return
        if self._score:
            self._score = max(0.0, self._score - NOW_AND_THEN)
        if self.rate < math.inf:
            self._go_up(now)
        self.busy = self._score > 0.0 or self.rate < math.inf

    def refused(self, sent: float) -> bool:
        """One that went out at `sent` was refused. True where there are too many of these by now: see `limit`."""
        if sent <= self.since:
            return False
        self.busy = True
        self._score += 1.0
        self._refused += 1
        return self._score >= ALARM

    def limit(self, sent: float, asked: float) -> float:
        """What the place grants a second, as far as shows by a request that was sent at `sent` and refused.

        `asked` is how often a second it was, while there was no pace.
        """
        if self.rate == math.inf:
            return FIRST * asked
        granted, lasted = self._granted_until(sent), max(0.0, sent - self.since - self._idle)
        counted = estimate(granted, lasted, self.rate)
        if granted >= SURE and lasted >= SURE_AFTER:
            # A guess may have been so far below that tokens ran over until it came up: then it was granted less than it
            # would have been, and asked for more in the end.
            return math.sqrt(counted * self.rate) if self._guessed else counted
        if self._guessed:
            return min(counted, FALL * FALL * self.rate)
        weight = granted / (granted + SURE)
        return float(min(counted**weight * self._base ** (1.0 - weight), FALL * self.rate))

    def keep(self, limit: float, now: float, latency: float = 0.0) -> bool:
        """Stays within a limit from now on. True where the rate falls to half by that, or less.

        What was asked before may be in line at the place still, and take what is granted to what is asked now; so what
        shows of this pace does so after the `latency` of an answer.
        """
        before = self.rate
        if before == math.inf:
            self._began, self._granted = now, 0
        else:
            self._granted += self._sent - self._refused
        self._guessed = self._granted < SURE or now - self._began < SURE_AFTER
        self._base = max(LEAST, min(limit, before))
        self.rate = max(LEAST, BELOW * self._base)
        self.opens_at = now
        self.busy = True
        self._begin(now + min(latency, LONGEST))
        return self.rate <= before / 2

    def forgive(self, now: float) -> None:
        """Lets go of what holds back, and hears of no refusal that was sent before now."""
        self.free()
        self.since = now

    def _granted_until(self, sent: float) -> int:
        """Requests of this pace until then, the refused ones left out: all others are granted, or will be."""
        later = 0
        for time in reversed(self._times):
            if time <= sent:
                break
            later += 1
        return max(0, self._sent - later - self._refused)

    def _go_up(self, now: float) -> None:
        base, since = self._base, max(0.0, now - self.since)
        steps, step = (
            (since / GUESSED, 1.0) if self._guessed else (since / STEP, min(STEEP / math.sqrt(base), STEEPEST))
        )
        self.rate = max(self.rate, base * (BELOW + step * (steps + steps**3)))
        if self.rate > GONE * base:
            self.free()
