"""Plain objects of the web, over `https` and `http`: whatever a server gives to everybody under a URL."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch import http
from asyncfetch.errors import (
    AccessDenied,
    FetcherClosed,
    InvalidURI,
    ObjectNotFound,
    OriginError,
    OriginTimeout,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestRefused,
    ServerError,
    Throttled,
    UsageError,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins.answers import Glance, Question, Reading, ask, misfit, told_size
from asyncfetch.origins.headers import USER_AGENT, read_date, read_etag, read_retry_after
from asyncfetch.origins.proxies import configured_proxy
from asyncfetch.origins.urls import UnfitURL, find_page, follow

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from asyncfetch.http import Endpoint, Response, ResponseHead
    from asyncfetch.origins.base import ByteRange, Sink
    from asyncfetch.origins.urls import Page
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location

MAX_REDIRECTS = 5  # RFC 2068, section 10.3, allowed so many; who publishes objects needs one or two

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# How much older than its answer a date must be to name one version. RFC 9110, section 8.8.2.2, asks for a second where
# both are of one clock; RFC 7232, section 2.2.2, for the 60 that make differences of clocks unlikely.
_SETTLED = 60.0
_DATED = "lm-"
_FIXDATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII)  # section 5.6.7
_FIELD = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5
_ALWAYS = (("accept", "*/*"), ("accept-encoding", "identity"), ("user-agent", USER_AGENT))
_HOSTS = 4096  # hosts that are remembered as reached without a proxy


class _Plain(NamedTuple):
    """Writes a request for a page."""

    page: Page

    def write(self, question: Question) -> bytes:
        headers = [*_ALWAYS, *(question.headers or ())]
        lines = [f"{question.method} {self.page.target} HTTP/1.1", f"host: {self.page.host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


class _PlainReading(Reading):
    """A reading that takes no other coding than the plain bytes it asked for."""

    __slots__ = ()

    def take(self, head: ResponseHead) -> Sink | None:
        _refuse_coded(self.uri, head)
        return super().take(head)


class HTTPOrigin:
    """The Origin protocol for `https` and `http` locations, over `asyncfetch.http`.

    The version of an object is its ETag. Where it has none, its Last-Modified stands for one, as `lm-<date>`, if that
    lay a minute or more before the answer's own Date: an object that has changed once more within the second of its
    date has settled by then (RFC 9110, section 8.8.2.2). Else there is no ETag, and whoever caches the object fetches
    it again.

    Up to 5 redirects are followed, never from https to http. Nothing that proves an identity is ever sent: a URL with
    a user name or password is refused. Bytes are taken as the server keeps them (`Accept-Encoding: identity`), and an
    answer in another coding is refused. A body without a length counts if it is chunked, or ends with the farewell of
    TLS; over plain HTTP its end cannot be told from a broken connection, and it is refused.

    It connects directly. Where the environment has a proxy for a URL (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`) and
    `NO_PROXY` does not except the host, reading raises `UsageError`. Certificates are trusted by the system's store,
    and by those in `AWS_CA_BUNDLE` as well.
    """

    def __init__(self, settings: Settings) -> None:
        network = settings.network
        self._client = http.Client(
            connect_timeout=network.connect_timeout,
            first_byte_timeout=network.first_byte_timeout,
            read_timeout=network.read_timeout,
            stall_bytes=network.stall_bytes,
            stall_window=network.stall_window,
            max_connections=network.connections,
            tls=_trust,
        )
        self._direct: set[Endpoint] = set()  # those that no proxy stands before
        self._closed = False

    @property
    def requests(self) -> int:
        """How many requests it has sent, redirected ones and repeats included."""
        return self._client.statistics().requests

    async def stat(self, location: Location) -> ObjectStat:
        """Asks with a HEAD; where that is refused, or tells no size, with a GET that takes one byte at most.

        Raises `RequestRefused` where the server does not say how large the object is.
        """
        uri = str(location)
        response = await self._ask(location, Question(uri, "HEAD"))
        head = response.head
        if head.status in (403, 405, 501) or (head.status == 200 and head.content_length is None):
            head = (await self._ask(location, Glance(uri))).head
            if head.status == 416:  # an empty object has no first byte
                head = (await self._ask(location, Glance(uri, whole=True))).head
        if head.status not in (200, 206):
            raise _refusal(uri, head)
        _refuse_coded(uri, head)
        size = told_size(head)
        if size is None:
            raise RequestRefused(uri, "the origin does not say how large it is", remedy="Reading it will tell.")
        return _stat(uri, head, size)

    async def read(
        self,
        location: Location,
        sink: Sink,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectStat | NotModified:
        """Puts an object, or a range of it, into a sink; see `Origin.read`.

        ETags may be those that stand for a date. Conditions and ranges hold also where the server pays them no heed.
        """
        uri = str(location)
        reading = _PlainReading(uri, sink, range, if_match, if_none_match, _etag, _stat)
        if reading.headers:
            reading.headers = [_dated(header) for header in reading.headers]
        response = await self._ask(location, reading)
        head = response.head
        if reading.unchanged or (head.status == 304 and if_none_match is not None):
            return NotModified(uri)
        if head.status not in (200, 206):
            raise _refusal(uri, head)
        return reading.stat(response)

    def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        """Raises `UsageError`: the web has no listing."""
        raise UsageError(f"{prefix}: the web has no listing", remedy="Name the objects one by one.")

    async def aclose(self) -> None:
        """Closes every connection; calls under way raise `FetcherClosed`. Closing twice does nothing."""
        self._closed = True
        await self._client.aclose()

    async def _ask(self, location: Location, question: Question) -> Response:
        """Sends a request, and again where redirects lead; their answers never reach the sink."""
        if self._closed:
            raise FetcherClosed("The origin is closed")
        uri, page = question.uri, _page(location)
        for _ in range(MAX_REDIRECTS + 1):
            await self._check_direct(uri, page)
            response = await ask(self._client, page.endpoint, question, _Plain(page))
            if response.head.status not in _REDIRECTS:
                return response
            page = _redirected(uri, page, response.head)
        raise RequestRefused(uri, f"it was redirected more than {MAX_REDIRECTS} times", status=response.head.status)

    async def _check_direct(self, uri: str, page: Page) -> None:
        if page.endpoint in self._direct:
            return
        proxy = await asyncio.to_thread(configured_proxy, page.endpoint)
        if proxy is not None:
            raise UsageError(
                f"{uri}: {proxy} is set in the environment, and objects of the web are read without a proxy only",
                remedy=f"Where {page.endpoint.host} can be reached directly, put it into NO_PROXY.",
            )
        if len(self._direct) == _HOSTS:
            self._direct.clear()
        self._direct.add(page.endpoint)


def _page(location: Location) -> Page:
    if location.version is not None:
        raise InvalidURI(str(location), "an object of the web has no versions")
    try:
        return find_page(location.scheme, location.container, location.key)
    except UnfitURL as error:
        # Whatever stands before the host is nobody else's to read.
        shown = location._replace(container=location.container.rpartition("@")[2])
        raise InvalidURI(ascii(str(shown))[1:-1], str(error)) from None


def _redirected(uri: str, page: Page, head: ResponseHead) -> Page:
    location = head.get("location")
    try:
        if location is None:
            raise UnfitURL("it does not say where to")
        return follow(page, location)
    except UnfitURL as error:
        # The target itself is not told: it may be signed for whoever is to follow it.
        raise RequestRefused(uri, f"it was redirected, but {error}", status=head.status) from None


def _refuse_coded(uri: str, head: ResponseHead) -> None:
    coding = head.get("content-encoding")
    if coding and coding.lower() != "identity":
        raise RequestRefused(uri, f"it comes in the coding {coding!a}, its plain bytes were asked for")


def _dated(header: tuple[str, str]) -> tuple[str, str]:
    """A header of a condition, put with a date where the ETag stands for one."""
    name, value = header
    if not _FIELD.fullmatch(value):
        raise UsageError(f"{value!a} cannot be an ETag")
    tag = value[1:-1]
    if name in _BY_DATE and tag.startswith(_DATED) and _FIXDATE.fullmatch(tag, len(_DATED)):
        return _BY_DATE[name], tag[len(_DATED) :]
    return header


_BY_DATE = {"if-match": "if-unmodified-since", "if-none-match": "if-modified-since"}


def _etag(head: ResponseHead) -> str | None:
    """The version that an answer is of. No ETag of a server's own has a blank, so none looks like a date's."""
    etag = read_etag(head.get("etag"))
    if etag is not None:
        return etag
    text = head.get("last-modified")
    modified, now = read_date(text), read_date(head.get("date"))
    if text is None or modified is None or now is None or not _FIXDATE.fullmatch(text):
        return None
    return f"{_DATED}{text}" if (now - modified).total_seconds() >= _SETTLED else None


def _stat(uri: str, head: ResponseHead, size: int) -> ObjectStat:
    return ObjectStat(uri, size, etag=_etag(head), last_modified=read_date(head.get("last-modified")))


_BY_STATUS: dict[int, tuple[type[OriginError], str, str]] = {
    401: (AccessDenied, "it asks for a proof of identity", "Nothing of the kind is ever sent by this origin."),
    403: (AccessDenied, "access is denied", "Only what is open to everybody can be read, or a link that is signed."),
    404: (ObjectNotFound, "there is no such object", ""),
    408: (OriginTimeout, "the request did not come in time for the origin", ""),
    410: (ObjectNotFound, "the object is gone", ""),
    412: (PreconditionFailed, "the object has changed", ""),
    416: (RangeNotSatisfiable, "the range begins behind the end of the object", ""),
    429: (Throttled, "the origin asks for fewer requests", ""),
    501: (RequestRefused, "the origin cannot do this", ""),
    503: (Throttled, "the origin asks for fewer requests", ""),
}


def _refusal(uri: str, head: ResponseHead) -> OriginError:
    """The error that an answer without the object means. Its document is a page for people, and is not quoted."""
    status = head.status
    if status < 300 or status == 304:
        return misfit(uri, head)
    other = ServerError if status >= 500 else RequestRefused
    detail = "the origin failed" if status >= 500 else "the origin refused the request"
    kind, detail, remedy = _BY_STATUS.get(status, (other, detail, ""))
    request_id = head.get("x-amz-request-id") or head.get("x-request-id")
    return kind(
        uri,
        f"{detail} (HTTP {status})",
        remedy=remedy,
        status=status,
        request_id=request_id,
        retry_after=read_retry_after(head.get("retry-after"), head.get("date")),
    )


def _trust() -> ssl.SSLContext:
    """AWS_CA_BUNDLE is for the endpoints of S3; it may add to what the web is trusted by, but not replace it."""
    context = http.client_context()
    if os.environ.get("AWS_CA_BUNDLE"):
        context.load_default_certs()
    return context
