"""How an object is written: in one piece or in parts, under a condition, and told from one that another wrote."""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from asyncfetch.errors import IntegrityError, InvalidURI, OriginError, PreconditionFailed, RequestRefused, UsageError
from asyncfetch.objects import ObjectStat
from asyncfetch.origins.bodies import read_piece
from asyncfetch.origins.checksums import Check, told_checksum
from asyncfetch.origins.endpoints import is_directory_bucket
from asyncfetch.origins.headers import read_etag, write_etag
from asyncfetch.origins.multipart import in_parts, part_size, spans_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.origins.bodies import Body, Piece
    from asyncfetch.origins.multipart import Uploads
    from asyncfetch.origins.requests import Requests
    from asyncfetch.origins.small_puts import SmallPuts
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location


class Puts:
    """Writes objects, one part of an object in memory for each of its slots."""

    def __init__(self, requests: Requests, uploads: Uploads, small: SmallPuts, settings: Settings) -> None:
        self._requests = requests
        self._small = small
        self._uploads = uploads
        self._attempts = settings.network.attempts
        self._part = part_size(0, settings.network.part_size)
        self._slots = asyncio.Semaphore(max(1, settings.memory_budget // 4 // self._part))
        self._larger = asyncio.Semaphore(1)

    async def put(
        self,
        location: Location,
        body: Body,
        about: dict[str, Any],
        condition: dict[str, Any],
        checksum: str | None,
    ) -> ObjectStat:
        """Writes an object that `about` describes; see `Control.put`."""
        for attempt in range(1, self._attempts + 1):
            try:
                if body.size <= self._part:
                    return await self._whole(location, body, about | condition, checksum)
                return await self._in_parts(location, body, about, condition)
            except PreconditionFailed as error:
                # The answer to an earlier try may have been lost, and this be its object.
                if error.attempts > 1 and (ours := await self._recognised(location, body)) is not None:
                    return ours
                raise unmet(error, condition) from None
            except RequestRefused as error:
                # Another wrote or deleted it at the same instant: who was first shows at the next try.
                if error.code != "ConditionalRequestConflict" or attempt == self._attempts:
                    raise
                await asyncio.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - no secret
        raise AssertionError("the last attempt returns or raises")

    async def _whole(self, location: Location, body: Body, about: dict[str, Any], checksum: str | None) -> ObjectStat:
        # Bytes are sent as they lie there, anything else is copied first.
        async with nullcontext() if body.resident else self._slots:
            piece = await read_piece(body, 0, body.size)
            await body.check()
            checksum = checksum or f"crc32:{piece.crc:08x}"
            common, about = self._common(location), about | _named(checksum)
            answer: Mapping[str, Any] | None
            async with self._requests.lanes:
                answer = await self._small.put(location, piece.data, about)
            if answer is None:
                request = common | about | {"Body": piece.data}
                answer = await self._requests.ask(location, "put_object", request, action="s3:PutObject")
        return written(location, body.size, answer, checksum)

    async def _in_parts(
        self, location: Location, body: Body, about: dict[str, Any], condition: dict[str, Any]
    ) -> ObjectStat:
        common, size, running = self._common(location), part_size(body.size, self._part), 0
        # Objects so large that their parts must be larger take turns.
        slots = self._slots if size == self._part else self._larger
        create = about | {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        async with self._uploads.begun(location, common, create) as upload:

            async def prepare(start: int, length: int) -> Piece:
                nonlocal running
                piece = await read_piece(body, start, length, running)
                running = piece.running
                return piece

            async def send(number: int, piece: Piece) -> dict[str, Any]:
                checksum = f"crc32:{piece.crc:08x}"
                request = common | _named(checksum) | {"UploadId": upload, "PartNumber": number}
                request["Body"] = piece.data
                answer = await self._requests.ask(location, "upload_part", request, action="s3:PutObject")
                return {"PartNumber": number, "ETag": answer["ETag"]} | told(checksum)

            parts = await in_parts(spans_of(body.size, size), slots, prepare, send)
            await body.check()
            checksum = f"crc32:{running:08x}"
            request = common | condition | told(checksum) | {"ChecksumType": "FULL_OBJECT"}
            answer = await self._uploads.complete(location, request, upload, parts)
        return written(location, body.size, answer, checksum)

    async def _recognised(self, location: Location, body: Body) -> ObjectStat | None:
        """The object that is there, if it has the bytes that were to be written."""
        try:
            found = await self._requests.head(location)
        except OriginError:
            return None
        headers = found["ResponseMetadata"]["HTTPHeaders"]
        md5 = not is_directory_bucket(location.container)
        checksum = told_checksum(headers.get, read_etag(found.get("ETag")), md5=md5)
        if checksum is None or found.get("ContentLength") != body.size:
            return None
        check = Check(str(location), checksum)
        for start, length in spans_of(body.size, self._part):
            await asyncio.to_thread(lambda at, size: check.update(memoryview(body.read(at, size))), start, length)
        try:
            check.verify()
        except IntegrityError:
            return None
        return written(location, body.size, found, checksum)

    def _common(self, location: Location) -> dict[str, Any]:
        if location.version is not None:
            raise InvalidURI(str(location), "a version is read or deleted, never written")
        return self._requests.object(location) | self._requests.customer_key(location)


def conditions(uri: str, if_none_match: Literal["*"] | None, if_match: str | None) -> dict[str, Any]:
    """The parameters of a conditional write. Raises `UsageError` for one that S3 does not know."""
    if if_none_match not in (None, "*") or (if_none_match is not None and if_match is not None):
        raise UsageError(
            f"{uri}: if_none_match={if_none_match!r} and if_match={if_match!r} are no condition of a write",
            remedy="Give if_none_match='*' where no object is to be overwritten, or if_match with its ETag.",
        )
    if if_match is not None:
        return {"IfMatch": write_etag(if_match)}
    return {} if if_none_match is None else {"IfNoneMatch": if_none_match}


def unmet(error: PreconditionFailed, condition: Mapping[str, Any]) -> PreconditionFailed:
    """The error in the words of the condition that was given."""
    return PreconditionFailed(
        error.uri,
        "there is an object already" if "IfNoneMatch" in condition else "the object has changed",
        attempts=error.attempts,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
    )


def written(location: Location, size: int, answer: Mapping[str, Any], checksum: str | None) -> ObjectStat:
    """What is known of an object that was just written."""
    version = answer.get("VersionId")
    return ObjectStat(
        str(location),
        size,
        etag=read_etag(answer.get("ETag")),
        version=None if version == "null" else version,
        checksum=checksum,
    )


def told(checksum: str) -> dict[str, str]:
    """The parameters that say a checksum, given as `ObjectStat.checksum` is written. Raises `UsageError`."""
    name, _, digest = checksum.partition(":")
    if name not in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256"):
        raise UsageError(f"{checksum!r} is no checksum that S3 keeps", remedy="Write it such as sha256:<hex>.")
    try:
        value = b64encode(bytes.fromhex(digest)).decode()
    except ValueError:
        raise UsageError(f"the checksum {checksum!r} is not written in hexadecimal") from None
    return {f"Checksum{name.upper()}": value}


def _named(checksum: str) -> dict[str, str]:
    """A checksum as a request with a body says it: its algorithm too."""
    return told(checksum) | {"ChecksumAlgorithm": checksum.partition(":")[0].upper()}
