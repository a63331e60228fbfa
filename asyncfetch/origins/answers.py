"""What the native origins make of HTTP answers alike: heads judged, bodies led to sinks, failures named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asyncfetch import http
from asyncfetch.errors import (
    CertificateUntrusted,
    EndpointUnreachable,
    FetcherClosed,
    NameNotResolved,
    OriginTimeout,
    PreconditionFailed,
    RequestRefused,
    TLSFailed,
    TransferInterrupted,
)
from asyncfetch.origins.base import introduce
from asyncfetch.origins.headers import check_range, clip_range, read_content_range, write_etag
from asyncfetch.origins.slices import Discard, Enough, Excerpt, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asyncfetch.errors import AsyncfetchError
    from asyncfetch.http import Client, Endpoint, Response, ResponseHead
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins.base import ByteRange, Sink
    from asyncfetch.origins.signing import Payload

Headers = list[tuple[str, str]]

FIRST_BYTE = ("range", "bytes=0-0")  # asks for a head that says how large the object is, and next to nothing else


class Order(Protocol):
    """Writes a request as it is to be sent to its endpoint, as often as it is sent."""

    def write(self, question: Question) -> bytes:
        """The request's bytes."""
        ...


class Question(http.Exchange):
    """A request about one object, and what becomes of its answer.

    The body of an answer that has the object, 200 or 206, goes where `take` says; of any other the beginning is kept.
    """

    __slots__ = ("endpoint", "excerpt", "head", "headers", "order", "payload", "uri")

    def __init__(self, uri: str, method: str = "GET", headers: Headers | None = None, *, max_body: int = 0) -> None:
        super().__init__(method, max_body=max_body)
        self.uri = uri
        self.headers = headers
        self.payload: Payload | None = None  # what is written
        self.endpoint: Endpoint | None = None
        self.order: Order | None = None
        self.head: ResponseHead | None = None
        self.excerpt: Excerpt | None = None  # of a refusal

    def build(self) -> bytes:
        assert self.order is not None
        return self.order.write(self)

    def on_head(self, head: ResponseHead) -> Sink | None:
        self.head = head
        if head.status in _WITH_OBJECT:
            return self.take(head)
        self.excerpt = Excerpt()
        return self.excerpt

    def take(self, head: ResponseHead) -> Sink | None:
        """The sink for the body of a 200 or 206, or None to have up to `max_body` bytes of it in `Response.body`."""
        return None


class Glance(Question):
    """A question whose answer's head says it all. It has `FIRST_BYTE`; where the whole object comes, it is left."""

    __slots__ = ()

    def __init__(self, uri: str, *, whole: bool = False) -> None:
        super().__init__(uri, headers=None if whole else [FIRST_BYTE], max_body=1)

    def take(self, head: ResponseHead) -> Sink | None:
        if head.status == 200:
            raise Enough
        return None


async def ask(client: Client, endpoint: Endpoint, question: Question, order: Order) -> Response:
    """Sends a request and returns its answer, with errors about its object.

    An answer without the object counts also where its body breaks off, for its head has said it. `take` may raise
    `Enough`.
    """
    question.endpoint, question.order = endpoint, order
    question.head = question.excerpt = None
    try:
        response = await client.request(endpoint, question)
    except Enough:
        assert question.head is not None
        data = b"" if question.excerpt is None else question.excerpt.data
        return http.Response(question.head, data, len(data))
    except http.HTTPError as error:
        excerpt, told = question.excerpt, _translated(error, question.uri)
        if question.head is not None and excerpt is not None and isinstance(told, TransferInterrupted | OriginTimeout):
            return http.Response(question.head, excerpt.data, len(excerpt.data))
        raise told from (None if isinstance(error, http.ClientClosed) else error)
    return response if question.excerpt is None else response._replace(body=question.excerpt.data)


_WITH_OBJECT = frozenset({200, 206})


class Reading(Question):
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
        super().__init__(uri)
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
        if range is not None or if_match is not None or if_none_match is not None:
            self.headers = self._conditions()

    def take(self, head: ResponseHead) -> Sink | None:
        """The sink for the body of a 200 or 206. Raises where it is not what was asked for."""
        if self._if_match is not None or self._if_none_match is not None:
            etag = self._etag_of(head)
            if self._if_match is not None and etag != self._if_match:
                what = "has changed" if etag is not None else "came without the ETag that it was asked for with"
                raise PreconditionFailed(self.uri, f"the object {what}", status=head.status)
            if self._if_none_match is not None and etag == self._if_none_match:
                self.unchanged = True
                return Discard()
        length = head.content_length
        if head.status == 206 or (self._range is not None and head.get("content-range")):  # rclone says 200 with one
            return self._take_part(head)
        if length is None and head.get("transfer-encoding") is None and not (self.endpoint and self.endpoint.tls):
            # A server that dies in mid-body ends its connection in the same way. Only TLS has a farewell, and without
            # that the client reports the connection as lost.
            raise TransferInterrupted(self.uri, "the origin did not say how long it is, so its end proves nothing")
        self._size = length
        first, last = 0, None
        if self._range is not None:
            first, last = self._range if length is None else clip_range(self._range, length, self.uri)
        sink = self._introduced(head, 0)
        # The server does not know ranges, as RFC 9110 (section 14.2) lets it: the part is cut out of the whole.
        return sink if self._range is None else Slice(sink, first, last)

    def stat(self, response: Response) -> ObjectStat:
        """What the answer, once it is there, said of the object. Raises where the body was not what was announced."""
        if self._stat is not None and self._due is None:
            return self._stat
        size = self._size_of(response)
        return self._stat or self._make_stat(self.uri, response.head, size)

    def _conditions(self) -> Headers:
        """The headers that ask for it. A weak ETag pins nothing (RFC 9110, section 13.1.1): it is only compared."""
        headers = []
        if self._range is not None:
            headers.append(("range", str(self._range)))
        if self._if_match is not None and not self._if_match.startswith("W/"):
            headers.append(("if-match", write_etag(self._if_match)))
        if self._if_none_match is not None:
            headers.append(("if-none-match", write_etag(self._if_none_match)))
        return headers

    def _introduced(self, head: ResponseHead, start: int) -> Sink:
        if self._size is None or not hasattr(self._sink, "begin"):
            return self._sink
        self._stat = self._make_stat(self.uri, head, self._size)
        return introduce(self._sink, self._stat, start)

    def _size_of(self, response: Response) -> int:
        if self._due is not None and response.received != self._due:
            raise TransferInterrupted(self.uri, f"{self._due} bytes were announced, {response.received} came")
        if self._size is not None:
            return self._size
        clip_range(self._range, response.received, self.uri)
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
        raise TransferInterrupted(self.uri, f"the origin answered with another range ({other})")


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


_UNREACHED: Mapping[type[http.HTTPError], type[EndpointUnreachable]] = {
    http.ConnectFailed: EndpointUnreachable,
    http.NameFailed: NameNotResolved,
    http.TLSFailed: TLSFailed,
    http.CertificateRefused: CertificateUntrusted,
}


def _translated(error: http.HTTPError, uri: str) -> AsyncfetchError:
    """The HTTP client's error as the package's, about `uri`."""
    if isinstance(error, http.ClientClosed):
        return FetcherClosed(f"{uri}: the origin was closed under the call")
    if isinstance(error, http.ConnectTimeout | http.ReadTimeout):
        return OriginTimeout(uri, str(error))
    if isinstance(error, http.ConnectFailed | http.TLSFailed):
        return _UNREACHED[type(error)](uri, str(error))
    return TransferInterrupted(uri, str(error))
