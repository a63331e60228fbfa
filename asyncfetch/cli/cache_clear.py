"""`asyncfetch cache clear`."""

from __future__ import annotations

import asyncio

from asyncfetch.cli.common import Options, command, human, on_loop


@command
def clear(options: Options) -> None:
    """Remove everything from the cache. Safe while jobs run: what they need they fetch again."""

    async def run() -> None:
        from asyncfetch.cache import Cache

        policy = options.cache_policy()
        cache = await asyncio.to_thread(Cache.open, policy, loop=asyncio.get_running_loop())
        try:
            gone = await cache.clear()
        finally:
            await cache.aclose()
        if options.json:
            options.out({"cache_dir": str(policy.directory), **gone._asdict()})
        else:
            options.say(f"{policy.directory}: removed {gone.blobs:,} blobs, {human(gone.blob_bytes)}")

    on_loop(run)
