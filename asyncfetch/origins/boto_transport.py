"""The HTTP session that aiobotocore is given. Imports aiobotocore: to be imported only where that has been paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiobotocore.httpsession import AIOHTTPSession

if TYPE_CHECKING:
    import aiohttp


class StayingSession(AIOHTTPSession):  # type: ignore[misc] # it has no types
    """aiobotocore's session, except that it follows no redirect.

    aiohttp would follow one to any host, with the session token among the headers and a signature made for another.
    What a redirect of S3 says of the region, botocore understands itself.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Staying(await super()._get_session(proxy_url))


class _Staying:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        return await self._session.request(method, allow_redirects=False, **options)
