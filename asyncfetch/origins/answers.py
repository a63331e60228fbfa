"""What the native origins make of HTTP answers alike: heads judged, bodies led to sinks, failures named, dates read."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from asyncfetch import http
from asyncfetch.errors import (
    EndpointUnreachable,
    FetcherClosed,
    OriginTimeout,
    PreconditionFailed,
    RequestRefused,
    TransferInterrupted,
)
from asyncfetch.origins.base import introduce
from asyncfetch.origins.headers import check_range, clip_range, read_content_range, write_etag
from asyncfetch.origins.slices import Discard, Excerpt, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncfetch.http import Client, Endpoint, Response, ResponseHead
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins.base import ByteRange, Sink

Headers = list[tuple[str, str]]

FIRST_BYTE = ("range", "bytes=0-0")  # asks for a head that says how large the object is, and next to nothing else


class Enough(Exception):
    """Raised by what takes an answer's head when that is all it wants: the body is not waited for."""


async def ask(
    client: Client,
    endpoint: Endpoint,
    method: str,
    build: Callable[[], bytes],
    take: Callable[[ResponseHead, Endpoint], Sink | None],
    uri: str,
    *,
    max_body: int = 0,
) -> Response:
    """Sends a request and returns its answer, with errors about `uri`.

    `take` gets the head of an answer that has the object, 200 or 206, and gives the sink for its body, or None to have
    up to `max_body` bytes in `Response.body`; it may raise `Enough`. Of any other answer the body's beginning is in
    `Response.body`. Such an answer counts also where its body breaks off, for its head has said it.
    """
    seen: ResponseHead | None = None
    excerpt: Excerpt | None = None  # of a refusal

    def on_head(head: ResponseHead) -> Sink | None:
        nonlocal seen, excerpt
        seen = head
        if head.status in _WITH_OBJECT:
            return take(head, endpoint)
        excerpt = Excerpt()
        return excerpt

    try:
        with translated(uri):
            response = await client.request(endpoint, method, build, on_head, max_body=max_body)
    except Enough:
        assert seen is not None
        return http.Response(seen, b"", 0)
    except (TransferInterrupted, OriginTimeout):
        if seen is None or excerpt is None:
            raise
        return http.Response(seen, excerpt.data, len(excerpt.data))
    return response if excerpt is None else response._replace(body=excerpt.data)


_WITH_OBJECT = frozenset({200, 206})


class Reading:
    """One reading of an object: what its request says, where the answer's body goes, and whether all of it came.

    `etag_of` gives what a head says of the object's version, in the form of `if_match` and `if_none_match`. Both hold,
    and the range too, where the server pays them no heed: then the answer is seen not to be for them. `make_stat` makes
    the origin's stat of a head and the size of the whole object.
    """

    __slots__ = (
        "_due",
        "_etag_of",
        "_if_match",
        "_if_none_match",
        "_make_stat",
        "_range",
        "_sink",
        "_size",
        "_stat",
        "_uri",
        "unchanged",
    )

    def __init__(
        self,
        uri: str,
        sink: Sink,
        range: ByteRange | None,
        if_match: str | None,
        if_none_match: str | None,
        etag_of: Callable[[ResponseHead], str | None],
        make_stat: Callable[[str, ResponseHead, int], ObjectStat],
    ) -> None:
        self._uri = uri
        self._sink = sink
        self._range = range and check_range(range)
        self._if_match = if_match
        self._if_none_match = if_none_match
        self._etag_of = etag_of
        self._make_stat = make_stat
        self._stat: ObjectStat | None = None
        self._size: int | None = None  # of the whole object
        self._due: int | None = None  # bytes of the body, where only Content-Range says it
        self.unchanged = False  # it came all the same, from a server that does not know If-None-Match

    def headers(self) -> Headers:
        """The headers that ask for it. A weak ETag pins nothing (RFC 9110, section 13.1.1): it is only compared."""
        headers = []
        if self._range is not None:
            headers.append(("range", str(self._range)))
        if self._if_match is not None and not self._if_match.startswith("W/"):
            headers.append(("if-match", write_etag(self._if_match)))
        if self._if_none_match is not None:
            headers.append(("if-none-match", write_etag(self._if_none_match)))
        return headers

    def take(self, head: ResponseHead, endpoint: Endpoint) -> Sink | None:
        """The sink for the body of a 200 or 206. Raises where it is not what was asked for."""
        if self._if_match is not None or self._if_none_match is not None:
            etag = self._etag_of(head)
            if self._if_match is not None and etag != self._if_match:
                what = "has changed" if etag is not None else "came without the ETag that it was asked for with"
                raise PreconditionFailed(self._uri, f"the object {what}", status=head.status)
            if self._if_none_match is not None and etag == self._if_none_match:
                self.unchanged = True
                return Discard()
        length = head.content_length
        if head.status == 206 or (self._range is not None and head.get("content-range")):  # rclone says 200 with one
            return self._take_part(head)
        if length is None and head.get("transfer-encoding") is None and not endpoint.tls:
            # A server that dies in mid-body ends its connection in the same way. Only TLS has a farewell, and without
            # that the client reports the connection as lost.
            raise TransferInterrupted(self._uri, "the origin did not say how long it is, so its end proves nothing")
        self._size = length
        first, last = 0, None
        if self._range is not None:
            first, last = self._range if length is None else clip_range(self._range, length, self._uri)
        sink = self._introduced(head, 0)
        # The server does not know ranges, as RFC 9110 (section 14.2) lets it: the part is cut out of the whole.
        return sink if self._range is None else Slice(sink, first, last)

    def stat(self, response: Response) -> ObjectStat:
        """What the answer, once it is there, said of the object. Raises where the body was not what was announced."""
        size = self._size_of(response)
        return self._stat or self._make_stat(self._uri, response.head, size)

    def _introduced(self, head: ResponseHead, start: int) -> Sink:
        if self._size is None or not hasattr(self._sink, "begin"):
            return self._sink
        self._stat = self._make_stat(self._uri, head, self._size)
        return introduce(self._sink, self._stat, start)

    def _size_of(self, response: Response) -> int:
        if self._due is not None and response.received != self._due:
            raise TransferInterrupted(self._uri, f"{self._due} bytes were announced, {response.received} came")
        if self._size is not None:
            return self._size
        clip_range(self._range, response.received, self._uri)
        return response.received

    def _take_part(self, head: ResponseHead) -> Sink:
        """Sees that a partial answer is the one that was asked for."""
        told, length = read_content_range(head.get("content-range")), head.content_length
        if self._range is not None and told is not None and told.total is not None:
            stop = told.total if self._range.stop is None else min(self._range.stop, told.total)
            if (told.start, told.stop) == (self._range.start, stop) and length in (None, stop - told.start):
                self._size = told.total
                sink = self._introduced(head, told.start)
                if length is not None:
                    return sink
                self._due = stop - told.start
                return Slice(sink, 0, self._due)
        other = head.get("content-range")
        raise TransferInterrupted(self._uri, f"the origin answered with another range ({other})")


def collect(head: ResponseHead, endpoint: Endpoint) -> None:
    """Has the body collected."""


def look_at_head(head: ResponseHead, endpoint: Endpoint) -> None:
    """Takes the answer to a question for `FIRST_BYTE`: that byte, but not the whole object where that comes."""
    if head.status == 200:
        raise Enough


def told_size(head: ResponseHead) -> int | None:
    """What the head of a 200 or 206 says of the whole object's size."""
    if head.status != 206:
        return head.content_length
    told = read_content_range(head.get("content-range"))
    return told and told.total


def misfit(uri: str, head: ResponseHead) -> RequestRefused:
    """The error of an answer that fits no reading of an object: a 204, or a 304 to a request without a condition."""
    detail = f"the origin answered with status {head.status} in the place of the object"
    return RequestRefused(uri, detail, remedy="Check the endpoint.", status=head.status)


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raises the HTTP client's errors as the package's, about `uri`."""
    try:
        yield
    except http.ClientClosed:
        raise FetcherClosed(f"{uri}: the origin was closed under the call") from None
    except (http.ConnectTimeout, http.ReadTimeout) as error:
        raise OriginTimeout(uri, str(error)) from error
    except (http.ConnectFailed, http.TLSFailed) as error:
        raise EndpointUnreachable(uri, str(error), remedy="Check the network and the endpoint.") from error
    except http.HTTPError as error:
        raise TransferInterrupted(uri, str(error)) from error


@lru_cache(maxsize=1024)
def read_date(text: str | None) -> datetime | None:
    """Reads an HTTP date (RFC 9110, section 5.6.7), None where it is none.

    It takes as long as signing; objects that were stored together share their dates.
    """
    try:
        moment = parsedate_to_datetime(text or "")
        if moment.tzinfo is None:  # "-0000" in the place of GMT
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
