"""S3 over the native HTTP client: what reads, lists and asks for objects at a cost close to the wire's."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from asyncfetch import http
from asyncfetch.errors import InvalidURI, TransferInterrupted
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins.answers import Glance, Question, Reading, told_size
from asyncfetch.origins.buckets import Buckets
from asyncfetch.origins.checksums import CHECKSUM_MODE, told_checksum, told_composite
from asyncfetch.origins.headers import read_date, read_etag
from asyncfetch.origins.identities import Identities
from asyncfetch.origins.listing import MAX_PAGE_BYTES, MalformedPage, in_order, parse_page
from asyncfetch.origins.slices import Enough

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncfetch.http import ResponseHead
    from asyncfetch.origins.base import ByteRange, Sink
    from asyncfetch.origins.boto import BotoOrigin
    from asyncfetch.origins.buckets import Bucket, Query
    from asyncfetch.origins.checksums import Composite
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location

logger = logging.getLogger(__name__)

# Statuses of a HEAD, which has no document, that can mean one thing or another.
_UNTOLD = frozenset({301, 307, 400, 403, 404, 405})


class S3Origin:
    """The Origin protocol for `s3` locations, over `asyncfetch.http`.

    Buckets that it cannot reach or sign for (a proxy in the environment, directory buckets, multi-region access points)
    go to the reference origin that `make_reference` gives. `identities` say who signs; without, they are its own.
    """

    def __init__(
        self, settings: Settings, make_reference: Callable[[], BotoOrigin], identities: Identities | None = None
    ) -> None:
        network = settings.network
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
        self._identities, self._shared = identities or Identities(), identities is not None
        self._buckets = Buckets(settings, self._client, self._identities)

    @property
    def requests(self) -> int:
        """How many requests it has sent, with repeats, and with what found out where buckets are."""
        referred = 0 if self._reference is None else self._reference.requests
        return self._client.statistics().requests + referred

    async def stat(self, location: Location) -> ObjectStat:
        """Asks with a HEAD, and where that is refused with a GET of one byte, which alone can be told why."""
        bucket = await self._buckets.find(location)
        if bucket is None:
            return await self._refer().stat(location)
        uri = _named(location)
        response = await self._buckets.ask(bucket, Question(uri, "HEAD"), location.key, _version(location))
        head = response.head
        if head.status in _UNTOLD and head.get("x-amz-delete-marker") is None:
            probe = await self._buckets.ask(bucket, Glance(uri), location.key, _version(location))
            # An empty object has no first byte: then the HEAD was refused for a reason of its own.
            response = response if probe.head.status == 416 else probe
            head = response.head
        if head.status not in (200, 206):
            raise self._buckets.refusal(uri, bucket, response)
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
        bucket = self._buckets.known.get(location.container) or await self._buckets.find(location)
        if bucket is None:
            return await self._refer().read(location, sink, range=range, if_match=if_match, if_none_match=if_none_match)
        uri = _named(location)
        make_stat = self._stat_whole if range is None else _stat
        asks = bool(self._ask_whole) and range is None
        make_reading = _Cautious if asks and bucket.tells_parts else Reading
        reading = make_reading(uri, sink, range, if_match, if_none_match, _etag, make_stat)
        if asks:
            reading.headers = [*(reading.headers or ()), *self._ask_whole]
        response = await self._buckets.ask(bucket, reading, location.key, _version(location))
        if make_reading is _Cautious and (composite := _composite(response.head)) is not None:
            laid_out = await self._lay_out(bucket, location, composite)
            if laid_out is not None:
                make_stat = partial(_stat_composed, composite, laid_out)
            reading = Reading(uri, sink, range, if_match, if_none_match, _etag, make_stat)
            response = await self._buckets.ask(bucket, reading, location.key, _version(location))
        head = response.head
        if reading.unchanged or (head.status == 304 and if_none_match is not None):
            return NotModified(uri)
        if head.status not in (200, 206):
            raise self._buckets.refusal(uri, bucket, response)
        return reading.stat(response)

    async def _lay_out(self, bucket: Bucket, location: Location, composite: Composite) -> str | None:
        """A composite checksum as the body can be held against it, or None where the server does not say what of."""
        first = await self._size_of_part(bucket, location, composite, 1)
        last = await self._size_of_part(bucket, location, composite, composite.parts) if first is not None else None
        if first is None or last is None:
            return None
        laid_out = composite.laid_out(first, last)
        if laid_out is None:
            logger.info("%s is not held against its composite checksum: its parts are of several sizes", location)
        return laid_out

    async def _size_of_part(self, bucket: Bucket, location: Location, composite: Composite, part: int) -> int | None:
        uri, query = str(location), (*_version(location), ("partNumber", str(part)))
        response = await self._buckets.ask(bucket, Question(uri, "HEAD"), location.key, query)
        head = response.head
        if head.status == 429 or head.status >= 500:
            raise self._buckets.refusal(uri, bucket, response)
        if head.status not in (200, 206):  # it is gone by now, or HEAD is not allowed
            return None
        count = head.get("x-amz-mp-parts-count")
        if count is None:
            bucket.tells_parts = False
            logger.warning("Composite checksums of s3://%s are not checked: its server tells no parts", bucket.name)
        if count != str(composite.parts):
            return None
        return head.content_length

    async def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        """Yields what ListObjectsV2 gives, page by page, in the UTF-8 order of keys; see `Origin.list`.

        No connection is held while the caller has the word.
        """
        if prefix.version is not None:
            raise InvalidURI(str(prefix), "a prefix has no version")
        bucket = await self._buckets.find(prefix)
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
            response = await self._buckets.ask(bucket, Question(uri, max_body=MAX_PAGE_BYTES), "", tuple(query.items()))
            if response.head.status != 200:
                raise self._buckets.refusal(uri, bucket, response, listing=True)
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
        await self._buckets.aclose()
        await self._client.aclose()
        if not self._shared:
            await self._identities.aclose()
        if self._reference is not None:
            await self._reference.aclose()

    def _refer(self) -> BotoOrigin:
        if self._reference is None:
            self._reference = self._make_reference()
        return self._reference


class _Cautious(Reading):
    """A reading that is left at a head with a composite checksum: first it has to be known how the parts lie."""

    __slots__ = ()

    def take(self, head: ResponseHead) -> Sink | None:
        if _composite(head) is not None:
            raise Enough
        return super().take(head)


def _composite(head: ResponseHead) -> Composite | None:
    return told_composite(head.get, head.content_length, _etag(head)) if head.status == 200 else None


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
    version, etag = head.get("x-amz-version-id"), read_etag(head.get("etag"))
    if version == "null":
        version = None
    # By position: a keyword more than doubles what it takes to make a tuple, and each object has one.
    stat = ObjectStat(uri, size, etag, version, read_date(head.get("last-modified")))
    if checksums or md5:
        stat = stat._replace(checksum=told_checksum(head.get, etag, checksums=checksums, md5=md5))
    return stat


def _stat_composed(composite: Composite, laid_out: str, uri: str, head: ResponseHead, size: int) -> ObjectStat:
    """What a head says of an object of whose parts the sizes are known; if it is another by now, no checksum."""
    stat = _stat(uri, head, size)
    return stat._replace(checksum=laid_out) if (stat.etag, stat.size) == (composite.etag, composite.size) else stat
