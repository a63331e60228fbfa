"""Small objects written over the package's own HTTP client, for a twelfth of the CPU that aioboto3 takes.

The request is the one that botocore would send (docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html), tried and
signed alike: over TLS the body is guarded by that and by its checksum, else its SHA-256 is signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from asyncfetch import http
from asyncfetch.attempts import Move, Outlook, Past, decide
from asyncfetch.errors import IntegrityError, OriginError
from asyncfetch.origins.answers import Question
from asyncfetch.origins.buckets import Buckets
from asyncfetch.origins.signing import UNSIGNED_PAYLOAD, Payload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location

MOST = 1 << 20  # bytes that are sent in one piece with their head, which copies them once
_INLINE = 64 << 10  # bytes whose SHA-256 the loop computes itself, in 0.05 to 0.15 ms

_HEADERS: Mapping[str, str] = {
    "CacheControl": "cache-control",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumCRC32": "x-amz-checksum-crc32",
    "ChecksumCRC32C": "x-amz-checksum-crc32c",
    "ChecksumCRC64NVME": "x-amz-checksum-crc64nvme",
    "ChecksumSHA1": "x-amz-checksum-sha1",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
}


class SmallPuts:
    """Writes objects of at most `MOST` bytes, each tried `NetworkPolicy.attempts` times."""

    def __init__(self, settings: Settings, identities: Identities) -> None:
        network = settings.network
        self._attempts = network.attempts
        self._client = http.Client(
            connect_timeout=network.connect_timeout,
            read_timeout=network.read_timeout,
            max_connections=network.connections,
        )
        self._buckets = Buckets(settings, self._client, identities, warn=False)

    async def put(self, location: Location, data: bytes, about: Mapping[str, Any]) -> dict[str, str | None] | None:
        """Writes an object that `about` describes in the words of boto3. Gives its ETag and version in them as well.

        None where aioboto3 is to write it: it is large, `about` has what is rare, or the bucket is reached by aioboto3
        alone. Raises what an answer means; `attempts` counts how often it was sent, so that one who finds an object in
        its place knows whether it may be the own. Cancelled, it was written whole or not at all.
        """
        headers = _headers(about) if len(data) <= MOST else None
        if headers is None:
            return None
        bucket = await self._buckets.find(location)
        if bucket is None:
            return None
        writing = _Writing(str(location), headers)
        digest = UNSIGNED_PAYLOAD if bucket.endpoint.tls else await _sha256(data, about.get("ChecksumSHA256"))
        writing.payload = Payload(data, digest)
        began, past = time.monotonic(), Past(attempts=0, pause=0.0, elapsed=0.0)
        while True:
            writing.headers = headers  # the last try's have the customer's key behind them
            try:
                response = await self._buckets.ask(bucket, writing, location.key)
                if response.head.status >= 300:
                    raise self._buckets.refusal(writing.uri, bucket, response, action="s3:PutObject")
            except OriginError as error:
                error.attempts = writing.sent
                past = Past(past.attempts + 1, past.pause, time.monotonic() - began)
                move, pause = decide(
                    error, past, Outlook(), attempts=self._attempts, deadline=None, uniform=random.uniform
                )
                if move is not Move.RETRY or isinstance(error, IntegrityError):  # the body is wrong here already
                    raise
            else:
                return {"ETag": response.head.get("etag"), "VersionId": response.head.get("x-amz-version-id")}
            await asyncio.sleep(pause)
            past = past._replace(pause=pause)

    async def aclose(self) -> None:
        """Closes every connection. To be called when no write is under way any more."""
        await self._buckets.aclose()
        await self._client.aclose()


class _Writing(Question):
    """A PUT that counts how often it is sent: the client repeats one by itself whose connection turns out stale."""

    __slots__ = ("sent",)

    def __init__(self, uri: str, headers: list[tuple[str, str]]) -> None:
        super().__init__(uri, "PUT", headers, max_body=64 << 10)
        self.sent = 0

    def build(self) -> bytes:
        self.sent += 1
        return super().build()


async def _sha256(data: bytes, told: str | None) -> str:
    """The digest of a body in hexadecimal; of one that was told to the server in base64, that one."""
    if told is not None:
        return b64decode(told).hex()
    if len(data) <= _INLINE:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()


def _headers(about: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """The headers that parameters of PutObject stand for, None where one is rare, or not of the kind that it has."""
    headers = []
    for name, value in about.items():
        if name == "Metadata":
            headers += [(f"x-amz-meta-{key}", text) for key, text in value.items()]
        elif name not in _HEADERS or not isinstance(value, str):
            return None
        else:
            headers.append((_HEADERS[name], value))
    return headers
