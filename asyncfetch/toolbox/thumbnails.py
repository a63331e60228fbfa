"""Thumbnails of all images under a prefix, and their metadata: made in the decode pool, written as they come."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from asyncfetch.decode.measuring import Making, unpack
from asyncfetch.errors import AccessDenied, AsyncfetchError, BucketNotFound, CredentialsError, StorageFull
from asyncfetch.jobs.download import FULL
from asyncfetch.objects import Failure, Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import ObjectStat
    from asyncfetch.toolbox.metadata import MetadataFile
    from asyncfetch.toolbox.targets import Target, Wish
    from asyncfetch.toolbox.wishes import Wishes, Work


class Told(NamedTuple):
    """What became of one original, as it is told while the job goes on.

    `word` is `"made"`, `"there"` (another job was quicker, or it was made before), `"measured"` or `"failed"`.
    """

    uri: str
    word: str
    target: str | None = None
    bytes: int = 0  # of the thumbnail
    failure: Failure | None = None


@dataclass(slots=True)
class Made:
    """What a run has done. `stopped` says in a sentence why it ended before its end, None when it did not."""

    made: int = 0
    made_bytes: int = 0
    there: int = 0
    measured: int = 0
    failed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def outcomes(self) -> int:
        """Originals that something became of."""
        return self.made + self.there + self.measured + self.failed


class Thumbnails:
    """Does what `wishes` hold. `stop` may be called from the loop at any time; what is in flight then is finished.

    `told` is called on the loop for every original. At most `NetworkPolicy.concurrency` thumbnails are being written at
    once, and no more wait in memory.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        wishes: Wishes,
        target: Target | None,
        making: Making,
        *,
        metadata: MetadataFile | None = None,
        told: Callable[[Told], None] | None = None,
    ) -> None:
        self.tally = Made()
        self._fetcher, self._wishes, self._target, self._making = fetcher, wishes, target, making
        self._metadata, self._told = metadata, told
        self._stopping = self._broken = False

    def stop(self, why: str) -> None:
        """Asks for no more originals. The first reason is the one that is told."""
        self._stopping = True
        if self.tally.stopped is None:
            self.tally.stopped = why

    async def run(self) -> Made:
        """Reads, makes and writes until all is done, or it is stopped.

        A problem that no other image would fare better with (credentials, the permission to write, a full disk) stops
        it, and is no image's failure. Cancelled, each thumbnail is there whole or not at all.
        """
        began = time.monotonic()
        lanes = self._fetcher.settings.network.concurrency
        room = asyncio.Semaphore(lanes)
        stream = self._fetcher.images(
            self._sources(),
            order="completion",
            on_error="yield",
            look_ahead=max(32, 2 * lanes),
            **self._making.options,
        )
        try:
            async with anyio.create_task_group() as writing, stream:
                async for item in stream:
                    if self._broken:
                        break
                    work: Work = item.payload
                    if isinstance(item, Failure):
                        await self._failed(work, item)
                        continue
                    measures, body = unpack(item.pixels)
                    if self._metadata is not None and work.measure:
                        await self._measured(self._metadata, item, measures)
                    if self._target is None or work.wish is None:
                        self._tell(Told(item.uri, "measured"))
                        continue
                    await room.acquire()
                    writing.start_soon(self._write, self._target, work.wish, body, item, room)
                    del item  # its memory is lent
        finally:
            self.tally.seconds = time.monotonic() - began
        return self.tally

    async def _sources(self) -> AsyncIterator[tuple[ObjectStat, Work]]:
        after = 0
        while page := await asyncio.to_thread(self._wishes.works, after):
            for number, work in page:
                if self._stopping:
                    return
                after = number
                yield work.listed, work

    async def _write(self, target: Target, wish: Wish, body: bytes, image: Image, room: asyncio.Semaphore) -> None:
        try:
            if self._broken:
                return
            made = await target.put(wish, body, image.entry.etag)
        except (AsyncfetchError, OSError) as error:
            if _is_its_own(error):
                self._tell(Told(wish.uri, "failed", wish.target, 0, _failure(wish.uri, image.index, error)))
            else:
                self._break(error)
        else:
            self._tell(Told(wish.uri, "made" if made else "there", wish.target, len(body)))
        finally:
            room.release()

    async def _measured(self, metadata: MetadataFile, image: Image, measures: dict[str, object]) -> None:
        entry = image.entry
        digest = await self._fetcher.digest(entry)
        line = {"uri": image.uri, "etag": entry.etag, "bytes": entry.size, "digest": digest, **measures}
        await self._add(metadata, line)

    async def _failed(self, work: Work, failure: Failure) -> None:
        error = failure.exception
        if not _is_its_own(error):
            self._break(error)
            return
        uri = work.listed.uri
        if self._metadata is not None:
            line = {"uri": uri, "etag": work.listed.etag, "bytes": work.listed.size}
            await self._add(self._metadata, line | {"error": type(error).__name__, "message": str(error)})
        self._tell(Told(uri, "failed", None, 0, _failure(uri, failure.index, error, failure.stage)))

    async def _add(self, metadata: MetadataFile, line: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(metadata.add, line)
        except OSError as error:
            self._break(StorageFull(f"{metadata.path}: {error.strerror}"))

    def _break(self, error: Exception) -> None:
        self._broken = True
        self.stop(str(error) or repr(error))

    def _tell(self, told: Told) -> None:
        tally = self.tally
        if told.failure is not None:
            tally.failed += 1
            tally.kinds[type(told.failure.exception).__name__] += 1
        elif told.word == "made":
            tally.made += 1
            tally.made_bytes += told.bytes
        elif told.word == "there":
            tally.there += 1
        else:
            tally.measured += 1
        if self._told is not None:
            self._told(told)


def _is_its_own(error: Exception) -> bool:
    """Whether a failure is that of its image, and others may fare better."""
    if isinstance(error, AccessDenied):
        return "s3:PutObject" not in str(error)
    if isinstance(error, OSError) and not isinstance(error, AsyncfetchError):
        return error.errno not in FULL
    return isinstance(error, AsyncfetchError) and not isinstance(error, CredentialsError | StorageFull | BucketNotFound)


def _failure(uri: str, index: int, error: Exception, stage: str = "write") -> Failure:
    return Failure(uri, index, None, stage, getattr(error, "attempts", 0), error)
