"""What can go wrong with an answer, and which answers it shall go wrong with: decided here, done by `FaultServer`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fault(enum.StrEnum):
    """A way for an answer to go wrong. The first thirteen can be asked for, the others come of limit and outage."""

    SLOW = "slow"  # its first byte comes late
    DRIP = "drip"  # its body comes in small pieces
    STALL = "stall"  # nothing comes for a while in the middle of its body
    RESET = "reset"  # the connection is reset in the middle of its body
    TRUNCATE = "truncate"  # the connection is closed there in good order
    ERROR = "error"  # 500 InternalError
    UNAVAILABLE = "unavailable"  # 503 SlowDown
    FLIP = "flip"  # one bit of its body is another
    REPLACE = "replace"  # it is right, and the object is another from the next request on
    OVERSTATE = "overstate"  # it announces more bytes than come
    UNDERSTATE = "understate"  # it announces fewer bytes than come
    REFUSE_SIGNATURE = "refuse_signature"  # 403 SignatureDoesNotMatch
    EXPIRE_TOKEN = "expire_token"  # noqa: S105  # 400 ExpiredToken
    LIMITED = "limited"  # 503 SlowDown, for there were too many requests
    OUTAGE = "outage"  # the server goes away under it


# Those that another try gets over, if they are seen; an identity that is refused stays refused. Nothing but a checksum
# shows FLIP and UNDERSTATE.
PASSING: Final = tuple(Fault)[:11]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which answers go wrong: the share of each fault, from 0 to 1, together at most 1.

    A share is of the answers with an object, and of heads and listings where they can have the fault: these have no
    body that could lie. `at` names single ones, by key and the how-manieth request for that key, from 1. A listing's
    key is `""`.

    `rate_limit` is the requests a second that are answered, after `burst` at once; those beyond get 503 SlowDown. Only
    those for keys that begin with `limited_prefix` count, and are refused.
    After `outage_after` requests the server is gone for `outage_seconds`, once: connections end and new ones are
    refused.
    """

    slow: float = 0.0
    drip: float = 0.0
    stall: float = 0.0
    reset: float = 0.0
    truncate: float = 0.0
    error: float = 0.0
    unavailable: float = 0.0
    flip: float = 0.0
    replace: float = 0.0
    overstate: float = 0.0
    understate: float = 0.0
    refuse_signature: float = 0.0
    expire_token: float = 0.0
    at: Mapping[tuple[str, int], Fault] = field(default_factory=dict)
    slow_seconds: float = 0.2
    stall_seconds: float = 2.0
    drip_bytes: int = 1024
    drip_seconds: float = 0.01  # between pieces
    rate_limit: float | None = None
    burst: int = 50
    limited_prefix: str = ""
    outage_after: int | None = None
    outage_seconds: float = 1.0

    def __post_init__(self) -> None:
        shares = [getattr(self, fault) for fault in _ASKED]
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise UsageError("shares of faults lie from 0 to 1, and together too")
        seconds = (self.slow_seconds, self.stall_seconds, self.drip_seconds, self.outage_seconds)
        limited = self.rate_limit is None or self.rate_limit > 0
        if not limited or min(*seconds, self.burst - 1, self.drip_bytes - 1) < 0:
            raise UsageError("times of faults are not negative, and limits greater than 0")
        for place, fault in self.at.items():
            if fault not in _ASKED:
                raise UsageError(f"{fault!r} at {place} is not a fault that can be asked for")

    @classmethod
    def evenly(cls, share: float, **rest: float) -> Faults:
        """Every fault that another try gets over, at once, each with the same part of `share`."""
        return cls(**{fault.value: share / len(PASSING) for fault in PASSING}, **rest)  # type: ignore[arg-type]

    def choose(self, seed: int, key: str, nth: int) -> Fault | None:
        """The fault of the answer to the nth request for a key.

        It depends on nothing else, so a run replays whatever the order in which requests for different keys arrive.
        """
        if (named := self.at.get((key, nth))) is not None:
            return named
        drawn = draw(seed, key, nth, "which")
        for fault in _ASKED:
            drawn -= getattr(self, fault)
            if drawn < 0:
                return fault
        return None


def draw(seed: int, key: str, nth: int, what: str) -> float:
    """A number from 0 to before 1, always the same for the same arguments."""
    text = f"{seed}\0{nth}\0{what}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()[:6]) / (1 << 48)


_ASKED: Final = tuple(Fault)[:13]
