"""Pools that are closed whatever becomes of their test, and a file that holds a worker for ever."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.decode import DecodePool
from asyncfetch.settings import DecodePolicy
from tests.decode.parts import PlainBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.decode.parts import OpenPool


@pytest.fixture
async def open_pool() -> AsyncIterator[OpenPool]:
    """Opens pools: `open_pool(workers=1, budget=None, **policy)`."""
    pools: list[DecodePool] = []

    def open_one(workers: int = 1, budget: PlainBudget | None = None, **policy: Any) -> DecodePool:
        pools.append(DecodePool(DecodePolicy(workers=workers, **policy), budget or PlainBudget()))
        return pools[-1]

    yield open_one
    for pool in pools:
        await pool.aclose()


@pytest.fixture
def pool(open_pool: OpenPool) -> DecodePool:
    """A pool of two workers and plenty of memory."""
    return open_pool(2)


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file whose reading never ends: a FIFO that nobody writes."""
    os.mkfifo(tmp_path / "endless.jpg")
    return tmp_path / "endless.jpg"
