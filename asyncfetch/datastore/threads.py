"""Work on threads that a cancelled caller can stop: it ends at the next piece, and the caller waits for that."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
P = ParamSpec("P")

_stopping: ContextVar[threading.Event | None] = ContextVar("_stopping", default=None)


class Stopped(Exception):
    """Raised on a thread whose caller was cancelled; nobody else sees it."""


async def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs something on a thread, which `may_go_on` can end early.

    Cancelled, it returns when the thread has ended: no file is written or left behind its back.
    """
    stop = threading.Event()
    before = _stopping.set(stop)
    try:
        working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))  # with a copy of this context
    finally:
        _stopping.reset(before)
    return await to_its_end(working, stop.set)


async def to_its_end(working: asyncio.Future[T], stop: Callable[[], object] = lambda: None) -> T:
    """Waits for something, and when cancelled calls `stop` and waits all the same until it has ended."""
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop()
        while not working.done():
            try:
                await asyncio.wait({working})
            except asyncio.CancelledError:  # once is enough
                continue
        if not working.cancelled():
            working.exception()
        raise


def may_go_on() -> None:
    """Called between two pieces of long work. Raises `Stopped` where nobody waits for it any more."""
    stop = _stopping.get()
    if stop is not None and stop.is_set():
        raise Stopped
