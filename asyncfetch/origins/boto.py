"""S3 through aioboto3: the reference origin, which can do whatever botocore can."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC
from heapq import merge
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import InvalidURI, PreconditionFailed, TransferInterrupted
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins.base import ByteRange, Sink, deliver, introduce
from asyncfetch.origins.boto_clients import BotoClients
from asyncfetch.origins.boto_errors import answer_of, translated
from asyncfetch.origins.calls import OpenCalls
from asyncfetch.origins.checksums import told_checksum
from asyncfetch.origins.endpoints import is_directory_bucket
from asyncfetch.origins.headers import CustomerKey, check_range, clip_range, read_content_range, read_etag, write_etag
from asyncfetch.origins.identities import Identities
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from asyncfetch.settings import Settings

_UNTOLD = frozenset({301, 307, 400, 403, 404, 405})  # statuses of a HEAD that can mean one thing or another
_CHUNK = 256 << 10  # the most that is taken from a connection at a time, in bytes


class BotoOrigin:
    """The Origin protocol for `s3` locations, each bucket reached as `settings.access_for` says.

    Nothing is tried twice, with two exceptions: a bucket found in another region is asked there, and from
    then on; and aiohttp repeats a request once when its connection ended before a byte of the answer came.
    """

    def __init__(self, settings: Settings, identities: Identities | None = None) -> None:
        self._settings = settings
        self._identities, self._shared = identities or Identities(), identities is not None
        self._clients = BotoClients(settings.network, self._identities)
        self._calls = OpenCalls("the origin")

    @property
    def requests(self) -> int:
        """How many requests it has sent, with those that learned a region; what aiohttp repeats counts once."""
        return self._clients.requests

    async def stat(self, location: Location) -> ObjectStat:
        """Asks with a HEAD, and where that is refused with a GET of one byte, which alone can be told why."""
        request, uri = self._request(location), str(location)
        async with self._call(location) as client:
            with translated(uri, region=client.meta.region_name):
                try:
                    head = await client.head_object(**request)
                except client.exceptions.ClientError as refused:
                    told = answer_of(refused)
                    if told.status not in _UNTOLD or "x-amz-delete-marker" in told.headers:
                        raise
                    head = await _ask_again(client, request, refused)
        content_range = read_content_range(head.get("ContentRange"))
        size = content_range.total if content_range else head.get("ContentLength")
        if size is None:
            raise TransferInterrupted(uri, "the origin did not say how large the object is")
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

        Conditions and ranges hold also where the server pays them no heed.
        """
        request, uri = self._request(location), str(location)
        network = self._settings.network
        if range is not None:
            request["Range"] = str(check_range(range))
        elif network.checksums:
            request["ChecksumMode"] = "ENABLED"
        if if_match is not None:
            request["IfMatch"] = write_etag(if_match)
        if if_none_match is not None:
            request["IfNoneMatch"] = write_etag(if_none_match)
        async with self._call(location) as client:
            with translated(uri, region=client.meta.region_name):
                try:
                    answer = await client.get_object(**request)
                except client.exceptions.ClientError as refused:
                    if answer_of(refused).status == 304:
                        return NotModified(uri)
                    raise
            async with answer["Body"]:
                etag = read_etag(answer.get("ETag"))
                if if_none_match is not None and etag == if_none_match:
                    return NotModified(uri)
                if if_match is not None and etag is not None and etag != if_match:
                    raise PreconditionFailed(uri, "the object has changed", status=200)
                checksum: str | None = None
                if range is None and (network.checksums or network.md5):
                    # botocore would hold the body against it as well, if its very end were read.
                    headers = answer["ResponseMetadata"]["HTTPHeaders"]
                    md5 = network.md5 and not is_directory_bucket(location.container)
                    checksum = told_checksum(headers.get, etag, checksums=network.checksums, md5=md5)
                return await _pour(uri, answer, sink, range, checksum)

    async def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        """Yields what ListObjectsV2 gives, page by page, in the UTF-8 order of keys; see `Origin.list`.

        No connection is held while the caller has the word.
        """
        if prefix.version is not None:
            raise InvalidURI(str(prefix), "a prefix has no version")
        request = self._common(prefix) | {"Prefix": prefix.key}
        if not recursive:
            request["Delimiter"] = "/"
        if start_after:
            request["StartAfter"] = start_after
        while True:
            async with self._call(prefix) as client:
                with translated(str(prefix), region=client.meta.region_name, listing=True):
                    page = await client.list_objects_v2(**request)
            if "IsTruncated" not in page:  # any well-formed page of the web reads as a listing of nothing
                raise TransferInterrupted(str(prefix), "what came is no listing", remedy="Check the endpoint.")
            for stat in _listed(prefix.container, page):
                yield stat
            if not page["IsTruncated"]:
                return
            token = page.get("NextContinuationToken")
            if not token or token == request.get("ContinuationToken"):
                raise TransferInterrupted(
                    str(prefix), "the listing breaks off: there is more, but no way to ask for it"
                )
            request["ContinuationToken"] = token

    async def aclose(self) -> None:
        """Ends calls under way with `FetcherClosed`, then closes every connection. Closing twice does nothing."""
        await self._calls.end()
        await self._clients.aclose()
        if not self._shared:
            await self._identities.aclose()

    @asynccontextmanager
    async def _call(self, location: Location) -> AsyncIterator[Any]:
        """The client for a location, for the length of a call that `aclose` can end."""
        uri = str(location)
        async with self._calls.one(uri):
            yield await self._clients.get(self._settings.access_for(location.container), uri)

    def _common(self, location: Location) -> dict[str, Any]:
        common = {"Bucket": location.container}
        if self._settings.access_for(location.container).requester_pays:
            common["RequestPayer"] = "requester"
        return common

    def _request(self, location: Location) -> dict[str, Any]:
        if not location.key:
            raise InvalidURI(str(location), "it names a bucket, not an object")
        request = self._common(location) | {"Key": location.key}
        if location.version is not None:
            request["VersionId"] = location.version
        key = self._settings.access_for(location.container).customer_key
        if key is not None:
            request |= {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CustomerKey(key)}
        return request


async def _ask_again(client: Any, request: dict[str, Any], refused: Exception) -> Any:
    """Asks a GET what a HEAD, which has no body, could not tell: its answer, or its refusal."""
    try:
        answer = await client.get_object(**request, Range="bytes=0-0")
    except client.exceptions.ClientError as reason:
        # The object is there, and empty: then the HEAD was refused for a reason of its own.
        raise (refused if answer_of(reason).status == 416 else reason) from None
    answer["Body"].close()
    return answer


async def _pour(uri: str, answer: Any, sink: Sink, wanted: ByteRange | None, checksum: str | None) -> ObjectStat:
    """Puts a body into a sink, checked against what was announced and asked for. Returns the whole object's stat."""
    length: int | None = answer.get("ContentLength")
    size, first, last = length, 0, length
    if answer["ResponseMetadata"]["HTTPStatusCode"] == 206 or answer.get("ContentRange"):  # rclone sends it with a 200
        size = _check_partial(uri, answer, wanted or ByteRange(0))
    elif wanted is not None:  # the server ignored the range, as RFC 9110 lets it
        first, last = wanted if length is None else clip_range(wanted, length, uri)
    if size is not None:
        start = wanted.start if wanted is not None and first == 0 else 0
        sink = introduce(sink, _stat(uri, answer, size, checksum), start)
    at, left = 0, -1 if length is None or last is None else last - first
    while length is None or last is None or at < last:
        with translated(uri):
            chunk = await answer["Body"].read(_CHUNK)
        if not chunk:
            break
        piece = memoryview(chunk)[max(first - at, 0) : None if last is None else max(last - at, 0)]
        at += len(chunk)
        if piece:
            await deliver(piece, sink, left)
            left -= len(piece) if left > 0 else 0
    if size is None and wanted is not None:
        clip_range(wanted, at, uri)
    return _stat(uri, answer, at if size is None else size, checksum)


def _check_partial(uri: str, answer: Any, wanted: ByteRange) -> int:
    """Sees that a partial answer is the one that was asked for. Returns the size of the whole object."""
    told, length = read_content_range(answer.get("ContentRange")), answer.get("ContentLength")
    if told is not None and told.total is not None:
        stop = told.total if wanted.stop is None else min(wanted.stop, told.total)
        if (told.start, told.stop) == (wanted.start, stop) and length in (None, stop - wanted.start):
            return told.total
    raise TransferInterrupted(uri, f"the origin answered with another range ({answer.get('ContentRange')})")


def _stat(
    uri: str, answer: Any, size: int, checksum: str | None = None, storage_class: str | None = None
) -> ObjectStat:
    modified = answer.get("LastModified")
    return ObjectStat(
        uri,
        size,
        etag=read_etag(answer.get("ETag")),
        version=answer.get("VersionId"),
        last_modified=modified and modified.astimezone(UTC),
        checksum=checksum,
        storage_class=storage_class,
    )


def _listed(bucket: str, page: Any) -> Iterator[ObjectStat]:
    """A page's objects and common prefixes, merged into one order; S3 gives each in its own."""
    objects = [(item["Key"], _listed_object(bucket, item)) for item in page.get("Contents", ())]
    prefixes = [
        (item["Prefix"], ObjectStat(str(Location("s3", bucket, item["Prefix"])), 0))
        for item in page.get("CommonPrefixes", ())
    ]
    for _, stat in merge(objects, prefixes, key=lambda pair: pair[0].encode()):
        yield stat


def _listed_object(bucket: str, item: Any) -> ObjectStat:
    uri = str(Location("s3", bucket, item["Key"]))
    return _stat(uri, item, item["Size"], storage_class=item.get("StorageClass"))
