"""The HTTP session that aiobotocore is given. Imports aiobotocore: to be imported only where that has been paid for."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from asyncfetch.origins.listing import MAX_PAGE_BYTES

_DOCUMENT: Final = 64 << 10  # bytes that are read of an error document; S3's have some hundred


class StayingSession(AIOHTTPSession):  # type: ignore[misc] # it has no types
    """aiobotocore's session, except that it follows no redirect, and collects no more than anybody has use for.

    aiohttp would follow a redirect to any host, with the session token among the headers and a signature made for
    another. What a redirect of S3 says of the region, botocore understands itself. And it would collect an error
    document or a page of a listing that never ends.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Staying(await super()._get_session(proxy_url))


class CountedSession(StayingSession):
    """The same, whose every request botocore counts: aiohttp does not repeat one by itself when a connection ends.

    Whether a conditional write was sent twice tells whose the object is that it found.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        staying = await super()._get_session(proxy_url)
        staying.never_repeat()
        return staying


class _Staying:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def never_repeat(self) -> None:
        # aiohttp has no public way; its own test client does the same.
        self._session._retry_connection = False

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self._session.request(method, allow_redirects=False, **options)
        # What botocore collects a body with. An object's goes another way: it is streamed.
        response.read = partial(_collect, response)  # type: ignore[method-assign]
        return response


async def _collect(response: aiohttp.ClientResponse) -> bytes:
    """The body of a page or of an error document. Whatever happens, the connection is given back or closed."""
    collected = bytearray()
    refused = response.status >= 300
    try:
        async for piece in response.content.iter_any():
            collected += piece
            if refused and len(collected) >= _DOCUMENT:
                response.close()
                break
            if len(collected) > MAX_PAGE_BYTES:
                raise aiohttp.ClientPayloadError("the page is larger than any of S3's")
        # S3 sends no document type. libexpat bounds what its entities come to, which is megabytes and seconds all the
        # same. UTF-16, which could hide one, has NULs.
        if b"<!DOCTYPE" in collected or b"\0" in collected:
            collected.clear()
            if not refused:
                raise aiohttp.ClientPayloadError("the page has a document type")
    except BaseException:
        response.close()
        raise
    return bytes(collected)
