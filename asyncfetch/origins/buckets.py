"""Buckets as they are spoken to over `asyncfetch.http`: found, signed for, and followed to where they say they are."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import ExpiredCredentials, FetcherClosed, OriginError, UsageError
from asyncfetch.origins.answers import ask, misfit
from asyncfetch.origins.checksums import load_checksums
from asyncfetch.origins.endpoints import NotNative, Reached, environment_region, resolve, warn_if_exposed
from asyncfetch.origins.headers import USER_AGENT, customer_key_headers, read_date
from asyncfetch.origins.listing import parse_error
from asyncfetch.origins.refusals import Answer, refusal
from asyncfetch.origins.signing import Signer

if TYPE_CHECKING:
    from asyncfetch.http import Client, Endpoint, Response
    from asyncfetch.origins.answers import Question
    from asyncfetch.origins.credentials import Credentials, CredentialSource
    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Access, Settings
    from asyncfetch.uris import Location

logger = logging.getLogger(__name__)

Query = tuple[tuple[str, str], ...]

MOST_BUCKETS = 1024  # remembered, 5 KB each; a list of names that are all wrong may name a million
_SKEW = 4.0 * 60  # S3 refuses from 15 minutes on, so a difference below this is none


class Bucket:
    """What is known of one bucket: where it is, who signs, and what it said of region and clock."""

    __slots__ = (
        "access",
        "endpoint",
        "key_headers",
        "moving",
        "name",
        "region_known",
        "signer",
        "source",
        "tells_parts",
    )

    def __init__(self, name: str, access: Access, source: CredentialSource | None, reached: Reached) -> None:
        self.name = name
        self.access = access
        self.source = source  # None: nothing is signed
        self.key_headers = customer_key_headers(access.customer_key) if access.customer_key is not None else None
        self.region_known = False  # the server itself has said so
        self.tells_parts = True  # as far as is known, how parts of an upload lie
        self.moving = asyncio.Lock()  # many may hear at once that it is elsewhere
        self.go_to(reached)

    def go_to(self, reached: Reached) -> None:
        """Takes up, or changes, the place it is reached at."""
        self.endpoint: Endpoint = reached.endpoint
        self.signer = Signer(reached.target, requester_pays=self.access.requester_pays, user_agent=USER_AGENT)


class Signed(NamedTuple):
    """Writes a request for an object, or with an empty key for the bucket, and signs it when it is sent."""

    signer: Signer
    offset: float  # seconds that its time is ahead of this clock
    credentials: Credentials | None
    key: str
    query: Query

    def write(self, question: Question) -> bytes:
        head = self.signer.head(
            question.method,
            self.key,
            credentials=self.credentials,
            now=time.time() + self.offset,
            query=self.query,
            headers=question.headers or (),
            payload=question.payload,
        )
        return head if question.payload is None else head + question.payload.data


class Buckets:
    """The buckets of one fetcher: each is met once, with its first use, and anew where there are very many.

    Each is reached as `settings.access_for` says; the region that S3 names in refusing the wrong one is remembered, as
    is the difference of the clocks. With `warn` the log says once where aioboto3 serves against expectation.
    """

    def __init__(self, settings: Settings, client: Client, identities: Identities, *, warn: bool = True) -> None:
        self._settings = settings
        self._client = client
        self._identities = identities
        self.known: dict[str, Bucket | None] = {}  # None: aioboto3 serves it
        self._meetings: dict[str, asyncio.Task[Bucket | None]] = {}
        self._clock_offset = 0.0
        self._told = not warn
        self._closed = False

    async def ask(self, bucket: Bucket, question: Question, key: str, query: Query = ()) -> Response:
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
            order = Signed(bucket.signer, self._clock_offset, credentials, key, query)
            response = await ask(self._client, bucket.endpoint, question, order)
            if response.head.status in _CORRECTABLE:
                corrected = corrected or set()
                mistake = await self._correct(bucket, response, order, question.uri)
                if mistake is not None and mistake not in corrected:
                    corrected.add(mistake)
                    continue
            return response

    async def _correct(self, bucket: Bucket, response: Response, signed: Signed, uri: str) -> str | None:
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

    async def _move(self, bucket: Bucket, region: str) -> None:
        try:
            reached = await self._resolve(bucket.name, bucket.access, region)
        except UsageError:  # what the server calls a region is none
            return
        if isinstance(reached, Reached):
            bucket.go_to(reached)
            bucket.region_known = True

    async def find(self, location: Location) -> Bucket | None:
        """What is known of a location's bucket, found out once for all who ask. None: aioboto3 serves it."""
        if self._closed:
            raise FetcherClosed("The origin is closed")
        name = location.container
        if name in self.known:
            return self.known[name]
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

    def _end_meeting(self, name: str, met: asyncio.Task[Bucket | None]) -> None:
        del self._meetings[name]
        if not met.cancelled():
            met.exception()  # seen, also where everybody who asked has left

    async def _meet(self, name: str, uri: str) -> Bucket | None:
        access = self._settings.access_for(name)
        region = access.region or environment_region()
        source: CredentialSource | None = None
        if access.origin != "boto":
            source = self._identities.of(access)
            if region is None and access.endpoint is not None:
                region = await source.region(uri)
        reached = await self._resolve(name, access, region)
        if isinstance(reached, NotNative):
            if reached.worth_a_word and not self._told:
                self._told = True
                logger.warning("s3://%s is read by way of aioboto3, which costs more CPU: %s", name, reached.reason)
            self._remember(name, None)
            return None
        if not access.anonymous:
            warn_if_exposed(access.endpoint or f"{reached.target.scheme}://{reached.target.host}")
        bucket = Bucket(name, access, None if access.anonymous else source, reached)
        self._remember(name, bucket)
        return bucket

    def _remember(self, name: str, bucket: Bucket | None) -> None:
        if len(self.known) >= MOST_BUCKETS:
            del self.known[next(iter(self.known))]
        self.known[name] = bucket

    async def _resolve(self, name: str, access: Access, region: str | None) -> Reached | NotNative:
        if self._settings.network.checksums:
            await asyncio.to_thread(load_checksums)
        return await asyncio.to_thread(resolve, name, access, region)

    async def aclose(self) -> None:
        """Ends what is being found out; who waits for it raises `FetcherClosed`. Closing twice does nothing."""
        self._closed = True
        meetings = list(self._meetings.values())
        for meeting in meetings:
            meeting.cancel()
        if meetings:
            await asyncio.wait(meetings)

    def refusal(
        self, uri: str, bucket: Bucket, response: Response, *, listing: bool = False, action: str | None = None
    ) -> OriginError:
        """The error that an answer means which is not the one hoped for; see `refusals.refusal` for the rest."""
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
        return refusal(uri, answer, asked_region=bucket.signer.target.region, listing=listing, action=action)


# What may be told of a wrong region, clock or token. Kept apart from what is an everyday answer: 304, 404, 412, 416,
# 503.
_CORRECTABLE = frozenset({301, 307, 400, 401, 403})


def _is_elsewhere(status: int, code: str | None) -> bool:
    """Whether a refusal that names a region means that the bucket is there. A HEAD is refused without a code."""
    return status in (301, 307) or code in (None, "AuthorizationHeaderMalformed", "PermanentRedirect")
