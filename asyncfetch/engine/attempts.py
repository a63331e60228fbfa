"""Whether a failed read is tried again, and when. Decided here from plain values; acted on in `lanes` only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.errors import ObjectError, OriginError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE = 0.1  # seconds; an S3 that answers 503 asks for some time, not for an instant second try
LONGEST_PAUSE = 20.0  # the cap that the AWS SDKs' standard mode uses


def next_pause(error: Exception, attempts: int, limit: int, uniform: Callable[[float, float], float]) -> float | None:
    """The seconds to wait before another try after `attempts` of them, or None to let the error stand.

    Exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): a crowd that failed
    together does not come back together. What the origin asked for by Retry-After is the least that is waited, and
    asked-for waits longer than the cap are not worth a lane: the error stands.
    """
    if not (isinstance(error, ObjectError) and error.retryable) or attempts >= limit:
        return None
    pause = uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempts - 1)))
    asked = error.retry_after if isinstance(error, OriginError) else None
    if asked is None:
        return pause
    return max(pause, asked) if asked <= LONGEST_PAUSE else None
