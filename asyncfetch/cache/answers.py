"""Futures as answers: what the cache answers by a callback, for one who awaits it and may be cancelled meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")


def resolve(future: asyncio.Future[_T], result: _T) -> None:
    """Gives a future its result, an exception too, unless nobody waits for it any more."""
    if not future.done():
        future.set_result(result)


def settle(future: asyncio.Future[_T], result: _T | Exception) -> None:
    """As `resolve`, but has an exception raised where it is awaited."""
    if not future.done():
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
