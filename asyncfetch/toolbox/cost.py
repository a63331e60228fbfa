"""What lies under a prefix costs a month, and what reading all of it once would: an estimate from list prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncfetch.prices import DATED, SOURCE, Prices, prices_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from asyncfetch.objects import ObjectStat

PAGE = 1000  # objects that a request for a listing tells of (AWS: API_ListObjectsV2)

# Classes whose objects must be restored before they can be read; what that costs depends on how fast it is to be.
ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")


@dataclass(frozen=True, slots=True)
class Share:
    """What lies there in one storage class; `storage` is in dollars a month."""

    storage_class: str
    objects: int
    bytes: int
    storage: float


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate, in US dollars before tax; see `asyncfetch.prices` for what it is made from.

    `shares` come by falling bytes. `requests`, `retrieval` and `transfer` are of reading every object once: a GET each
    with the listing before, what classes for rare use charge for a read, and the way out of AWS to the internet.
    Where `archived` is not 0, so many of the bytes would have to be restored first, which is not in it.
    """

    prefix: str
    shares: tuple[Share, ...]
    requests: float
    retrieval: float
    transfer: float
    archived: int
    region: str
    dated: str = DATED
    source: str = SOURCE

    @property
    def objects(self) -> int:
        """Of all classes."""
        return sum(share.objects for share in self.shares)

    @property
    def bytes(self) -> int:
        """Of all classes."""
        return sum(share.bytes for share in self.shares)

    @property
    def storage(self) -> float:
        """A month of all classes."""
        return sum(share.storage for share in self.shares)


async def estimate(prefix: str, listing: AsyncIterable[ObjectStat], *, region: str | None = None) -> Cost:
    """Adds up a listing, such as `fetcher.list(prefix)` with everything below it.

    `region` chooses the prices: one that the table does not have, or None, gets those of us-east-1, and `Cost.region`
    says so. Sizes are those of the current versions; older ones and unfinished uploads are not listed, and cost too.
    Raises what the listing raises.
    """
    prices = prices_of(region)
    found: dict[str, list[int]] = {}
    async for stat in listing:
        counts = found.setdefault(stat.storage_class or "STANDARD", [0, 0])
        counts[0] += 1
        counts[1] += stat.size
    shares = [_share(prices, name, *counts) for name, counts in found.items()]
    shares.sort(key=lambda share: (-share.bytes, share.storage_class))
    objects = sum(share.objects for share in shares)
    return Cost(
        prefix,
        tuple(shares),
        requests=prices.requests(gets=objects, lists=max(1, -(-objects // PAGE))),
        retrieval=sum(prices.retrieval_of(share.storage_class, share.bytes) for share in shares),
        transfer=prices.transfer_of(sum(share.bytes for share in shares)),
        archived=sum(share.bytes for share in shares if share.storage_class in ARCHIVED),
        region=prices.region,
    )


def _share(prices: Prices, storage_class: str, objects: int, size: int) -> Share:
    return Share(storage_class, objects, size, prices.storage_of(storage_class, size))
