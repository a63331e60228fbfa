"""How an object is copied inside of S3, by one request or in parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from asyncfetch.errors import AccessDenied, InvalidURI
from asyncfetch.origins.multipart import in_parts, part_size, spans_of
from asyncfetch.origins.permissions import needed
from asyncfetch.origins.puts import written

if TYPE_CHECKING:
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins.multipart import Uploads
    from asyncfetch.origins.requests import Requests
    from asyncfetch.uris import Location

COPY_AT_ONCE: Final = 5 << 30  # bytes that one CopyObject can copy (AWS: API_CopyObject)
_PART = 128 << 20  # bytes: a request that lasts a second or two, and is worth little to lose
_PARTS_AT_ONCE = 16  # of one object; they cost nothing here, but each is a request that S3 counts

# What CopyObject does not take along when it is given metadata, and parts never do.
_DESCRIBING = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
    "WebsiteRedirectLocation",
)


async def copy(
    requests: Requests,
    uploads: Uploads,
    source: Location,
    target: Location,
    about: dict[str, Any],
    parts_from: int,
) -> ObjectStat:
    """Copies an object as it is now; see `Control.copy`."""
    if target.version is not None:
        raise InvalidURI(str(target), "a version is read or deleted, never written")
    common = requests.object(target) | requests.customer_key(target)
    found = await requests.head(source)
    size = found["ContentLength"]
    reading: dict[str, Any] = {"CopySource": _named(source)}
    if found.get("ETag"):
        reading["CopySourceIfMatch"] = found["ETag"]
    reading |= {f"CopySource{name}": value for name, value in requests.customer_key(source).items()}
    kept = {name: found[name] for name in _DESCRIBING if found.get(name)}
    try:
        if size >= parts_from or size > COPY_AT_ONCE:
            return await _in_parts(requests, uploads, target, size, common, reading, kept | about)
        if about:
            about = kept | about | {"MetadataDirective": "REPLACE"}
        answer = await requests.ask(target, "copy_object", common | reading | about, action="s3:PutObject")
        copied = answer.get("CopyObjectResult", {}) | {"VersionId": answer.get("VersionId")}
        return written(target, size, copied, None)
    except AccessDenied as error:
        error.remedy = f"A copy also needs {needed(source)}. {error.remedy}"
        raise


async def _in_parts(
    requests: Requests,
    uploads: Uploads,
    target: Location,
    size: int,
    common: dict[str, Any],
    reading: dict[str, Any],
    about: dict[str, Any],
) -> ObjectStat:
    async with uploads.begun(target, common, about) as upload:

        async def prepare(start: int, length: int) -> str:
            return f"bytes={start}-{start + length - 1}"

        async def send(number: int, span: str) -> dict[str, Any]:
            request = common | reading | {"UploadId": upload, "PartNumber": number, "CopySourceRange": span}
            answer = await requests.ask(target, "upload_part_copy", request, action="s3:PutObject")
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        spans = spans_of(size, part_size(size, _PART))
        parts = await in_parts(spans, asyncio.Semaphore(_PARTS_AT_ONCE), prepare, send)
        answer = await uploads.complete(target, common, upload, parts)
    return written(target, size, answer, None)


def _named(source: Location) -> dict[str, str]:
    named = {"Bucket": source.container, "Key": source.key}
    return named if source.version is None else named | {"VersionId": source.version}
