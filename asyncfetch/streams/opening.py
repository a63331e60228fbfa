"""Streams as a fetcher is asked for them: whose items a run makes, or functions that are mapped over its objects."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.decode import DecodeOptions, MapOptions
from asyncfetch.streams.mapped import MapRun
from asyncfetch.streams.options import run_options
from asyncfetch.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from asyncfetch.decode import Call, Takes
    from asyncfetch.engine import Engine
    from asyncfetch.objects import Sources
    from asyncfetch.streams.options import StreamKeywords
    from asyncfetch.streams.outcomes import OnError
    from asyncfetch.streams.run import Run


def open_stream(
    engine: Engine,
    sources: Sources,
    make_run: Callable[..., Run[Any]],
    takes: Takes,
    on_error: OnError,
    decode: DecodeOptions | None = None,
    /,
    **keywords: Unpack[StreamKeywords],
) -> Stream[Any]:
    """A stream of what `make_run` makes. Functions mapped over it are given what `takes` says, pixels as `decode` does.

    Raises `UsageError` for keywords that mean nothing.
    """
    rest = run_options(engine.settings, sources, on_error=on_error, **keywords)

    def open_mapped(calls: tuple[Call, ...]) -> partial[MapRun]:
        return partial(MapRun, engine, options=MapOptions(takes, calls, decode or DecodeOptions()), **rest)

    return Stream(engine, sources, partial(make_run, engine, **rest), open_mapped)
