"""When an answer is so late that a second request is likely to overtake it (Dean and Barroso, "The Tail at Scale",
Communications of the ACM 56(2), 2013): decided from how long others of its size have waited for their first byte.

Nothing here waits or looks at a clock. Times are in seconds.
"""

from __future__ import annotations

SHARE = 0.02  # of the requests may have a twin
SAVED = 4.0  # twins that may be saved up: a burst of stalls is met, a crowd of them is none of ours
RECENT = 128  # answers of a size class that percentiles are told from
REFRESH = 32  # answers after which they are told anew: sorting costs 0.2 us an answer so
LEAST = 0.05  # below this a twin gains nothing that is worth a request: a new connection takes about as long
MOVED = 2.0  # times what it has been: the median has moved, and a second request would meet the same
CROWD = 4  # one of so many may be late; where more are, it is not they who are slow


UNKNOWN = 0  # the class of those whose size is not known


def size_class(size: int) -> int:
    """Of objects that can be expected to take equally long until their first byte: by powers of 16."""
    return 1 + size.bit_length() // 4


class Hedges:
    """What is known of one place's first bytes, and how many twins it may have."""

    __slots__ = ("_budget", "_tails")

    def __init__(self) -> None:
        self._tails: dict[int, _Tail] = {}
        self._budget = 0.0

    def heard(self, kind: int, waited: float) -> None:
        """An answer of a size class has begun."""
        if self._budget < SAVED:
            self._budget += SHARE
        tail = self._tails.get(kind)
        if tail is None:
            tail = self._tails[kind] = _Tail()
        count = tail.count
        tail.waits[count % RECENT] = waited
        tail.count = count = count + 1
        if count % REFRESH == 0 and count >= RECENT:
            tail.refresh()

    def late_after(self, kind: int) -> float:
        """The wait from which an answer of a size class is late; infinite while that cannot be told."""
        tail = self._tails.get(kind)
        return float("inf") if tail is None else tail.late_after

    def grant(self, late: int, flying: int) -> int:
        """How many of the late ones get a twin, the longest waiting first; `flying` are out altogether."""
        if late > max(1, flying // CROWD):
            return 0
        granted = min(late, int(self._budget))
        self._budget -= granted
        return granted


class _Tail:
    """The recent waits of one size class."""

    __slots__ = ("_usual", "count", "late_after", "waits")

    def __init__(self) -> None:
        self.waits = [0.0] * RECENT  # the one of number `count` in the place of that which is `RECENT` older
        self.count = 0
        self._usual = 0.0  # the median of some time
        self.late_after = float("inf")

    def refresh(self) -> None:
        """Tells anew what is late."""
        ordered = sorted(self.waits)
        median, p95 = ordered[RECENT // 2], ordered[RECENT * 95 // 100]
        usual = self._usual or median
        self.late_after = max(p95, LEAST) if median <= max(usual * MOVED, LEAST) else float("inf")
        self._usual = usual + (median - usual) / 16  # what stays is the new usual after some five hundred answers
