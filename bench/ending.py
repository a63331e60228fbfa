"""How a bench is ended from outside: by the contexts that end its servers and rows, whatever the signal."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType


def heed() -> None:
    """Has SIGTERM and SIGHUP leave the program as Ctrl-C does, which Python knows by itself."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
