"""What a user says of a stream beside its sources and its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from asyncfetch.settings import Settings

Order: TypeAlias = Literal["input", "completion"]
OnError: TypeAlias = Literal["raise", "skip", "yield"]


def run_options(
    settings: Settings, *, order: Order, on_error: OnError, cache: bool, look_ahead: int | None
) -> dict[str, Any]:
    """The keywords that a run is made with. Raises `UsageError` for what means nothing."""
    if order not in get_args(Order):
        raise UsageError(f"order must be 'input' or 'completion', not {order!r}")
    if on_error not in get_args(OnError):
        raise UsageError(f"on_error must be 'raise', 'skip' or 'yield', not {on_error!r}")
    if look_ahead is None:
        look_ahead = max(256, 4 * settings.network.concurrency)
    elif isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
        raise UsageError(f"look_ahead must be a whole number of items, at least 1, not {look_ahead!r}")
    return {"in_order": order == "input", "skip": on_error == "skip", "private": not cache, "window": look_ahead}
