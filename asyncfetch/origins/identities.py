"""Who signs, shared: one source of credentials for each identity, for all of a fetcher that sign by it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from asyncfetch.origins.credentials import CredentialSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.settings import Access, Lender


class Identities:
    """The sources of credentials of one fetcher, each made with its first use and refreshed once for everybody.

    Whoever signs beside the fetcher (the control plane, presigned URLs) asks here, and so runs no chain of its own: no
    second single sign-on, assumed role or `credential_process`.
    """

    def __init__(self) -> None:
        self._sources: dict[tuple[str | None, Lender | None], CredentialSource] = {}

    def of(self, access: Access) -> CredentialSource:
        """Who signs for an access that is not anonymous."""
        who = access.profile, access.credentials
        source = self._sources.get(who)
        if source is None:
            source = self._sources[who] = CredentialSource(access.profile, lender=access.credentials)
        return source

    async def aclose(self) -> None:
        """Closes every source, see `CredentialSource.aclose`. Closing twice does nothing."""
        if self._sources:
            await asyncio.gather(*[source.aclose() for source in self._sources.values()])


class SharedProvider:
    """Stands in the place of botocore's chain of providers, and gives what a source has."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    async def load_credentials(self) -> SharedCredentials:
        """The source's credentials, which are asked for with each request."""
        return SharedCredentials(self._source)


class SharedCredentials:
    """A source's credentials in the form that aiobotocore has its own in."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    @property
    def method(self) -> str:
        """How they were come by, which botocore tells S3 in the name of its user agent."""
        return self._source.method or "shared"

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """What gives a property when it is called: how botocore asks for the account's id."""
        return partial(getattr, self, name, None)

    async def get_account_id(self) -> None:
        """The account's id, which the source does not keep."""

    async def get_frozen_credentials(self) -> Any:
        """Access key, secret key and token of now. They are at hand: `BotoClients.get` has waited for them."""
        from botocore.credentials import ReadOnlyCredentials

        found = self._source.current() or await self._source.get("s3://")
        return ReadOnlyCredentials(found.access_key, found.secret_key, found.token)
