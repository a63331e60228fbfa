"""What the commands of a store share: how it is opened, what they show of it, and how Ctrl-C ends them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from asyncfetch.cli.bulk import Interrupts, typed
from asyncfetch.cli.common import on_loop
from asyncfetch.errors import UsageError
from asyncfetch.settings import parse_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from asyncfetch.cli.common import Options
    from asyncfetch.datastore import DataReference, DataStore

T = TypeVar("T")

Place = Annotated[str, typer.Argument(help="s3://bucket/prefix, or a directory.", metavar="STORE")]
Prefix = Annotated[str, typer.Option("--prefix", help="Where its data lies, below there.")]
Extra = Annotated[
    list[str] | None,
    typer.Option("--extra", help="Goes with all that is written, such as ServerSideEncryption=aws:kms.", metavar="K=V"),
]


@contextlib.asynccontextmanager
async def opened(
    options: Options, place: str, prefix: str, extra: Iterable[str] | None = None, *, make: bool = False
) -> AsyncIterator[DataStore]:
    """A store by where it is, read by a fetcher as the options say, for a command that may `make` one or needs one."""
    from asyncfetch.datastore import DataStore

    args = dict(_pair(one) for one in extra or ())
    async with (
        options.fetcher() as fetcher,
        DataStore.at(place, prefix=prefix, extra_args=args, fetcher=fetcher, must_exist=not make) as store,
    ):
        yield store


async def to_output(store: DataStore, reference: DataReference) -> None:
    """Sends stored bytes to standard output. Raises `UsageError` for a directory."""
    if reference.kind == "directory":
        raise UsageError(f"{reference.digest} is a directory", remedy="Name one after -o.")
    path = await store.retrieve_data(replace(reference, kind="file"))
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
    sys.stdout.buffer.flush()


def run(options: Options, main: Callable[[], Awaitable[T]], *, resumes: bool = False) -> T:
    """Runs a command's coroutine, which Ctrl-C cancels: what is half done ends, whole or not at all.

    `resumes` says that the same command goes on from there, and tells it.
    """

    async def heeding() -> T:
        interrupts, task = Interrupts(options), asyncio.current_task()
        assert task is not None

        def stop(reason: str) -> None:
            task.cancel(reason)

        try:
            with interrupts.lead_to(stop):
                return await main()
        except BaseException:
            if resumes and interrupts.come:
                options.say(f"to go on: {typed()}")
            raise

    return on_loop(heeding)


def line(reference: DataReference) -> str:
    """A reference as people read it, the digest first, as `sha256sum` has it."""
    return f"{reference.digest}  {reference.size:>12}  {reference.kind:9}  {reference.name or '-'}"


def read_json(text: str | None, option: str) -> dict[str, Any] | None:
    """What an option says in JSON. Raises `UsageError` for what is no object of JSON."""
    if text is None:
        return None
    try:
        told = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{option} is not JSON: {error}", remedy="""Write such as '{"epoch": 3}'.""") from None
    if not isinstance(told, dict):
        raise UsageError(f"{option} must be an object of JSON", remedy="""Write such as '{"epoch": 3}'.""")
    return told


def read_since(text: str | None) -> datetime | timedelta | None:
    """A date, or so long ago. Raises `UsageError`."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        try:
            return timedelta(seconds=parse_duration(text, name="--since"))
        except UsageError:
            raise UsageError(
                f"--since {text!r} is neither a date nor a duration", remedy="Write such as 2026-01-31 or 7d."
            ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def when(moment: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--extra {text!r} is no pair", remedy="Write such as StorageClass=STANDARD_IA.")
    return name, value
