"""How a place (a bucket, or a host of the web) has been answering: its retry budget, and whether it is out altogether.

Nothing here waits or looks at a clock: each method takes note of an event. Times are in seconds of any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.attempts import next_pause
from asyncfetch.errors import EndpointUnreachable, IntegrityError, OriginError, OriginTimeout, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# The retry quota of the AWS SDKs' standard mode, in botocore's numbers (botocore/retries/quota.py, standard.py): a
# retry takes 5 of 500, after a time-out 10; its success gives that back, a success at first sight gives 1.
CAPACITY = 500
RETRY_COST = 5
TIMEOUT_COST = 10
NO_RETRY = 1

# So many failures without an answer between them are an outage. Where no connection can be made it is nobody's fault
# but the place's; else so many objects have to fail that it can hardly be theirs.
UNREACHED = 3
WITNESSES = 8
THROTTLED = 1.0  # seconds; for so long a place may refuse everybody by 503 before that too is an outage

PROBES = 2  # errands that may be out to see whether a place is back
LONGEST_PROBE = 3.0  # seconds between them at most: so long at the latest after its end an outage is seen to be over


class Standing:
    """One place's record. `patience` is how long an outage is waited for; after it, errors stand."""

    def __init__(self, patience: float) -> None:
        self.known = False  # it has answered, and not been given up since
        self.out_since: float | None = None
        self.probe_at = 0.0
        self.tokens = CAPACITY
        self._patience = patience
        self._probe_pause = 0.0
        self._answered_at = 0.0
        self._failing: set[Hashable] = set()  # who has failed since the last answer
        self._unreached = 0  # failures to connect since then

    @property
    def out(self) -> bool:
        """Whether it answers nobody at present."""
        return self.out_since is not None

    def cost(self, error: Exception, *, paced: bool) -> int:
        """What a retry after this error takes of the budget.

        What is refused where requests are spaced takes nothing: the pace is what keeps the load down there.
        """
        if paced and isinstance(error, Throttled):
            return 0
        return TIMEOUT_COST if isinstance(error, OriginTimeout) else RETRY_COST

    def answered(self, now: float, refund: int = NO_RETRY) -> None:
        """It has answered somebody, whose last retry took `refund` of the budget."""
        self.known = True
        self._answered_at = now
        if self.tokens < CAPACITY:
            self.tokens = min(CAPACITY, self.tokens + refund)
        if self._failing:
            self._failing.clear()
            self._unreached = 0
        self.out_since = None

    def failed(self, error: Exception, who: Hashable, now: float, uniform: Callable[[float, float], float]) -> None:
        """Somebody's try has failed."""
        if not isinstance(error, OriginError) or isinstance(error, IntegrityError):
            return
        if not error.retryable:
            if error.status is not None:  # a refusal is an answer
                self.answered(now, 0)
            return
        self._failing.add(who)
        self._unreached += isinstance(error, EndpointUnreachable)
        if self.out_since is None:
            if self._nobody_is_answered(error, now):
                self.out_since, self._probe_pause = now, 0.0
                self._next_probe(now, uniform)
        elif now - self.out_since >= self._patience:
            self.known, self.out_since = False, None
        elif now >= self.probe_at:
            self._next_probe(now, uniform)

    def _nobody_is_answered(self, error: Exception, now: float) -> bool:
        if not self.known or (isinstance(error, Throttled) and now - self._answered_at < THROTTLED):
            return False
        return self._unreached >= UNREACHED or len(self._failing) >= WITNESSES

    def _next_probe(self, now: float, uniform: Callable[[float, float], float]) -> None:
        self._probe_pause = next_pause(self._probe_pause, LONGEST_PROBE, uniform)
        self.probe_at = now + self._probe_pause
