"""What has killed who used it is forgiven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.cache import strikes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncfetch.cache.upkeep.session import Upkeep


def lift(keeping: Upkeep, digests: Iterable[str]) -> int:
    """Forgets the strikes of these bytes; how many had some. Raises `CacheUnusable`."""
    return keeping.make([strikes.lift(digest) for digest in digests])
