"""Single requests to S3 by aioboto3: sent as settings say, and answered in the package's own errors."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from asyncfetch.errors import ExpiredCredentials, InvalidURI, UsageError
from asyncfetch.origins.boto_clients import BotoClients
from asyncfetch.origins.boto_errors import translated
from asyncfetch.origins.headers import CustomerKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location

# The parameters that stand for what a presigned URL says.
_PARAMETERS = {
    "content-type": "ContentType",
    "response-cache-control": "ResponseCacheControl",
    "response-content-disposition": "ResponseContentDisposition",
    "response-content-type": "ResponseContentType",
}


class Requests:
    """Sends them, `NetworkPolicy.concurrency` at once at most; botocore tries each `NetworkPolicy.attempts` times."""

    def __init__(self, settings: Settings, identities: Identities) -> None:
        self._settings = settings
        self._identities = identities
        self._clients = BotoClients(settings.network, identities, attempts=settings.network.attempts)
        self.lanes = asyncio.Semaphore(settings.network.concurrency)

    async def ask(
        self, location: Location, operation: str, request: dict[str, Any], *, action: str, listing: bool = False
    ) -> dict[str, Any]:
        """Asks by the name that boto3 has for an operation; raises as `refusal` means it, about the location.

        Where the credentials have expired before their time, they are exchanged and it asks once more.

        `action` is what the request needs in the words of IAM; with `listing` it is about the bucket.
        """
        uri, access = str(location), self._settings.access_for(location.container)
        client = await self._clients.get(access, uri)

        async def send() -> dict[str, Any]:
            with translated(uri, region=client.meta.region_name, listing=listing, action=action):
                answer: dict[str, Any] = await getattr(client, operation)(**request)
            return answer

        async with self.lanes:
            source = None if access.anonymous else self._identities.of(access)
            used = None if source is None else source.current()
            try:
                return await send()
            except ExpiredCredentials:
                if source is None or used is None:
                    raise
                source.invalidate(used)
                with suppress(ExpiredCredentials):
                    await source.get(uri)
                if source.current() is None:
                    raise  # the refusal says it best
                return await send()

    async def identity(self, location: Location) -> dict[str, Any]:
        """What STS says of who signs for a bucket."""
        uri, access = str(location), self._settings.access_for(location.container)
        client = await self._clients.get(access, uri, service="sts")
        if not _is_aws(access.endpoint) and _is_aws(client.meta.endpoint_url):
            raise UsageError(
                f"{uri}: {access.endpoint} is not AWS, so AWS's STS cannot know who signs there",
                remedy="AWS_ENDPOINT_URL_STS names the STS of an endpoint that has one.",
            )
        async with self.lanes:
            with translated(uri):
                answer: dict[str, Any] = await client.get_caller_identity()
        return answer

    async def presign(
        self, location: Location, method: str, expires: int, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> str:
        """A URL for GET or PUT of an object, with what is to be in its query and in the headers of its holder."""
        uri = str(location)
        client = await self._clients.get(self._settings.access_for(location.container), uri)
        request = self.object(location) | {
            _PARAMETERS[name]: value for name, value in (*query.items(), *headers.items())
        }
        if location.version is not None:
            request["VersionId"] = location.version
        with translated(uri, region=client.meta.region_name):
            operation = "get_object" if method == "GET" else "put_object"
            url: str = await client.generate_presigned_url(operation, Params=request, ExpiresIn=expires)
        return url

    def bucket(self, location: Location) -> dict[str, Any]:
        """What every request about a bucket says."""
        request = {"Bucket": location.container}
        if self._settings.access_for(location.container).requester_pays:
            request["RequestPayer"] = "requester"
        return request

    def object(self, location: Location) -> dict[str, Any]:
        """What every request about an object says, but which version of it. Raises `InvalidURI` without a key."""
        if location.scheme != "s3":
            raise InvalidURI(str(location), "it is no object of S3", remedy="Write s3://bucket/key.")
        if not location.key:
            raise InvalidURI(str(location), "it names a bucket, not an object")
        return self.bucket(location) | {"Key": location.key}

    def customer_key(self, location: Location) -> dict[str, Any]:
        """What a request says beside that reads or writes bytes under the customer's own key (SSE-C)."""
        key = self._settings.access_for(location.container).customer_key
        return {} if key is None else {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CustomerKey(key)}

    async def head(self, location: Location) -> dict[str, Any]:
        """What HeadObject answers, with the checksum that S3 keeps."""
        request = self.object(location) | self.customer_key(location) | {"ChecksumMode": "ENABLED"}
        action = "s3:GetObject"
        if location.version is not None:
            request["VersionId"], action = location.version, "s3:GetObjectVersion"
        return await self.ask(location, "head_object", request, action=action)

    async def aclose(self) -> None:
        """Closes every connection. To be called when no request is under way any more."""
        await self._clients.aclose()


def _is_aws(endpoint_url: str | None) -> bool:
    host = urlsplit(endpoint_url or "").hostname
    return host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
