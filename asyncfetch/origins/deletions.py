"""How objects are deleted, one by one and by the thousand."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import OriginError
from asyncfetch.origins.refusals import Answer, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asyncfetch.origins.requests import Requests
    from asyncfetch.uris import Location

_AT_ONCE = 1000  # keys that one DeleteObjects can name (AWS: API_DeleteObjects)

# What no document of XML 1.0 can say ("2.2 Characters"), or would not give back as it was.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0d\x0e-\x1f\ufffe\uffff]")


async def delete(requests: Requests, location: Location) -> None:
    """Deletes one; see `Control.delete`."""
    request = requests.object(location)
    if location.version is not None:
        request["VersionId"] = location.version
    await requests.ask(location, "delete_object", request, action=_action(location))


async def delete_many(requests: Requests, locations: Iterable[Location]) -> dict[Location, OriginError]:
    """Deletes many, which must differ; see `Control.delete_many`."""
    by_bucket: defaultdict[str, list[Location]] = defaultdict(list)
    singles: list[Location] = []
    for location in locations:
        requests.object(location)  # before any is deleted: what names no object
        (singles if _NOT_XML.search(location.key) else by_bucket[location.container]).append(location)
    failed: dict[Location, OriginError] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for bucket in by_bucket.values():
                for start in range(0, len(bucket), _AT_ONCE):
                    group.create_task(_delete_batch(requests, bucket[start : start + _AT_ONCE], failed))
            for location in singles:
                group.create_task(_delete_single(requests, location, failed))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return failed


async def _delete_single(requests: Requests, location: Location, failed: dict[Location, OriginError]) -> None:
    try:
        await delete(requests, location)
    except OriginError as error:
        failed[location] = error


async def _delete_batch(requests: Requests, batch: list[Location], failed: dict[Location, OriginError]) -> None:
    named = [{"Key": at.key} | ({} if at.version is None else {"VersionId": at.version}) for at in batch]
    request = requests.bucket(batch[0]) | {"Delete": {"Objects": named, "Quiet": True}}
    try:
        answer = await requests.ask(batch[0], "delete_objects", request, action=_action(batch[0]))
    except OriginError as error:
        failed.update((location, _about(location, error)) for location in batch)
        return
    by_name = {(location.key, location.version): location for location in batch}
    for location, told in _refused(by_name, answer):
        failed[location] = told


def _refused(
    by_name: dict[tuple[str, str | None], Location], answer: dict[str, Any]
) -> Iterator[tuple[Location, OriginError]]:
    for error in answer.get("Errors", ()):
        location = by_name.get((error.get("Key", ""), error.get("VersionId")))
        if location is not None and error.get("Code") not in ("NoSuchKey", "NoSuchVersion"):
            # Each says why, and none has a status of its own.
            answered = Answer(400, code=error.get("Code"), message=error.get("Message"))
            told = refusal(str(location), answered, action=_action(location))
            told.status = None
            yield location, told


def _about(location: Location, error: OriginError) -> OriginError:
    """The error of a whole batch, about one of its objects."""
    return type(error)(
        str(location),
        error.detail,
        remedy=error.remedy,
        attempts=error.attempts,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        retry_after=error.retry_after,
    )


def _action(location: Location) -> str:
    return "s3:DeleteObject" if location.version is None else "s3:DeleteObjectVersion"
