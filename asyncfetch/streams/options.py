"""What a user says of a stream beside its sources and its order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from asyncfetch.checks import count_of
from asyncfetch.decode import ImageOptions
from asyncfetch.errors import UsageError
from asyncfetch.streams.order import has_index
from asyncfetch.streams.outcomes import FailureLimit, Outcomes, Substitute
from asyncfetch.streams.window import Window

if TYPE_CHECKING:
    import os

    from asyncfetch.objects import Sources
    from asyncfetch.settings import Settings
    from asyncfetch.streams.outcomes import OnError

Order: TypeAlias = Literal["input", "completion"]


class StreamKeywords(TypedDict, total=False):
    """The keywords that every kind of stream takes and that say nothing of the type of its items."""

    order: Order
    failures: str | os.PathLike[str] | None
    cache: bool
    look_ahead: int | None


class ImageKeywords(ImageOptions, StreamKeywords, total=False):
    """The same of a stream of images, with what says how they are decoded."""


def run_options(
    settings: Settings,
    sources: Sources,
    *,
    on_error: OnError,
    order: Order = "input",
    failures: str | os.PathLike[str] | None = None,
    cache: bool = True,
    look_ahead: int | None = None,
) -> dict[str, Any]:
    """The keywords that a run is made with. Raises `UsageError` for what means nothing."""
    if order not in get_args(Order):
        raise UsageError(f"order must be 'input' or 'completion', not {order!r}")
    if not isinstance(on_error, Substitute | FailureLimit) and on_error not in ("raise", "skip", "yield"):
        raise UsageError(f"on_error must be 'raise', 'skip', 'yield', a Substitute or a FailureLimit, not {on_error!r}")
    if look_ahead is None:
        known = cache and has_index(sources)  # files that stay out of the cache are on the disk twice as long
        window = Window(max(256, 4 * settings.network.concurrency), batches=0 if known else 2, deep=known)
    elif (items := count_of(look_ahead, 1)) is not None:
        window = Window(items)
    else:
        raise UsageError(f"look_ahead must be a whole number of items, at least 1, not {look_ahead!r}")
    return {
        "in_order": order == "input",
        "open_outcomes": partial(Outcomes, on_error, failures),
        "private": not cache,
        "window": window,
    }
