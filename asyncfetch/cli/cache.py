"""`asyncfetch cache …`: what the cache holds, and emptying it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer

from asyncfetch.cli.common import Options, command, human, on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncfetch.cache import Cache

app = typer.Typer(help="Look at the cache, or empty it.", no_args_is_help=True)


@app.command("stats")
@command
def stats(options: Options) -> None:
    """Say how many objects the cache holds, and their bytes."""

    async def run() -> None:
        async with _cache(options) as (cache, directory):
            found = await cache.stats()
        if options.json:
            options.out({"cache_dir": directory, **found._asdict()})
        else:
            print(f"{directory}")
            saved = max(0, found.object_bytes - found.blob_bytes)
            print(
                f"{found.objects:,} objects, {human(found.object_bytes)}; {found.blobs:,} blobs, "
                f"{human(found.blob_bytes)} on disk; {human(saved)} saved by storing equal bytes once"
            )

    on_loop(run)


@app.command("clear")
@command
def clear(options: Options) -> None:
    """Remove everything from the cache. Safe while jobs run: what they need they fetch again."""

    async def run() -> None:
        async with _cache(options) as (cache, directory):
            gone = await cache.clear()
        if options.json:
            options.out({"cache_dir": directory, **gone._asdict()})
        else:
            options.say(f"{directory}: removed {gone.blobs:,} blobs, {human(gone.blob_bytes)}")

    on_loop(run)


@asynccontextmanager
async def _cache(options: Options) -> AsyncIterator[tuple[Cache, str]]:
    from asyncfetch.cache import Cache
    from asyncfetch.settings import CachePolicy

    policy = CachePolicy(cache_dir=options.cache_dir)
    cache = await asyncio.to_thread(Cache.open, policy, loop=asyncio.get_running_loop())
    try:
        yield cache, str(policy.directory)
    finally:
        await cache.aclose()
