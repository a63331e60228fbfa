"""Bytes that have killed three workers: refused from then on, in this run and the next, until they are released."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from asyncfetch import DecodePolicy, Fetcher
from asyncfetch.cache.upkeep import lift, upkeep
from asyncfetch.decode import DecodePool, Quarantine
from asyncfetch.errors import DecodeTimeout, Quarantined, WorkerDied
from asyncfetch.settings import CachePolicy
from tests.decode.parts import Outcome, PlainBudget, encode, photographs, until
from tests.decode.test_deaths import stuck_at

if TYPE_CHECKING:
    from pathlib import Path

    from tests.decode.parts import OpenPool


async def test_bytes_that_killed_three_workers_are_not_decoded_again(
    open_pool: OpenPool, tmp_path: Path, endless: Path
) -> None:
    pool = open_pool(1)
    for _ in range(3):
        culprit = Outcome(pool, endless, digest="blake3:bad")
        os.kill(await stuck_at(pool, culprit), signal.SIGSEGV)
        assert isinstance(await culprit.error(), WorkerDied)
    error = await Outcome(pool, endless, digest="blake3:bad").error()
    assert isinstance(error, Quarantined)
    assert "endless.jpg: its bytes have killed 3 decode workers; the last was killed by SIGSEGV" in str(error)
    assert error.remedy == "Where that was not their fault: asyncfetch cache release blake3:bad"
    [good] = photographs(tmp_path, 1)
    assert (await Outcome(pool, good, digest="blake3:good").get()).shape == (240, 320, 3)
    assert pool.statistics().died == 3


async def test_a_quarantine_that_is_given_is_asked_and_told(tmp_path: Path, endless: Path) -> None:
    notes = Quarantine()
    notes.strike("blake3:bad", "was killed")
    notes.strike("blake3:bad", "was killed")
    pool = DecodePool(DecodePolicy(workers=1, timeout=0.2), PlainBudget(), notes)
    assert isinstance(await Outcome(pool, endless, digest="blake3:bad").error(), DecodeTimeout)
    assert notes.why("blake3:bad") == "was killed after 0.2 seconds"
    assert notes.why("blake3:good") is None
    await pool.aclose()


async def test_deaths_count_from_one_run_to_the_next(cache_dir: Path, empty_bucket: Any) -> None:
    uri = empty_bucket.put("slow.png", encode(".png", np.zeros((5000, 5000), np.uint8)))
    good = empty_bucket.put("good.png", encode(".png", np.zeros((5, 5), np.uint8)))
    hasty, usual = DecodePolicy(workers=1, timeout=0.01), DecodePolicy(workers=1)
    for deaths in 2, 1:
        async with Fetcher(cache_dir=cache_dir, decode=hasty) as fetcher:
            for _ in range(deaths):
                with pytest.raises(DecodeTimeout):
                    await fetcher.image(uri)
    async with Fetcher(cache_dir=cache_dir, decode=usual) as fetcher:
        with pytest.raises(Quarantined, match=r"the last was killed after 0\.01 seconds"):
            await fetcher.image(uri)
        with pytest.raises(Quarantined):
            await anext(fetcher.images([uri]))
        assert (await fetcher.image(good)).pixels.shape == (5, 5, 3)
        digest = (await fetcher.fetch(uri)).digest or ""
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        assert lift(keeping, [digest]) == 1
    async with Fetcher(cache_dir=cache_dir, decode=usual) as fetcher:
        assert (await fetcher.image(uri)).pixels.shape == (5000, 5000, 3)


async def test_two_fetchers_count_together(cache_dir: Path, empty_bucket: Any) -> None:
    uri = empty_bucket.put("photo.jpg", b"")
    async with Fetcher(cache_dir=cache_dir) as one, Fetcher(cache_dir=cache_dir) as other:
        digest = (await one.fetch(uri)).digest
        assert digest is not None
        await strike(one, digest, 1)
        await strike(one, digest, 2)
        await strike(other, digest, 3)
        with pytest.raises(Quarantined, match="the last was killed, death 3"):
            await other.image(uri)
        assert one._engine().pool._quarantine.why(digest) is None, "it hears of the others when it has to tell"


async def strike(fetcher: Fetcher, digest: str, deaths: int) -> None:
    """Counts a death, and returns when the cache has: the one that it is by then."""
    engine = fetcher._engine()
    engine.pool._quarantine.strike(digest, f"was killed, death {deaths}")
    await until(lambda: digest in engine.cache.strikes and engine.cache.strikes[digest].deaths == deaths)
