"""The share of one process in a job of many: which items are its own, and how much of the host."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import UsageError
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    from asyncfetch.settings import Settings

_LEAST_BUDGET = 32 * MIB  # a large photograph and its decoder; with less everything goes one by one


class Share(NamedTuple):
    """One worker of one rank. `parts` are the processes among which its host is divided."""

    rank: int
    ranks: int
    worker: int
    workers: int

    @property
    def parts(self) -> int:
        """How many fetchers this host has: workers of all its ranks."""
        return self.workers * ranks_of_host(self.ranks)


def check_rank(rank: int, ranks: int) -> tuple[int, int]:
    """A rank and the number of all. Raises `UsageError` for one that does not exist."""
    if not 0 <= rank < ranks:
        raise UsageError(f"There is no rank {rank} of {ranks}", remedy=f"They are 0 to {ranks - 1}.")
    return rank, ranks


def rank_of_environment() -> tuple[int, int]:
    """The rank that `RANK` and `WORLD_SIZE` name, as torchrun and its kin set them; else 0 of 1."""
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        return 0, 1
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise UsageError("Of RANK and WORLD_SIZE one is set and the other is not", remedy="Set both, or neither.")
    return check_rank(_number("RANK", 0), _number("WORLD_SIZE", 1))


def ranks_of_host(ranks: int) -> int:
    """How many of all ranks this host has: what `LOCAL_WORLD_SIZE` says, which torchrun sets.

    Without it, all of them when `MASTER_ADDR` is a loopback address, at which none of another host could meet them.
    Else this one alone: to know more, ranks would have to ask each other, and one that asks waits for all.
    """
    if ranks == 1:
        return 1
    return _number("LOCAL_WORLD_SIZE", ranks if _is_loopback(os.environ.get("MASTER_ADDR", "")) else 1, least=1)


def divided(settings: Settings, parts: int) -> Settings:
    """What one of so many processes takes of a host's concurrency, memory budget and decode workers."""
    network = replace(settings.network, concurrency=max(1, settings.network.concurrency // parts))
    decode = replace(settings.decode, workers=max(1, settings.decode.worker_count // parts))
    budget = max(settings.memory_budget // parts, min(settings.memory_budget, _LEAST_BUDGET))
    return replace(settings, network=network, decode=decode, memory_budget=budget)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _number(name: str, usual: int, *, least: int = 0) -> int:
    text = os.environ.get(name) or str(usual)
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < least:
        raise UsageError(f"{name} must be a whole number, {least} or more, not {text!r}")
    return number
