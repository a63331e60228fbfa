"""An interrupt at a chosen moment of a program, so that a test can go through all of them."""

from __future__ import annotations

import dis
import gc
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from _typeshed import TraceFunction

# After these CPython looks for signals; a function in Python that is called so has its own moment, as it begins.
_LOOKS = frozenset(
    dis.opmap[name] for name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD") if name in dis.opmap
)
_AWAITED = dis.opmap["GET_AWAITABLE"]  # what was called before it was a coroutine function: no moment either


def interrupted(
    work: Callable[[], object], at: int, *places: str, function: str | None = None, closely: bool = False
) -> bool:
    """Runs something, and raises `KeyboardInterrupt` in it at its `at`th moment in files whose paths begin so.

    Python looks for signals as a function begins, and when one of C has returned; also at the end of each turn of a
    loop, and when a class has made its object, which counts only `closely`, as that makes it slow. With `function` only
    the moments of functions of that name count. False when it had fewer moments, and ran to its end.

    No garbage is collected meanwhile: a generator that another run left would be closed here, and the interrupt lost in
    it.
    """
    left = at

    def matches(code: CodeType) -> bool:
        return function in (None, code.co_name) and code.co_filename.startswith(places)

    def moment() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_return") and matches(frame.f_code):
            moment()

    collects = gc.isenabled()
    gc.disable()
    try:
        if closely:
            _trace(matches, moment)
        else:
            sys.setprofile(interrupt)
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None) if closely else sys.setprofile(None)
        if collects:
            gc.enable()
    return left <= 0


def _trace(matches: Callable[[CodeType], bool], moment: Callable[[], None]) -> None:
    looks: dict[int, bool] = {}  # by the frame: whether the instruction before was one of those

    def begin(frame: FrameType, event: str, argument: Any) -> TraceFunction | None:
        code = frame.f_code
        if frame.f_back is not None and code.co_name != "__init__":  # which a class calls, and that returns
            looks[id(frame.f_back)] = False
        if not matches(code):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        looks[id(frame)] = False
        moment()
        return step

    def step(frame: FrameType, event: str, argument: Any) -> TraceFunction:
        if event == "opcode":
            instruction = _instructions(frame.f_code)[frame.f_lasti]
            if looks.get(id(frame)) and instruction != _AWAITED:
                moment()
            looks[id(frame)] = instruction in _LOOKS
        elif event == "exception":
            looks[id(frame)] = False
        return step

    sys.settrace(begin)


@cache
def _instructions(code: CodeType) -> bytes:
    """The instructions as they were compiled; the attribute makes them anew each time."""
    return code.co_code
