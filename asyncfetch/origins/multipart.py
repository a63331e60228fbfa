"""Uploads in parts: each is begun, and then completed, or aborted whatever happens.

See "Uploading and copying objects using multipart upload in Amazon S3" in its User Guide. Parts of an upload that is
neither are paid for until somebody finds them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from asyncfetch.errors import AsyncfetchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

    from asyncfetch.origins.requests import Requests
    from asyncfetch.uris import Location

logger = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

MAX_PARTS = 10_000  # "Amazon S3 multipart upload limits", as is that a part but the last has 5 MiB
MIN_PART = 5 << 20

# How long the end of a program waits for what was begun to be aborted, in seconds.
_PATIENCE = 10.0


class Uploads:
    """The uploads in parts that are under way, and those that are being aborted."""

    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask
        self._aborting: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def begun(self, location: Location, common: dict[str, Any], create: dict[str, Any]) -> AsyncIterator[str]:
        """Begins an upload and gives its id, for the length of its parts and of its completion.

        `common` is what each of its requests says, `create` what the first says beside. Where the body raises or is
        cancelled, the upload is aborted before that goes on, in 10 s or else behind its back.
        """
        beginning = asyncio.create_task(
            self._ask(location, "create_multipart_upload", common | create, action="s3:PutObject")
        )
        try:
            upload: str = (await asyncio.shield(beginning))["UploadId"]
        except asyncio.CancelledError:
            # Only the answer tells what is to be aborted.
            self._start(self._abort_unknown(location, common, beginning))
            raise
        try:
            yield upload
        except BaseException:
            aborting = self._start(self._abort(location, common, upload))
            await asyncio.wait({aborting}, timeout=_PATIENCE)
            raise

    async def complete(
        self, location: Location, request: dict[str, Any], upload: str, parts: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Makes an object of the parts, in one step. `request` is what it is to say beside, such as a condition."""
        request = request | {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        return await self._ask(location, "complete_multipart_upload", request, action="s3:PutObject")

    async def settle(self) -> None:
        """Waits for what is being aborted, 10 s at most, and leaves the rest."""
        if self._aborting:
            _, late = await asyncio.wait(self._aborting, timeout=_PATIENCE)
            for aborting in late:
                aborting.cancel()
            if late:
                await asyncio.wait(late)

    def _start(self, abort: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        aborting = asyncio.create_task(abort, name="asyncfetch: abort an upload")
        self._aborting.add(aborting)
        aborting.add_done_callback(self._aborting.discard)
        return aborting

    async def _abort_unknown(
        self, location: Location, common: dict[str, Any], beginning: asyncio.Task[dict[str, Any]]
    ) -> None:
        try:
            upload = (await beginning)["UploadId"]
        except AsyncfetchError:  # then there is nothing to abort
            return
        await self._abort(location, common, upload)

    async def _abort(self, location: Location, common: dict[str, Any], upload: str) -> None:
        try:
            await self._ask(
                location,
                "abort_multipart_upload",
                common | {"UploadId": upload},
                action="s3:AbortMultipartUpload",
            )
        except AsyncfetchError as error:
            if getattr(error, "code", None) != "NoSuchUpload":
                logger.warning(
                    "The parts of an upload to %s stay there, for it could not be aborted: %s A lifecycle rule with "
                    "AbortIncompleteMultipartUpload removes such.",
                    location,
                    error,
                )


def part_size(size: int, wanted: int) -> int:
    """How large the parts of an object are, so that S3 takes their size and their number."""
    part = max(wanted, MIN_PART)
    if part * MAX_PARTS < size:
        part = -(-size // MAX_PARTS)
        part += -part % (1 << 20)
    return part


async def in_parts(
    spans: Iterable[tuple[int, int]],
    slots: asyncio.Semaphore,
    prepare: Callable[[int, int], Awaitable[S]],
    send: Callable[[int, S], Awaitable[T]],
) -> list[T]:
    """Prepares parts one after another by start and size, sends them at once by number, and gives the results in order.

    Each holds a slot from before it is prepared until it is sent. The first that fails ends the others, and its
    exception is raised when they have ended.
    """
    sending: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for number, (start, size) in enumerate(spans, 1):
                await slots.acquire()
                try:
                    part = group.create_task(_one(send, number, await prepare(start, size)))
                except BaseException:
                    slots.release()
                    raise
                part.add_done_callback(partial(_release, slots))
                sending.append(part)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [part.result() for part in sending]


async def _one(send: Callable[[int, S], Awaitable[T]], number: int, part: S) -> T:
    return await send(number, part)


def _release(slots: asyncio.Semaphore, part: asyncio.Task[Any]) -> None:
    slots.release()


def spans_of(size: int, part: int) -> Iterable[tuple[int, int]]:
    """Where each part begins, and its size; an empty object is one empty part."""
    return ((start, min(part, size - start)) for start in range(0, max(size, 1), part))
