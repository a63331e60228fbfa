"""The origin of those who are offline: it has nothing, and says so without a word to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from asyncfetch.errors import NotInCache

if TYPE_CHECKING:
    from asyncfetch.origins.base import ByteRange, Sink
    from asyncfetch.uris import Location


class OfflineOrigin:
    """The Origin protocol for a fetcher whose cache is used offline. Every method raises `NotInCache`."""

    requests = 0

    async def stat(self, location: Location) -> NoReturn:
        """Raises."""
        raise _absent(location)

    async def read(
        self,
        location: Location,
        sink: Sink,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> NoReturn:
        """Raises. The sink stays as it is."""
        raise _absent(location)

    def list(self, prefix: Location, *, recursive: bool = True, start_after: str | None = None) -> NoReturn:
        """Raises: the cache does not know what else there may be."""
        raise NotInCache(str(prefix), "only its origin can list it, and offline nothing is asked of an origin")

    async def aclose(self) -> None:
        """Has nothing to close."""


def _absent(location: Location) -> NotInCache:
    return NotInCache(str(location), "it is not in the cache, and offline nothing is asked of its origin")
