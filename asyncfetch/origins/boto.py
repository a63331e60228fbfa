"""S3 through aioboto3: the reference origin, which can do whatever botocore can."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC
from heapq import merge
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import FetcherClosed, InvalidURI, PreconditionFailed, TransferInterrupted
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins.base import ByteRange, Sink, deliver, introduce
from asyncfetch.origins.boto_errors import answer_of, translated
from asyncfetch.origins.checksums import told_checksum
from asyncfetch.origins.endpoints import check_private, endpoint_of, rule_options
from asyncfetch.origins.headers import check_range, clip_range, read_content_range, read_etag, write_etag
from asyncfetch.origins.lent import LenderProvider
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from asyncfetch.settings import Access, Settings

_UNTOLD = frozenset({301, 307, 400, 403, 404, 405})  # statuses of a HEAD that can mean one thing or another
_CHUNK = 256 << 10  # the most that is taken from a connection at a time, in bytes


class BotoOrigin:
    """The Origin protocol for `s3` locations, each bucket reached as `settings.access_for` says.

    There is one client for each way of access, made with its first call; what aioboto3 takes long to load is loaded in
    a thread. Nothing is tried twice, with two exceptions: a bucket found in another region is asked there, and from
    then on; and aiohttp repeats a request once when its connection ended before a byte of the answer came.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[Access, asyncio.Task[Any]] = {}
        self._open = AsyncExitStack()
        self._calls: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._closed = False

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
                    checksum = told_checksum(headers.get, etag, checksums=network.checksums, md5=network.md5)
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
        if not self._closed:
            self._closed = True
            for call in self._calls:
                call.reschedule(0)
        while self._calls:
            self._idle.clear()
            await self._idle.wait()
        for making in self._clients.values():
            making.cancel()
        if self._clients:
            await asyncio.wait(self._clients.values())
        await self._open.aclose()

    @asynccontextmanager
    async def _call(self, location: Location) -> AsyncIterator[Any]:
        """The client for a location, for the length of a call that `aclose` can end."""
        if self._closed:
            raise FetcherClosed("the origin is closed")
        try:
            async with asyncio.timeout(None) as call:
                self._calls.add(call)
                try:
                    yield await self._client(location)
                finally:
                    self._calls.discard(call)
                    self._idle.set()
        except TimeoutError:
            if call.expired():
                raise FetcherClosed(f"{location}: the origin was closed under the call") from None
            raise

    async def _client(self, location: Location) -> Any:
        access = self._settings.access_for(location.container)
        making = self._clients.get(access)
        if making is None:
            making = self._clients[access] = asyncio.create_task(self._make_client(access))
            making.add_done_callback(lambda made: self._forget_failure(access, made))
        with translated(str(location)):
            return await asyncio.shield(making)  # the first caller's leaving hurts no other

    def _forget_failure(self, access: Access, made: asyncio.Task[Any]) -> None:
        if made.cancelled() or made.exception() is not None:
            self._clients.pop(access, None)

    async def _make_client(self, access: Access) -> Any:
        # Importing aioboto3 and reading its models blocks for 0.3 s.
        session, options = await asyncio.to_thread(_load, access, self._settings)
        async with AsyncExitStack() as made:
            client = await made.enter_async_context(session.client("s3", **options))
            if access.customer_key is not None:
                await asyncio.to_thread(check_private, endpoint_of(client.meta.endpoint_url))
            self._open.push_async_exit(made.pop_all())
        # To learn a region botocore asks for the bucket, and where that is redirected too it would ask again for ever.
        client.meta.events.register("before-call.s3.HeadBucket", _redirect_no_more)
        return client

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
            request |= {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
        return request


def _load(access: Access, settings: Settings) -> tuple[Any, dict[str, Any]]:
    """A session with everything read that a client is made from, and the client's options. Runs in a thread."""
    import aioboto3
    import aioboto3.s3.inject  # the hook of the client's class imports it
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore import UNSIGNED

    from asyncfetch.origins.boto_transport import StayingSession

    core = AioSession(profile=access.profile)
    if access.credentials is not None:
        core.register_component("credential_provider", LenderProvider(access.credentials))
    session = aioboto3.Session(botocore_session=core)
    models = core.get_component("data_loader")
    for name in ("partitions", "endpoints", "sdk-default-configuration"):
        models.load_data(name)
    for name in ("service-2", "endpoint-rule-set-1"):
        models.load_service_model("s3", name)
    options = rule_options(access) | {
        "connect_timeout": settings.network.connect_timeout,
        "read_timeout": settings.network.read_timeout,
        "max_pool_connections": settings.network.connections,
        "http_session_cls": StayingSession,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        # A checksum asked for cannot be checked on a range, and most servers do not know them.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if access.anonymous:
        options["signature_version"] = UNSIGNED
    return session, {"region_name": access.region, "endpoint_url": access.endpoint, "config": AioConfig(**options)}


def _redirect_no_more(context: dict[str, Any], **rest: Any) -> None:
    context.setdefault("s3_redirect", {})["redirected"] = True


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


def _stat(uri: str, answer: Any, size: int, checksum: str | None = None) -> ObjectStat:
    modified = answer.get("LastModified")
    return ObjectStat(
        uri,
        size,
        etag=read_etag(answer.get("ETag")),
        version=answer.get("VersionId"),
        last_modified=modified and modified.astimezone(UTC),
        checksum=checksum,
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
    return _stat(str(Location("s3", bucket, item["Key"])), item, item["Size"])
