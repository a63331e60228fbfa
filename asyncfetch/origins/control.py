"""The control plane: what is done to S3 beside reading it.

A function that writes opens one of its own from the settings of the fetcher that it was given, and reads through the
fetcher:

    async with Control(fetcher.settings, fetcher.identities) as control:
        await control.put(s3("bucket", "key"), b"...", if_none_match="*")

So it has the same endpoint, region, profile, addressing, requester pays and customer's key (which then also encrypts),
bucket by bucket, and signs by the credentials that the fetcher has found, refreshed once for both; without
`identities` it runs the chain itself. Everything raised is of `asyncfetch.errors`: what is denied names the action and
the ARN (`s3:PutObject on arn:aws:s3:::bucket/key`), and a bucket in another region is asked there, once it has said so.

Objects of up to 1 MiB are written over `asyncfetch.http` (`small_puts`), everything else is asked by aioboto3, which
knows all of S3 and takes milliseconds of CPU for each request. Either way a request is tried `NetworkPolicy.attempts`
times with the pauses of botocore's mode `standard`; `patience`, `deadline`, `hedge` and `first_byte_timeout` are for
reads alone. At most `NetworkPolicy.concurrency` are under way, and the bytes of parts and files that are held for them
are at most a quarter of `memory_budget`, beside what the fetcher takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from asyncfetch.errors import NoCredentials, OriginError
from asyncfetch.objects import ObjectStat
from asyncfetch.origins.bodies import opened
from asyncfetch.origins.calls import OpenCalls
from asyncfetch.origins.checksums import told_checksum
from asyncfetch.origins.copies import COPY_AT_ONCE, copy
from asyncfetch.origins.deletions import delete, delete_many
from asyncfetch.origins.descriptions import described
from asyncfetch.origins.headers import read_date, read_etag
from asyncfetch.origins.identities import Identities
from asyncfetch.origins.multipart import Uploads
from asyncfetch.origins.puts import Puts, conditions
from asyncfetch.origins.requests import Requests
from asyncfetch.origins.small_puts import SmallPuts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from asyncfetch.origins.bodies import Written
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location


class Identity(NamedTuple):
    """Who the credentials are, as STS says."""

    account: str
    arn: str
    user_id: str


class Encryption(NamedTuple):
    """How S3 encrypts: `algorithm` is `AES256`, `aws:kms` or `aws:kms:dsse`; `key` the KMS key where one is named."""

    algorithm: str
    key: str | None = None


class Probe(NamedTuple):
    """Whether a server honours a range, and If-None-Match."""

    ranges: bool
    conditions: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What S3 says of an object without its bytes, beyond an `ObjectStat`. None is what it does not say.

    Names of `metadata` are in lower case, as S3 keeps them; other servers give them back as headers are written.
    """

    stat: ObjectStat
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    encryption: Encryption | None = None


class Control:
    """Writes, copies, deletes and asks, at S3; an async context manager.

    Locations are of scheme `s3`. Leaving the context ends calls under way with `FetcherClosed`, aborts the uploads in
    parts that they had begun, and closes every connection.
    """

    def __init__(self, settings: Settings, identities: Identities | None = None) -> None:
        self._settings = settings
        self._identities, self._shared = identities or Identities(), identities is not None
        self._calls = OpenCalls("the control plane")
        self._requests = Requests(settings, self._identities)
        self._uploads = Uploads(self._requests)
        self._small = SmallPuts(settings, self._identities)
        self._puts = Puts(self._requests, self._uploads, self._small, settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """What leaving the context does. Closing twice does nothing."""
        await self._calls.end()
        await self._uploads.settle()
        await self._small.aclose()
        await self._requests.aclose()
        if not self._shared:
            await self._identities.aclose()

    async def put(
        self,
        location: Location,
        body: Written,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        if_none_match: Literal["*"] | None = None,
        if_match: str | None = None,
        checksum: str | None = None,
    ) -> ObjectStat:
        """Writes an object whole: until then readers see what was there before, and from then on all of it.

        `body` is bytes in one piece, which must not change meanwhile, or the path of a file. More than one part of
        `NetworkPolicy.part_size` (5 MiB at least) goes in parts, several at once. The server is told the CRC32 of each
        part and of the whole, and refuses what does not fit; one that knows no checksums pays no heed. `checksum` is
        one that the caller has already, as `ObjectStat.checksum` is written (`"sha256:<hex>"`): it is told instead
        where the object goes in one piece.

        `content_type` None is what the key's ending says. `metadata` is the user's, in ASCII. `extra_args` are further
        parameters of PutObject and CreateMultipartUpload by the names that boto3 has for them: ServerSideEncryption,
        SSEKMSKeyId, StorageClass, Tagging, CacheControl.

        `if_none_match="*"` writes only where there is no object, `if_match` only over the one with that ETag (without
        quotes); else `PreconditionFailed` is raised, also where another writer was first by an instant. Servers that do
        not know conditional writes ignore them. (AWS: "How to prevent object overwrites with conditional writes".)

        Raises `AccessDenied`, `BucketNotFound` and other `OriginError`s; `IntegrityError` where other bytes came than
        were sent; `UsageError` for what cannot be sent, and where a file changes while it is being sent; what opening
        a file raises. Cancelled or failing, the object was written whole or not at all, and parts that were sent are
        removed.
        """
        uri = str(location)
        about = described(uri, location.key, content_type, metadata, extra_args)
        condition = conditions(uri, if_none_match, if_match)
        async with self._calls.one(uri), opened(body) as source:
            return await self._puts.put(location, source, about, condition, checksum)

    async def copy(
        self,
        source: Location,
        target: Location,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        parts_from: int = COPY_AT_ONCE,
    ) -> ObjectStat:
        """Copies an object, or a version of it, inside of S3. Its bytes do not come by here.

        It is copied as it is now: where it changes meanwhile, `PreconditionFailed` is raised. Its type and metadata go
        along unless others are given. From `parts_from` bytes on it is copied in parts, several at once, and its tags
        stay behind; what has more than 5 GiB can be copied in no other way.

        Raises `ObjectNotFound` where there is no source, `AccessDenied` where `s3:GetObject` on the source or
        `s3:PutObject` on the target is missing, and what `put` does. Cancelled or failing, the target is there whole
        or as it was before.
        """
        uri = str(target)
        about = described(uri, "", content_type, metadata, extra_args)
        async with self._calls.one(uri):
            return await copy(self._requests, self._uploads, source, target, about, parts_from)

    async def delete(self, location: Location) -> None:
        """Deletes an object, or a version of it. That there is none is no error.

        In a bucket with versions an object without a version named is covered by a delete marker, and not gone.
        """
        async with self._calls.one(str(location)):
            await delete(self._requests, location)

    async def delete_many(self, locations: Iterable[Location]) -> dict[Location, OriginError]:
        """Deletes objects by 1,000 a request, and gives those that could not be, each with its error.

        Where a request is refused as a whole, each of its objects has that error. Cancelled, some are deleted.
        """
        wanted = list(dict.fromkeys(locations))
        async with self._calls.one(str(wanted[0]) if wanted else "nothing"):
            return await delete_many(self._requests, wanted)

    async def head(self, location: Location) -> Head:
        """Asks for what S3 keeps of an object beside its bytes. Raises `ObjectNotFound`, `AccessDenied` and others."""
        async with self._calls.one(str(location)):
            found = await self._requests.head(location)
        headers, etag = found["ResponseMetadata"]["HTTPHeaders"], read_etag(found.get("ETag"))
        version, modified = found.get("VersionId"), found.get("LastModified")
        stat = ObjectStat(
            str(location),
            found["ContentLength"],
            etag=etag,
            version=None if version == "null" else version,
            last_modified=modified and modified.astimezone(UTC),
            checksum=told_checksum(headers.get, etag),
        )
        algorithm = found.get("ServerSideEncryption")
        return Head(
            stat,
            content_type=found.get("ContentType"),
            metadata={name.lower(): value for name, value in found.get("Metadata", {}).items()},
            storage_class=found.get("StorageClass", "STANDARD"),
            encryption=algorithm and Encryption(algorithm, found.get("SSEKMSKeyId")),
        )

    async def probe(self, location: Location) -> Probe:
        """Tries what reads rely on, with two requests for an object of at least one byte."""
        async with self._calls.one(str(location)):
            request = self._requests.object(location) | self._requests.customer_key(location)
            answer = await self._requests.ask(
                location, "get_object", request | {"Range": "bytes=0-0"}, action="s3:GetObject"
            )
            answer["Body"].close()
            told = answer["ResponseMetadata"]["HTTPStatusCode"] == 206 or answer.get("ContentRange") is not None
            try:
                again = await self._requests.ask(
                    location, "get_object", request | {"IfNoneMatch": answer.get("ETag", "*")}, action="s3:GetObject"
                )
            except OriginError as error:
                if error.status != 304:
                    raise
                return Probe(told, conditions=True)
            again["Body"].close()
            return Probe(told, conditions=False)

    async def presign(
        self, location: Location, method: str, expires: int, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> str:
        """A URL signed by botocore, for the buckets that `Presigner` cannot sign for. The parameters are its own."""
        async with self._calls.one(str(location)):
            return await self._requests.presign(location, method, expires, query, headers)

    # What a bucket is, and who asks. `location` is any in the bucket.

    async def region(self, location: Location) -> str | None:
        """The region of a bucket, None where the server does not say. Needs `s3:ListBucket`."""
        return (await self._bucket(location, "head_bucket", "s3:ListBucket")).get("BucketRegion")

    async def now(self, location: Location) -> datetime | None:
        """What time it is by the server's clock, to the second, by which it dates objects; None where it does not say.

        Needs `s3:ListBucket`.
        """
        answer = await self._bucket(location, "head_bucket", "s3:ListBucket")
        return read_date(answer["ResponseMetadata"]["HTTPHeaders"].get("date"))

    async def versioning(self, location: Location) -> Literal["Enabled", "Suspended"] | None:
        """Whether a bucket keeps versions; None where it never did. Needs `s3:GetBucketVersioning`."""
        answer = await self._bucket(location, "get_bucket_versioning", "s3:GetBucketVersioning")
        status: Literal["Enabled", "Suspended"] | None = answer.get("Status")
        return status

    async def encryption(self, location: Location) -> Encryption | None:
        """How a bucket encrypts what nothing else is said of. Needs `s3:GetEncryptionConfiguration`."""
        try:
            answer = await self._bucket(location, "get_bucket_encryption", "s3:GetEncryptionConfiguration")
        except OriginError as error:
            if error.code == "ServerSideEncryptionConfigurationNotFoundError":
                return None
            raise
        for rule in answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ()):
            default = rule.get("ApplyServerSideEncryptionByDefault")
            if default is not None:
                return Encryption(default["SSEAlgorithm"], default.get("KMSMasterKeyID"))
        return None

    async def identity(self, location: Location) -> Identity:
        """Who signs for a bucket, as STS knows them (GetCallerIdentity, which needs no permission).

        Only AWS has STS where S3 is. Raises `UsageError` where another endpoint is set for S3 and none for STS
        (AWS_ENDPOINT_URL_STS): what signs there is not shown to AWS. Raises `CredentialsError`s, `NoCredentials` for
        anonymous access too.
        """
        uri, access = str(location), self._settings.access_for(location.container)
        if access.anonymous:
            raise NoCredentials(uri, "access is anonymous", remedy="Nobody's identity can be asked for.")
        async with self._calls.one(uri):
            answer = await self._requests.identity(location)
        return Identity(answer["Account"], answer["Arn"], answer["UserId"])

    async def _bucket(self, location: Location, operation: str, action: str) -> dict[str, Any]:
        async with self._calls.one(str(location)):
            request = {"Bucket": location.container}
            return await self._requests.ask(location, operation, request, action=action, listing=True)
