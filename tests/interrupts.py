"""An interrupt at a chosen moment of a program, so that a test can go through all of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def interrupted(work: Callable[[], object], at: int, *places: str, function: str | None = None) -> bool:
    """Runs something, and raises `KeyboardInterrupt` in it at its `at`th moment in files whose paths begin so.

    Python looks for signals as a function begins, and when one of C has returned. With `function` only the moments of
    functions of that name count. False when it had fewer moments, and ran to its end.
    """
    left = at

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        code = frame.f_code
        if event not in ("call", "c_return") or function not in (None, code.co_name):
            return
        if code.co_filename.startswith(places):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return left <= 0
