"""S3 over the native HTTP client: what reads, lists and asks for objects at a cost close to the wire's."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch import http
from asyncfetch.errors import (
    AsyncfetchError,
    ExpiredCredentials,
    FetcherClosed,
    InvalidURI,
    OriginError,
    TransferInterrupted,
    UsageError,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins.answers import Glance, Question, Reading, ask, misfit, told_size
from asyncfetch.origins.checksums import CHECKSUM_MODE, load_checksums, told_checksum
from asyncfetch.origins.credentials import CredentialSource
from asyncfetch.origins.endpoints import NotNative, Reached, environment_region, exposed_host, resolve
from asyncfetch.origins.headers import USER_AGENT, customer_key_headers, read_date, read_etag
from asyncfetch.origins.listing import MAX_PAGE_BYTES, MalformedPage, in_order, parse_error, parse_page
from asyncfetch.origins.refusals import Answer, refusal
from asyncfetch.origins.signing import Signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncfetch.http import Endpoint, Response, ResponseHead
    from asyncfetch.origins.base import ByteRange, Sink
    from asyncfetch.origins.boto import BotoOrigin
    from asyncfetch.origins.credentials import Credentials
    from asyncfetch.settings import Access, Lender, Settings
    from asyncfetch.uris import Location

logger = logging.getLogger(__name__)

Query = tuple[tuple[str, str], ...]

# Statuses of a HEAD, which has no document, that can mean one thing or another.
_UNTOLD = frozenset({301, 307, 400, 403, 404, 405})
_SKEW = 4.0 * 60  # S3 refuses from 15 minutes on, so a difference below this is none


class _Bucket:
    """What is known of one bucket: where it is, who signs, and what it said of region and clock."""

    __slots__ = ("access", "endpoint", "key_headers", "moving", "name", "region_known", "signer", "source")

    def __init__(self, name: str, access: Access, source: CredentialSource | None, reached: Reached) -> None:
        self.name = name
        self.access = access
        self.source = source  # None: nothing is signed
        self.key_headers = customer_key_headers(access.customer_key) if access.customer_key is not None else None
        self.region_known = False  # the server itself has said so
        self.moving = asyncio.Lock()  # many may hear at once that it is elsewhere
        self.go_to(reached)

    def go_to(self, reached: Reached) -> None:
        """Takes up, or changes, the place it is reached at."""
        self.endpoint: Endpoint = reached.endpoint
        self.signer = Signer(reached.target, requester_pays=self.access.requester_pays, user_agent=USER_AGENT)


class _Signed(NamedTuple):
    """Writes a request for an object, or with an empty key for the bucket, and signs it when it is sent."""

    signer: Signer
    offset: float  # seconds that its time is ahead of this clock
    credentials: Credentials | None
    key: str
    query: Query

    def write(self, question: Question) -> bytes:
        return self.signer.head(
            question.method,
            self.key,
            credentials=self.credentials,
            now=time.time() + self.offset,
            query=self.query,
            headers=question.headers or (),
        )


class S3Origin:
    """The Origin protocol for `s3` locations, over `asyncfetch.http`.

    Each bucket is reached as `settings.access_for` says; the region that S3 names in refusing the wrong one is
    remembered, as is the difference of the clocks. Buckets that it cannot reach or sign for (a proxy in the
    environment, directory buckets, multi-region access points) go to the reference origin that `make_reference`
    gives.
    """

    def __init__(self, settings: Settings, make_reference: Callable[[], BotoOrigin]) -> None:
        network = settings.network
        self._settings = settings
        self._client = http.Client(
            connect_timeout=network.connect_timeout,
            first_byte_timeout=network.first_byte_timeout,
            read_timeout=network.read_timeout,
            stall_bytes=network.stall_bytes,
            stall_window=network.stall_window,
            max_connections=network.connections,
        )
        # Of a whole object, what its answer tells and is asked to tell.
        checked = network.checksums or network.md5
        self._stat_whole = partial(_stat, checksums=network.checksums, md5=network.md5) if checked else _stat
        self._ask_whole = [CHECKSUM_MODE] if network.checksums else []
        self._make_reference = make_reference
        self._reference: BotoOrigin | None = None
        self._buckets: dict[str, _Bucket | None] = {}  # None: the reference serves it
        self._meetings: dict[str, asyncio.Task[_Bucket | None]] = {}
        self._sources: dict[tuple[str | None, Lender | None], CredentialSource] = {}
        self._clock_offset = 0.0
        self._told = False
        self._exposed: set[str] = set()  # hosts that were warned of
        self._closed = False

    async def stat(self, location: Location) -> ObjectStat:
        """Asks with a HEAD, and where that is refused with a GET of one byte, which alone can be told why."""
        bucket = await self._bucket(location)
        if bucket is None:
            return await self._refer().stat(location)
        uri = _named(location)
        response = await self._ask(bucket, Question(uri, "HEAD"), location.key, _version(location))
        head = response.head
        if head.status in _UNTOLD and head.get("x-amz-delete-marker") is None:
            probe = await self._ask(bucket, Glance(uri), location.key, _version(location))
            # An empty object has no first byte: then the HEAD was refused for a reason of its own.
            response = response if probe.head.status == 416 else probe
            head = response.head
        if head.status not in (200, 206):
            raise self._refusal(uri, bucket, response)
        return _stat(uri, head, told_size(head))

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

        Conditions and ranges hold also where the server pays them no heed.
        """
        bucket = self._buckets.get(location.container) or await self._bucket(location)
        if bucket is None:
            return await self._refer().read(location, sink, range=range, if_match=if_match, if_none_match=if_none_match)
        uri = _named(location)
        make_stat = self._stat_whole if range is None else _stat
        reading = Reading(uri, sink, range, if_match, if_none_match, _etag, make_stat)
        if self._ask_whole and range is None:
            reading.headers = [*(reading.headers or ()), *self._ask_whole]
        response = await self._ask(bucket, reading, location.key, _version(location))
        head = response.head
        if reading.unchanged or (head.status == 304 and if_none_match is not None):
            return NotModified(uri)
        if head.status not in (200, 206):
            raise self._refusal(uri, bucket, response)
        return reading.stat(response)

    async def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        """Yields what ListObjectsV2 gives, page by page, in the UTF-8 order of keys; see `Origin.list`.

        No connection is held while the caller has the word.
        """
        if prefix.version is not None:
            raise InvalidURI(str(prefix), "a prefix has no version")
        bucket = await self._bucket(prefix)
        if bucket is None:
            async for stat in self._refer().list(prefix, recursive=recursive, start_after=start_after):
                yield stat
            return
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix.key}
        if not recursive:
            query["delimiter"] = "/"
        if start_after:
            query["start-after"] = start_after
        uri = str(prefix)
        milestone, pages = "", 0
        while True:
            response = await self._ask(bucket, Question(uri, max_body=MAX_PAGE_BYTES), "", tuple(query.items()))
            if response.head.status != 200:
                raise self._refusal(uri, bucket, response, listing=True)
            try:
                page = parse_page(response.body)
            except MalformedPage as error:
                raise TransferInterrupted(uri, f"a page of the listing cannot be read: {error}") from error
            for stat in in_order(prefix.container, page):
                yield stat
            if page.next_token is None:
                return
            if page.next_token == milestone:
                raise TransferInterrupted(uri, "the listing turns in a circle: a page is named as the next once more")
            query["continuation-token"] = page.next_token
            # Brent's way to find a circle of any length while only one token of the way is remembered.
            pages += 1
            if pages.bit_count() == 1:
                milestone = page.next_token

    async def aclose(self) -> None:
        """Closes every connection; calls under way raise `FetcherClosed`. Closing twice does nothing."""
        self._closed = True
        meetings = list(self._meetings.values())
        for meeting in meetings:
            meeting.cancel()
        if meetings:
            await asyncio.wait(meetings)
        await self._client.aclose()
        for source in self._sources.values():
            await source.aclose()
        if self._reference is not None:
            await self._reference.aclose()

    async def _ask(self, bucket: _Bucket, question: Question, key: str, query: Query = ()) -> Response:
        """Sends a request, and once more where the answer says how it would have been right.

        That is another region, a clock that is off, a token that expired. The body of such an answer never reached
        the sink.
        """
        if bucket.key_headers is not None and key:
            question.headers = [*(question.headers or ()), *bucket.key_headers]
        corrected: set[str] | None = None
        while True:
            credentials: Credentials | None = None
            if bucket.source is not None:
                credentials = bucket.source.current() or await bucket.source.get(question.uri)
            order = _Signed(bucket.signer, self._clock_offset, credentials, key, query)
            response = await ask(self._client, bucket.endpoint, question, order)
            if response.head.status in _CORRECTABLE:
                corrected = corrected or set()
                mistake = await self._correct(bucket, response, order, question.uri)
                if mistake is not None and mistake not in corrected:
                    corrected.add(mistake)
                    continue
            return response

    async def _correct(self, bucket: _Bucket, response: Response, signed: _Signed, uri: str) -> str | None:
        """Learns from a refusal, or finds that another call has. Names the mistake that is mended now, or None."""
        head = response.head
        told = parse_error(response.body)
        region = told.region or head.get("x-amz-bucket-region")
        if region and region != signed.signer.target.region and _is_elsewhere(head.status, told.code):
            async with bucket.moving:
                if not bucket.region_known:
                    await self._move(bucket, region)
            return "region" if bucket.signer is not signed.signer else None
        if told.code == "RequestTimeTooSkewed":
            if signed.offset == self._clock_offset:
                date = read_date(head.get("date"))
                offset = signed.offset if date is None else date.timestamp() - time.time()
                if abs(offset - signed.offset) < _SKEW:
                    return None
                self._clock_offset = offset
                logger.warning("This clock is off by %+.0f s from the origin's, which requests are signed by", offset)
            return "clock"
        if told.code == "ExpiredToken" and signed.credentials is not None and bucket.source is not None:
            bucket.source.invalidate(signed.credentials)
            try:
                await bucket.source.get(uri)
            except ExpiredCredentials:
                return None  # the refusal itself says it best
            return "token"
        return None

    async def _move(self, bucket: _Bucket, region: str) -> None:
        try:
            reached = await self._resolve(bucket.name, bucket.access, region)
        except UsageError:  # what the server calls a region is none
            return
        if isinstance(reached, Reached):
            bucket.go_to(reached)
            bucket.region_known = True

    async def _bucket(self, location: Location) -> _Bucket | None:
        """What is known of a location's bucket, found out once for all who ask. None: the reference serves it."""
        if self._closed:
            raise FetcherClosed("The origin is closed")
        name = location.container
        if name in self._buckets:
            return self._buckets[name]
        meeting = self._meetings.get(name)
        if meeting is None:
            meeting = self._meetings[name] = asyncio.create_task(self._meet(name, str(location)))
            meeting.add_done_callback(lambda met: self._end_meeting(name, met))
        await asyncio.wait({meeting})  # whoever leaves early hurts no other
        if meeting.cancelled():
            raise FetcherClosed(f"{location}: the origin was closed under the call")
        error = meeting.exception()
        if error is None:
            return meeting.result()
        # Each who waited raises an error of its own, about its own object.
        if isinstance(error, OriginError):
            raise type(error)(str(location), error.detail, remedy=error.remedy, code=error.code)
        raise copy.copy(error)

    def _end_meeting(self, name: str, met: asyncio.Task[_Bucket | None]) -> None:
        del self._meetings[name]
        if not met.cancelled():
            met.exception()  # seen, also where everybody who asked has left

    async def _meet(self, name: str, uri: str) -> _Bucket | None:
        access = self._settings.access_for(name)
        region = access.region or environment_region()
        source: CredentialSource | None = None
        if access.origin != "boto":
            who = access.profile, access.credentials
            source = self._sources.get(who)
            if source is None:
                source = self._sources[who] = CredentialSource(access.profile, lender=access.credentials)
            if region is None and access.endpoint is not None:
                region = await source.region(uri)
        reached = await self._resolve(name, access, region)
        if not access.anonymous and (host := exposed_host(access.endpoint)):
            self._warn_of(host)
        if isinstance(reached, NotNative):
            if reached.worth_a_word and not self._told:
                self._told = True
                logger.warning("s3://%s is read by way of aioboto3, which costs more CPU: %s", name, reached.reason)
            self._buckets[name] = None
            return None
        bucket = self._buckets[name] = _Bucket(name, access, None if access.anonymous else source, reached)
        return bucket

    def _warn_of(self, host: str) -> None:
        if host not in self._exposed:
            self._exposed.add(host)
            logger.warning(
                "Requests to http://%s are signed and not encrypted: whoever is on the way can read what they bring, "
                "and repeat them; use https://",
                host,
            )

    async def _resolve(self, name: str, access: Access, region: str | None) -> Reached | NotNative:
        if self._ask_whole:
            await asyncio.to_thread(load_checksums)
        return await asyncio.to_thread(resolve, name, access, region)

    def _refer(self) -> BotoOrigin:
        if self._reference is None:
            self._reference = self._make_reference()
        return self._reference

    def _refusal(self, uri: str, bucket: _Bucket, response: Response, *, listing: bool = False) -> AsyncfetchError:
        if response.head.status < 300 or response.head.status == 304:
            return misfit(uri, response.head)
        told = parse_error(response.body)
        answer = Answer(
            response.head.status,
            dict(response.head.items()),
            told.code,
            told.message,
            told.region,
            told.request_id,
            told.storage_class,
            told.server_time,
        )
        return refusal(uri, answer, asked_region=bucket.signer.target.region, listing=listing)


# What may be told of a wrong region, clock or token. Kept apart from what is an everyday answer: 304, 404, 412, 416,
# 503.
_CORRECTABLE = frozenset({301, 307, 400, 401, 403})


def _is_elsewhere(status: int, code: str | None) -> bool:
    """Whether a refusal that names a region means that the bucket is there. A HEAD is refused without a code."""
    return status in (301, 307) or code in (None, "AuthorizationHeaderMalformed", "PermanentRedirect")


def _named(location: Location) -> str:
    if not location.key:
        raise InvalidURI(str(location), "it names a bucket, not an object")
    return str(location)


def _version(location: Location) -> Query:
    return () if location.version is None else (("versionId", location.version),)


def _etag(head: ResponseHead) -> str | None:
    return read_etag(head.get("etag"))


def _stat(uri: str, head: ResponseHead, size: int | None, *, checksums: bool = False, md5: bool = False) -> ObjectStat:
    if size is None:
        raise TransferInterrupted(uri, "the origin did not say how large the object is")
    version, etag = head.get("x-amz-version-id"), _etag(head)
    return ObjectStat(
        uri,
        size,
        etag=etag,
        version=None if version == "null" else version,
        last_modified=read_date(head.get("last-modified")),
        checksum=told_checksum(head.get, etag, checksums=checksums, md5=md5) if checksums or md5 else None,
    )
