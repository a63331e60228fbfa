"""URLs by which whoever has them may read or write objects for a while: made here, without asking S3."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote

from asyncfetch.errors import InvalidURI, OriginError, UsageError
from asyncfetch.origins.control import Control
from asyncfetch.origins.endpoints import NotNative, environment_region, resolve
from asyncfetch.origins.presigning import Presigner, checked_expires
from asyncfetch.streams import read_name, split

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Sources
    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location

logger = logging.getLogger(__name__)


class PresignedURL(NamedTuple):
    """What opens an object. `expires` is when it stops to, at the latest: sooner where the session that signed ends."""

    uri: str
    url: str
    expires: datetime


async def presign(
    fetcher: Fetcher,
    sources: Sources,
    *,
    method: Literal["GET", "PUT"] = "GET",
    expires: int = 3600,
    content_type: str | None = None,
    download: bool | str = False,
    cache_control: str | None = None,
) -> AsyncGenerator[PresignedURL]:
    """Yields a URL for each source, in their order, signed as the fetcher signs; payloads are dropped.

    No request is made for an object, so whether there is one, and may be read by the signer, shows when a URL is
    opened. `expires` is in seconds, 7 days at most; where the session's own token ends sooner, so do the URLs, and a
    warning is logged. `content_type` is what a GET is answered with, or what whoever PUTs must send. With `download` a
    browser saves what it gets, under the object's own name or the given one.

    Raises `UsageError` for options that mean nothing, anonymous access, and access with a customer's key, which no
    plain GET could send; `InvalidURI` for what is no object of S3; `CredentialsError`s.
    """
    expires = checked_expires(expires)
    query, headers = _said(method, content_type, download, cache_control)
    async with _Signers(fetcher.settings, fetcher.identities, method, expires, query, headers) as signers:
        if hasattr(sources, "__aiter__"):
            async for source in sources:
                yield await signers.sign(read_name(split(source)[0])[1])
        else:
            for number, source in enumerate(sources):
                yield await signers.sign(read_name(split(source)[0])[1])
                if number % 1000 == 999:
                    await asyncio.sleep(0)  # nothing above waits, and others want the loop


def _said(
    method: str, content_type: str | None, download: bool | str, cache_control: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """What goes into the query, and what the holder of a URL must send as headers."""
    if method not in ("GET", "PUT"):
        raise UsageError(f"method must be 'GET' or 'PUT', not {method!r}")
    if method == "PUT":
        if download or cache_control:
            raise UsageError("download and cache_control are about answers to GET")
        return {}, {} if content_type is None else {"content-type": content_type}
    query = {}
    if content_type is not None:
        query["response-content-type"] = content_type
    if cache_control is not None:
        query["response-cache-control"] = cache_control
    if download:
        # RFC 6266, section 4.3: the second form is for names that are not ASCII.
        named = "" if download is True else f"; filename*=UTF-8''{quote(download, safe='')}"
        query["response-content-disposition"] = f"attachment{named}"
    return query, {}


class _Signers:
    """One signer for each bucket."""

    def __init__(
        self,
        settings: Settings,
        identities: Identities,
        method: str,
        expires: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._identities = identities
        self._method = method
        self._expires = expires
        self._query = query
        self._headers = headers
        self._control = Control(settings, identities)
        self._signers: dict[str, tuple[Presigner | None, datetime]] = {}

    async def __aenter__(self) -> _Signers:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._control.aclose()

    async def sign(self, location: Location) -> PresignedURL:
        found = self._signers.get(location.container)
        if found is None:
            found = self._signers[location.container] = await self._meet(location)
        signer, expires = found
        uri = str(location)
        if location.scheme != "s3" or not location.key:
            raise InvalidURI(uri, "it is no object of S3", remedy="Write s3://bucket/key.")
        if signer is not None:
            return PresignedURL(uri, signer.url(location.key, location.version), expires)
        url = await self._control.presign(location, self._method, self._expires, self._query, self._headers)
        return PresignedURL(uri, url, expires)

    async def _meet(self, location: Location) -> tuple[Presigner | None, datetime]:
        uri, bucket = str(location), location.container
        if location.scheme != "s3":
            raise InvalidURI(uri, "only objects of S3 are presigned", remedy="Write s3://bucket/key.")
        access = self._settings.access_for(bucket)
        if access.anonymous:
            raise UsageError(f"{uri}: nobody signs with anonymous access", remedy="Leave out anonymous.")
        if access.customer_key is not None:
            raise UsageError(f"{uri}: a plain GET cannot send the customer_key that the object is encrypted with")
        source = self._identities.of(access)
        credentials = await source.get(uri)
        now = time.time()
        ends = min(now + self._expires, source.expiry)
        if ends < now + self._expires:
            logger.warning("URLs of s3://%s end in %.0f s, with the session that signs them", bucket, ends - now)
        elif credentials.token and math.isinf(source.expiry):
            logger.warning("URLs of s3://%s end with the session that signs them, whenever that is", bucket)
        region = access.region or environment_region() or await source.region(uri)
        if access.endpoint is None and not bucket.startswith("arn:"):
            region = await self._region(location) or region
        reached = await asyncio.to_thread(resolve, bucket, access, region)
        expires = datetime.fromtimestamp(ends, UTC)
        if isinstance(reached, NotNative):
            return None, expires
        query = dict(self._query)
        if access.requester_pays:
            query["x-amz-request-payer"] = "requester"
        signer = Presigner(
            reached.target,
            credentials,
            now=now,
            expires=self._expires,
            method=self._method,
            query=query,
            headers=self._headers,
        )
        return signer, expires

    async def _region(self, location: Location) -> str | None:
        """Where the bucket says that it is: a URL cannot be redirected to another region, for it is signed for one."""
        try:
            return await self._control.region(location)
        except OriginError:  # without the permission to ask, what is configured must do
            return None
